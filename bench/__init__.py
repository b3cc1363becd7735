"""Benchmarks: `load` (latency under load), `peers` (other libraries) and `table` (docs/performance.md).

The modules of this folder are shared by the three packages. Importing a package imports nothing heavy; the
first use of one of its names does.
"""
