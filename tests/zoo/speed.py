"""How fast the scorers of the zoo are: the native executor against TensorFlow's kernels, item by item.

Both run the same export: the split scorer, once by its program and once by its functions, in turns.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

import nann.ops
from nann.export.item_rows import ItemRows
from nann.export.scorer import Scorer, choose_executor, freeze_scorer, split_scorer
from support.graphs import random_corpus
from zoo import ZOO, factory_of, item_side
from zoo.base import N

TILE_ROWS = 128  # As exports have it.
ITEMS = 32_768  # Of a request: so many that the call itself does not count.
ROUNDS = 9
_TABLE_BYTES = 2**32  # As exports have it.


@dataclass(frozen=True)
class Speed:
    """Of one member; the medians of rounds, and the spread of their ratios.

    flops:      of an item, after the split; an elementary function counts as 4 to 24.
    tensorflow: ns an item by TensorFlow's kernels.
    native:     the same by the native executor; None where it does not run the scorer.
    ratio:      the median of tensorflow / native in one round.
    """

    name: str
    flops: int
    tensorflow: float
    native: float | None
    ratio: float | None
    least_ratio: float | None
    largest_ratio: float | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def speed_of(name: str) -> Speed:
    """Measure a member, on as many threads as TensorFlow was told to use."""
    keras.backend.clear_session()
    model = factory_of(name)()
    embs, columns = item_side(model)
    rows = ItemRows(embs, columns)[:]
    traced = freeze_scorer(model, tile_rows=TILE_ROWS)
    split = split_scorer(traced, num_items=N, item_table_bytes=_TABLE_BYTES)
    with tempfile.TemporaryDirectory() as folder:
        tables = _write_tables(Path(folder), split, traced.item_tables[0], rows)
        native = choose_executor(split, "auto", tables)
        index = _index(Path(folder), tables)
        user = _user(model)
        runs = [_run(index, user, split), *([_run(index, user, native)] if native.program else [])]
        times = [[_seconds(run) for run in runs] for _ in range(ROUNDS + 1)][1:]  # The first round warms up.
    assert split.report is not None
    flops = split.report.flops_per_item.get("after", 0)
    by_runner = [1e9 / ITEMS * statistics.median(each) for each in zip(*times, strict=True)]
    if not native.program:
        return Speed(name.rpartition(":")[2], flops, by_runner[0], None, None, None, None)
    ratios = [tensorflow / ours for tensorflow, ours in times]
    return Speed(
        name.rpartition(":")[2], flops, *by_runner, statistics.median(ratios), min(ratios), max(ratios)
    )


def _write_tables(
    folder: Path, split: Scorer, base_table: str, rows: npt.NDArray[np.float32]
) -> dict[str, Path]:
    """The item tables of a scorer, as an export writes them."""
    tables = {base_table: rows}
    if split.item_function is not None:
        tiles = np.resize(rows, (-(-N // TILE_ROWS), TILE_ROWS, rows.shape[1]))
        tables["scorer"] = np.concatenate([split.item_function(tf.constant(tile)) for tile in tiles])[:N]
    for name, table in tables.items():
        np.save(folder / f"{name}.npy", table)
    return {name: folder / f"{name}.npy" for name in tables}


def _index(folder: Path, tables: dict[str, Path]) -> Any:
    graph = folder / "graph"
    graph.mkdir()
    files = random_corpus(1, num_items=N, degree=3, sparsity=0.0).write(graph)
    return nann.ops.IndexResource(**{**files, "item_tables": tables})


def _user(model: Any) -> list[tf.Tensor]:
    """The state of one user, [1, ...] each."""
    features = model.rows(model.draw(np.random.default_rng(17), 1))
    known = {name: tf.constant(features[name]) for name in model.user_features}
    state = model.embed_user(known)
    return [tf.cast(state[name], spec.dtype) for name, spec in model.user_state.items()]


def _run(index: Any, user: list[tf.Tensor], scorer: Scorer) -> Callable[[], Any]:
    """A request that scores `ITEMS` items, some of them more than once."""
    positions = np.random.default_rng(3).integers(N, size=(1, ITEMS)).astype(np.int32)
    options = scorer.scoring_options()
    function = tf.function(lambda: nann.ops.score_items(index, user, positions, **options), autograph=False)
    return lambda: function().numpy()


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """`PYTHONPATH=tests python -m zoo.speed [NAME ...]`: one JSON object per member, of one thread."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in sys.argv[1:] or ZOO:
        print(speed_of(name).to_json(), flush=True)


if __name__ == "__main__":
    main()
