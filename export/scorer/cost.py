"""What a scorer is expected to take, for those outside of this package."""

from __future__ import annotations

from nann.export.scorer._cost import NS_PER_BYTE, NS_PER_FLOP


def microseconds_per_item(flops: float, gathered_bytes: float) -> float:
    """Of the native executor on one core: `microseconds_per_item(40_000, 1_500)` is 0.92."""
    return round((flops * NS_PER_FLOP + gathered_bytes * NS_PER_BYTE) / 1000, 3)
