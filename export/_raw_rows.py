"""Integers that `embed_user` uses as rows of a table as they are sent: a vocabulary may be forgotten."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.export.graph_defs import node_name
from nann.run import VOCABULARY

# Operations whose result has the values of their first input, or is as far from them as ids are from rows.
_OF_FIRST = {
    "Abs", "Cast", "ClipByValue", "EnsureShape", "ExpandDims", "Identity", "Pad", "PadV2", "Relu", "Reshape",
    "ReverseV2", "Slice", "Squeeze", "StopGradient", "StridedSlice", "Transpose",
}  # fmt: skip
_OF_ANY = {"AddV2", "ConcatV2", "Maximum", "Minimum", "Pack", "Sub"}
_OF_BRANCHES = {"Select", "SelectV2"}  # their first input is a condition
# What lies between a table and its gather.
_READS = {"Cast", "Identity", "ReadVariableOp"}

RawRows = dict[str, dict[str, int]]


def raw_rows(graph_def: Any, features: Mapping[str, str], tables: Mapping[str, tuple[str, Any]]) -> RawRows:
    """The tables that each feature's values are rows of: feature -> name of the table -> its number of rows.

    graph_def: `embed_user` with the functions that it calls inlined.
    features:  name of each feature -> its placeholder.
    tables:    placeholder of what is captured -> (name, tf.Variable or tensor).

    A feature that is looked up, hashed or bucketized first is not among them.
    """
    graph = _Graph(graph_def, tables)
    found = {name: dict(graph.tables_read(placeholder)) for name, placeholder in features.items()}
    return {name: each for name, each in found.items() if each}


def row_warnings(
    rows: Mapping[str, Mapping[str, int]],
    raw_integers: Sequence[str],
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    ids: npt.NDArray[np.int64],
    *,
    run_dir: Path,
    features: Collection[str],
) -> list[str]:
    """What an export says of features whose rows may be another item's.

    ids:      int64 [N] of the items.
    features: of users and of items.
    """
    return [
        *raw_id_warnings(rows, raw_integers, ids),
        *short_vocabulary_warnings(rows, vocabularies, ids),
        *(misnamed_vocabulary_warnings(run_dir, features, raw_integers) if raw_integers else ()),
    ]


def misnamed_vocabulary_warnings(
    run_dir: Path, features: Collection[str], raw_integers: Sequence[str]
) -> list[str]:
    """A sentence on each vocabulary of no feature: its name may be misspelled.

    raw_integers: features that have none.
    """
    known, lacking = ", ".join(sorted(features)), ", ".join(raw_integers)
    return [
        f"RUN/vocabulary/{path.name} is named after no feature of the model ({known}). Without a vocabulary "
        f"are: {lacking}. Give the file the feature's name, or delete it."
        for path in sorted((run_dir / VOCABULARY).glob("*.npy"))
        if path.stem not in features
    ]


def raw_id_warnings(
    rows: Mapping[str, Mapping[str, int]], raw_integers: Sequence[str], ids: npt.NDArray[np.int64]
) -> list[str]:
    """A sentence on each feature without a vocabulary whose values are rows of a table as long as the corpus.

    ids: int64 [N] of the items. Ids that are all rows of the table may be rows: then nothing is said.
    """
    least, largest, texts = int(ids.min()), int(ids.max()), []
    for feature in raw_integers:
        for table, size in rows.get(feature, {}).items():
            if size < len(ids) or (least >= 0 and largest < size):
                continue
            wrong = int(np.count_nonzero((ids >= 0) & (ids < size)))
            texts.append(
                f"{feature}: its values are rows of {table} ({size:,} rows) as they are sent, for "
                f"RUN/vocabulary has no file of it. Item ids go from {least:,} to {largest:,}: if {feature} "
                f"holds item ids, {wrong:,} of {len(ids):,} are taken for another item's row, the others "
                f"have none. Write RUN/vocabulary/{feature}.npy, or put a lookup layer before the embedding."
            )
    return texts


def short_vocabulary_warnings(
    rows: Mapping[str, Mapping[str, int]],
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    ids: npt.NDArray[np.int64],
) -> list[str]:
    """A sentence on each vocabulary of items that lacks some, where the table has rows for them.

    ids: int64 [N] of the items. A table may have rows to spare: then its vocabulary has every item.
    """
    texts = []
    for feature, vocabulary in vocabularies.items():
        missing = np.setdiff1d(ids, vocabulary)
        for table, size in rows.get(feature, {}).items():
            spare = size - 1 - len(vocabulary)
            if not 0 < len(missing) <= spare or 2 * len(missing) > len(ids):
                continue
            texts.append(
                f"{feature}: RUN/vocabulary/{feature}.npy has {len(vocabulary):,} ids, which are rows 1 to "
                f"{len(vocabulary):,} of {table} ({size:,} rows). It lacks {len(missing):,} of {len(ids):,} "
                f"items, such as {int(missing[0])}: if training knew them, greater ids are taken for another "
                f"item's row. Write the vocabulary that the model was trained with."
            )
    return texts


class _Graph:
    def __init__(self, graph_def: Any, tables: Mapping[str, tuple[str, Any]]) -> None:
        self._nodes = {node.name: node for node in graph_def.node}
        self._captured = tables
        self._consumers: dict[str, list[tuple[Any, int]]] = {}
        for node in graph_def.node:
            for position, source in enumerate(node.input):
                self._consumers.setdefault(node_name(source), []).append((node, position))

    def tables_read(self, placeholder: str) -> Iterator[tuple[str, int]]:
        """(name, rows) of the tables that the values of a placeholder are rows of."""
        pending, seen = [placeholder], {placeholder}
        while pending:
            for node, position in self._consumers.get(pending.pop(), []):
                table = self._table_of(node, position)
                if table is not None:
                    yield table
                elif node.name not in seen and _keeps_values(node.op, position):
                    seen.add(node.name)
                    pending.append(node.name)

    def _table_of(self, node: Any, position: int) -> tuple[str, int] | None:
        """The table of a gather by its indices, or the width of a one-hot code."""
        if node.op == "OneHot" and position == 0:
            depth = self._constant(node.input[1])
            return None if depth is None else ("a one-hot code", int(depth))
        if node.op not in ("GatherV2", "ResourceGather") or position != 1:
            return None
        source = self._source(node.input[0])
        if source.name in self._captured:
            name, table = self._captured[source.name]
            return (name.split(":")[0], table.shape[0]) if table.shape.rank and table.shape[0] else None
        values = self._constant(source.name)
        return None if values is None or not values.ndim else (source.name, len(values))

    def _source(self, name: str) -> Any:
        node = self._nodes[node_name(name)]
        while node.op in _READS:
            node = self._nodes[node_name(node.input[0])]
        return node

    def _constant(self, name: str) -> npt.NDArray[Any] | None:
        import tensorflow as tf

        node = self._source(name)
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None


def _keeps_values(op: str, position: int) -> bool:
    if op in _OF_FIRST:
        return position == 0
    return op in _OF_ANY or (op in _OF_BRANCHES and position > 0)
