"""What the operations of a traced function may not be: Python, random numbers, changes of state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from nann.errors import InvalidInputError

_PYTHON = {"EagerPyFunc", "PyFunc", "PyFuncStateless"}
_RANDOM = ("Random", "StatelessRandom", "StatefulUniform", "StatefulStandardNormal", "Multinomial",
           "TruncatedNormal", "ParameterizedTruncatedNormal", "StatelessTruncatedNormal")  # fmt: skip
_WRITES = ("Assign", "ResourceScatter", "ResourceApply")


def check_operations(function: Any, *, what: str) -> None:
    """Raise InvalidInputError where a traced function needs Python or writes state.

    Random numbers without state pass: whether results depend on them, trying shows.

    what: how messages call the function, for example "score".
    """
    nodes = list(_all_nodes(function.graph.as_graph_def()))
    for node in nodes:
        if node.op in _PYTHON:
            raise InvalidInputError(
                f"{what}: expected TensorFlow operations only, found a call of Python ({node.name}: "
                f"tf.py_function or tf.numpy_function), which no server can run. Write it in TensorFlow."
            )
    random = next((node.name for node in nodes if node.op.startswith(_RANDOM)), None)
    writes = next((node for node in nodes if node.op.startswith(_WRITES)), None)
    trains = any(_is_batch_norm_in_training(node) for node in nodes)
    if random is not None and writes is not None:
        raise InvalidInputError(
            f"{what}: expected the same result for the same inputs, found random numbers ({random}), as "
            f"dropout or noise in training mode draws them. Call the layers with training=False."
        )
    if writes is not None or trains:
        name = "" if writes is None else writes.name
        norm = trains or re.search("batch_?norm|moving", name, re.IGNORECASE)
        kind = "batch normalization in training mode" if norm else "a change of a variable's state"
        raise InvalidInputError(
            f"{what}: expected a function without state, found {kind} ({name or 'FusedBatchNorm'}). Call "
            f"layers with training=False, and assign no variable."
        )


def _is_batch_norm_in_training(node: Any) -> bool:
    """Whether moments are those of the batch; with channels first they are those of Keras 2's layer norm."""
    is_training = node.op.startswith("FusedBatchNorm") and node.attr["is_training"].b
    return bool(is_training and node.attr["data_format"].s != b"NCHW")


def _all_nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def
