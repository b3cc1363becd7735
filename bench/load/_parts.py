"""Where a request's time goes, by the counters of the op library.

The ops count with `tensorflow::monitoring`. An op reads the counters of this process; a server shows them on
its Prometheus page. Every counter `/nann/PART_micros` is the time of a part.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from nann.errors import NannError

Counters = dict[str, int]
_PREFIX, _TIME, _SEARCHES = "/nann/", "_micros", "/nann/searches"
# TensorFlow Serving writes `/nann/searches` as `:nann:searches`.
_LINE = re.compile(r"^:?nann[:_](\w+)(?:\{.*\})? (\d+)(?:\.0)?(?: \d+)?$", re.MULTILINE)


def counters_of_this_process() -> Counters:
    """Values of the op library's counters in this process."""
    import nann.ops

    return {name: int(value) for name, value in nann.ops.metrics().items()}


def counters_of_server(url: str) -> Counters:
    """The counters on a Prometheus page."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            text = page.read().decode()
    except (OSError, ValueError) as error:
        raise NannError(
            f"{url}: expected a Prometheus page, found: {error}. Start TensorFlow Serving with "
            "--monitoring_config_file, or leave out --metrics-url."
        ) from error
    return {f"{_PREFIX}{name}": int(value) for name, value in _LINE.findall(text)}


def no_counters() -> Counters:
    """The counters of a server without such a page."""
    return {}


ReadCounters = Callable[[], Counters]


def parts(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    """The difference of two readings.

    Returns "counters" (differences) and "micros_a_search" (part -> thread time per search; the tiles of a
    search run on several threads, so that the sum may exceed the latency).
    """
    difference = {name: value - before.get(name, 0) for name, value in after.items()}
    searches = difference.get(_SEARCHES, 0)
    times = {
        name.removeprefix(_PREFIX).removesuffix(_TIME): value / searches
        for name, value in difference.items()
        if name.endswith(_TIME) and searches
    }
    return {"counters": difference, "micros_a_search": times}
