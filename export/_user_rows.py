"""Operations whose result has a row for each user, of which TensorFlow's shapes do not tell.

They count, look up or cross: what layers of Keras that preprocess features are made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import tensorflow as tf

SHAPES = "_output_shapes"  # by which a graph brings its shapes when it is imported
# Which operand has as many rows as the result.
_ROWS_OF = {"DenseBincount": 0, "LookupTableFindV2": 1}


def lacks_its_row(operation: Any) -> bool:
    """Whether a result's number of rows is unknown in a graph of one user, and is one."""
    read = _with_as_many_rows(operation)
    if read is None or not read.shape.rank or read.shape[0] != 1:
        return False
    shape = operation.outputs[0].shape
    return bool(shape.rank) and shape[0] is None


def say_one_row(graph_def: Any, operations: Iterable[Any]) -> None:
    """Write into the graph that each of these results has one row."""
    named = {each.name: each for each in operations}
    for node in graph_def.node:
        if node.name in named:
            shapes = _bring_shape(node, named[node.name])
            shapes[0].dim[0].size = 1


def bring_shapes(graph_def: Any, operations: Iterable[Any]) -> None:
    """Let a graph bring the shapes of these operations when it is imported.

    `set_shape`, by which layers of Keras and lookups say a shape, is no operation of the graph.
    """
    named = {each.name: each for each in operations}
    for node in graph_def.node:
        if node.name in named and node.op == named[node.name].type:
            _bring_shape(node, named[node.name])


def _bring_shape(node: Any, operation: Any) -> Any:
    shapes = tf.compat.v1.AttrValue()
    shapes.list.shape.extend(each.shape.as_proto() for each in operation.outputs)
    node.attr[SHAPES].CopyFrom(shapes)
    return node.attr[SHAPES].list.shape


def _with_as_many_rows(operation: Any) -> Any:
    if operation.type == "SparseToDense":
        crossed = operation.inputs[1].op
        return _first_crossed(crossed) if crossed.type == "SparseCross" else None
    if operation.type == "RaggedTensorToTensor":
        return _text_that_is_split(operation)
    place = _ROWS_OF.get(operation.type)
    if place is None or (operation.type == "DenseBincount" and operation.inputs[place].shape.rank != 2):
        return None  # Of a vector there is one count, not one for each row.
    return operation.inputs[place]


def _first_crossed(operation: Any) -> Any:
    """What a cross of dense features reads first; None if there are sparse ones."""
    return None if operation.get_attr("N") else operation.inputs[0]


def _text_that_is_split(operation: Any) -> Any:
    """The texts [B] of whose words a ragged tensor [B, words] is; None if it is another one."""
    pending, seen, texts = [each.op for each in operation.inputs[3:]], set[str](), list[Any]()
    while pending:
        each = pending.pop()
        if each.type == "StringSplitV2":
            texts.append(each.inputs[0])
        elif each.name not in seen:
            seen.add(each.name)
            pending += [x.op for x in each.inputs]
    is_of_two_axes = operation.outputs[0].shape.rank == 2
    return texts[0] if is_of_two_axes and len({each.name for each in texts}) == 1 else None
