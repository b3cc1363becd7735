"""Lookup tables of integers as constants of a frozen function: of IntegerLookup and `tf.lookup`.

A table is a resource of the process that made it. What it holds does not change: its keys in order, and a
binary search among them, need no resource and may run for each item.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.replaced import function_of, replaced

_KEYS = (tf.int32, tf.int64)
_VALUES = (tf.int32, tf.int64, tf.float32)
_FIND, _SIZE = "LookupTableFindV2", "LookupTableSizeV2"

# The keys of a table in ascending order, and their values: tensors.
Table = tuple[Any, Any]


def tables_of_integers(function: Any, handles: Mapping[str, Any]) -> dict[str, Table]:
    """The lookup tables that a frozen function only looks integers up in, by the name of its input.

    handles: of the resources that it reads, by the same names.
    """
    found = {}
    for name, handle in handles.items():
        readers = list(_readers(function, name))
        finds = [each for each in readers if each.type == _FIND]
        if finds and all(each.type == _SIZE or _is_of_integers(each) for each in readers):
            contents = _contents(handle, finds[0])
            if contents is not None:
                found[name] = contents
    return found


def _is_of_integers(reader: Any) -> bool:
    is_find = reader.type == _FIND
    return is_find and reader.get_attr("Tin") in _KEYS and reader.get_attr("Tout") in _VALUES


def _contents(handle: Any, find: Any) -> Table | None:
    """None where a key is a vector."""
    keys, values = tf.raw_ops.LookupTableExportV2(
        table_handle=handle, Tkeys=find.get_attr("Tin"), Tvalues=find.get_attr("Tout")
    )
    if keys.shape[1:].num_elements() != 1:
        return None
    # A `DenseHashTable` lists its free places too: all with one key, which nothing may be looked up by.
    found, first, times = np.unique(keys.numpy().reshape(-1), return_index=True, return_counts=True)
    kept = tf.gather(values, first[times == 1])
    return tf.constant(found[times == 1]), tf.reshape(kept, [-1, *find.inputs[2].shape])


def without_tables(function: Any, tables: Mapping[str, Table]) -> Any:
    """A frozen function that searches constants in place of these tables; `function` where there are none."""
    for name, table in tables.items():
        while (operation := next(_readers(function, name), None)) is not None:
            function = replaced(function, (operation, functools.partial(_results, table)))
    if not tables:
        return function
    inputs = [each for each in function.inputs if each.name not in tables]
    return function_of(function.graph.as_graph_def(), inputs, function.outputs)


def _readers(function: Any, name: str) -> Iterator[Any]:
    """What reads an input of a function, also where a call that was written out passed it on."""
    pending = [each for each in function.inputs if each.name == name]
    while pending:
        for reader in pending.pop().consumers():
            if reader.type == "Identity":
                pending += reader.outputs
            else:
                yield reader


def _results(table: Table, inputs: Any, _: Any) -> list[Any]:
    """inputs: those of a lookup, or of the question for the size, which has the table alone.

    A table of `tf.lookup.experimental` may have a vector for each key: the default has its shape.
    """
    keys, values = (np.asarray(each) for each in table)  # Constants of the function: tensors are captured.
    if len(inputs) == 1:
        return [tf.constant(len(keys), tf.int64)]
    _, wanted, default = inputs
    if not len(keys):
        return [tf.broadcast_to(default, tf.concat([tf.shape(wanted), tf.shape(default)], axis=0))]
    place = tf.minimum(tf.searchsorted(keys, tf.reshape(wanted, [-1])), len(keys) - 1)
    place = tf.reshape(place, tf.shape(wanted))
    is_key = tf.equal(tf.gather(keys, place), wanted)
    for _ in values.shape[1:]:
        is_key = is_key[..., tf.newaxis]
    return [tf.where(is_key, tf.gather(values, place), default)]
