"""Latencies as HDR histograms: constant memory, three significant digits, mergeable across processes."""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

# An hour: longer than any request waits.
_MOST_MICROS = 3_600_000_000
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


class Latencies:
    """Latencies, recorded in seconds. Not thread-safe."""

    def __init__(self, *, digits: int = 3) -> None:
        self._histogram: Any = HdrHistogram(1, _MOST_MICROS, digits)

    def record(self, seconds: float) -> None:
        """Add one latency; more than an hour counts as an hour."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), _MOST_MICROS))

    def merge(self, encoded: bytes) -> None:
        """Add the latencies that another object has encoded."""
        self._histogram.decode_and_add(encoded)

    def encode(self) -> bytes:
        """The counts in HdrHistogram's own compressed format, V2, base64."""
        return bytes(self._histogram.encode())

    @property
    def count(self) -> int:
        """Number of recorded latencies."""
        return int(self._histogram.total_count)

    def milliseconds(self, percentile: float) -> float:
        """The latency in ms that `percentile` percent do not exceed; 0 when nothing was recorded."""
        return self._histogram.get_value_at_percentile(percentile) / 1e3 if self.count else 0.0

    def summary(self) -> dict[str, Any]:
        """Percentiles, mean and maximum in ms, and the encoded histogram, as a JSON object."""
        names = {f"p{percentile:g}_ms": self.milliseconds(percentile) for percentile in PERCENTILES}
        mean = self._histogram.get_mean_value() / 1e3 if self.count else 0.0
        return {
            "count": self.count,
            **names,
            "mean_ms": mean,
            "max_ms": self.milliseconds(100.0),
            "hdr_histogram": self.encode().decode("ascii"),
        }
