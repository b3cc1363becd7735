"""Where a request's time goes, as the op library counts it.

The ops count through `tensorflow::monitoring`: this process reads them by an op, a server shows them on its
Prometheus page. Every counter `/nann/PART_micros` is a part; a library that counts no times gives no parts.
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
    """Values of the op library's counters."""
    import nann.ops

    return {name: int(value) for name, value in nann.ops.metrics().items()}


def counters_of_server(url: str) -> Counters:
    """The counters on a Prometheus page."""
    try:
        with urllib.request.urlopen(url, timeout=10) as page:
            text = page.read().decode()
    except (OSError, ValueError) as error:
        raise NannError(
            f"{url}: expected a Prometheus page, found: {error}. With TensorFlow Serving, start it with "
            "--monitoring_config_file; or leave out --metrics-url."
        ) from error
    return {f"{_PREFIX}{name}": int(value) for name, value in _LINE.findall(text)}


def no_counters() -> Counters:
    """Of a server without a page of them."""
    return {}


ReadCounters = Callable[[], Counters]


def parts(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    """What was counted between two readings.

    Returns "counters" (differences) and "micros_a_search" (part -> thread time of one search: tiles of one
    search run on several threads, so their sum may be more than the latency).
    """
    difference = {name: value - before.get(name, 0) for name, value in after.items()}
    searches = difference.get(_SEARCHES, 0)
    times = {
        name.removeprefix(_PREFIX).removesuffix(_TIME): value / searches
        for name, value in difference.items()
        if name.endswith(_TIME) and searches
    }
    return {"counters": difference, "micros_a_search": times}
