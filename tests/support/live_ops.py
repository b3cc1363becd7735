"""Loading and searching an index that follows segments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import nann.ops
from support.graphs import DIM, random_corpus
from support.live_case import LiveCase
from support.proxy_cases import SCORER, TILE_ROWS, proxy_of

BEAMS = np.array([3, 6, 6, 6, 6, 5], np.int32)


def search(index: Any, users: Any, level_topn: Any = BEAMS, exclude_ids: Any = None, **options: Any) -> Any:
    return nann.ops.beam_search(
        index, [users], level_topn, exclude_ids, scorer=SCORER, tile_rows=TILE_ROWS, **options
    )


def make_case(folder: str | Path, seed: int, *, num_items: int = 60, proxy: bool = False) -> LiveCase:
    rng = np.random.default_rng(seed)
    corpus = random_corpus(seed, num_items=num_items)
    options = {"survey": 2, "slack": 1.0}
    tables = proxy_of(corpus, rng, good=0.5, **options) if proxy else None
    return LiveCase(corpus, Path(folder), rng, capacity=num_items, proxy=tables)


def wait_for(condition: Callable[[], bool], *, ticks_seconds: float = 0.01) -> None:
    """Returns when the condition holds; the test's own timeout is the limit."""
    ticks = threading.Event()
    while not condition():
        ticks.wait(ticks_seconds)


def wait_for_segment(index: Any, number: int) -> None:
    wait_for(lambda: applied(index) == number)


def applied(index: Any) -> int:
    return int(search(index, np.zeros((1, DIM), np.float32)).applied_segment[0])
