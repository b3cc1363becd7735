"""Load generator, peers and the table of docs/performance.md."""
