"""From a frozen function to our graph: every operation that has a form of ours takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from nann.errors import NannError
from nann.export.scorer import _ops
from nann.export.scorer._emit import evaluate
from nann.export.scorer._import_ops import IMPORTS, Reading
from nann.export.scorer._inline import without_compiled_calls
from nann.export.scorer._ir import Needs, Shape, Spec, Tensor, constant, make, name_new, source

_LOOPS = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}
_MAY_BE_STATELESS = {"Case", "If", "PartitionedCall", "StatefulPartitionedCall", "While"}


class NotSplittableError(NannError):
    """The graph holds what must not be moved or run another number of times; the message says what."""


@dataclass(frozen=True)
class ScorerGraph:
    """A scorer as it was traced.

    output: float32 [tile_rows].
    sizes:  nodes of the TensorFlow graph by what they are computed from, without sources and constants.
    """

    output: Tensor
    user: tuple[Tensor, ...]
    item: Tensor
    library: Any
    sizes: Mapping[Needs, int]

    @property
    def tile_rows(self) -> int:
        return self.item.shape[0]


def read_scorer(function: Any) -> ScorerGraph:
    """Read a frozen scorer: (tensors of one user..., item tile) -> scores. Raises NotSplittableError."""
    function = without_compiled_calls(function)
    graph = function.graph
    library = graph.as_graph_def().library
    operations = _needed(function.outputs[0].op)
    _check_stateless(operations, library)
    tensors: dict[str, Tensor] = {}
    for number, placeholder in enumerate(function.inputs):
        needs = Needs.ITEM if number == len(function.inputs) - 1 else Needs.USER
        tensors[placeholder.name] = source(placeholder.op.name, _spec(placeholder), needs)
    sizes = dict.fromkeys((Needs.NOTHING, Needs.USER, Needs.ITEM, Needs.USER | Needs.ITEM), 0)
    for operation in operations:
        if operation.type == "Placeholder" or not operation.outputs:
            continue
        outputs = _imported(operation, [tensors[tensor.name] for tensor in operation.inputs])
        tensors.update(zip((each.name for each in operation.outputs), outputs, strict=True))
        if operation.type != "Const":
            sizes[outputs[0].needs] += 1
    user, item = function.inputs[:-1], function.inputs[-1]
    return ScorerGraph(
        output=tensors[function.outputs[0].name],
        user=tuple(tensors[each.name] for each in user),
        item=tensors[item.name],
        library=library,
        sizes=sizes,
    )


def _needed(output: Any) -> list[Any]:
    """The operations that `output` needs, by data or control, in an order in which they can run."""
    ordered, seen, pending = [], set(), [(output, False)]
    while pending:
        operation, done = pending.pop()
        if done:
            ordered.append(operation)
        elif operation.name not in seen:
            if operation.type in _LOOPS:
                raise NotSplittableError(f"it has a loop of TensorFlow 1 ({operation.name})")
            seen.add(operation.name)
            pending.append((operation, True))
            before = [*operation.control_inputs, *(tensor.op for tensor in operation.inputs)]
            pending += [(each, False) for each in before]
    return ordered


def _check_stateless(operations: Iterable[Any], library: Any) -> None:
    functions = {function.signature.name: function for function in library.function}
    pending = [operation.node_def for operation in operations]
    called: set[str] = set()
    while pending:
        node = pending.pop()
        op_def = op_def_registry.get(node.op)
        if op_def is not None and op_def.is_stateful and node.op not in {*_MAY_BE_STATELESS, "Placeholder"}:
            raise NotSplittableError(f"it has state, randomness or side effects: {node.name} ({node.op})")
        for attr in node.attr.values():
            for name in [attr.func.name, *(each.name for each in attr.list.func)]:
                if name in functions and name not in called:
                    called.add(name)
                    pending += functions[name].node_def


def _imported(operation: Any, inputs: list[Tensor]) -> list[Tensor]:
    specs = tuple(_spec(tensor) for tensor in operation.outputs)
    reading = Reading(operation, tuple(inputs), specs)
    if operation.type == "Const":
        outputs = [constant(tf.make_ndarray(operation.get_attr("value")))]
    else:
        outputs = _in_our_form(reading) or _as_it_is(reading)
    return [name_new(tensor, operation.name) for tensor in outputs]


def _in_our_form(reading: Reading) -> list[Tensor] | None:
    """None where there is none, or where a shape is open."""
    read = IMPORTS.get(reading.operation.type)
    if read is None or any(each.known_shape is None for each in reading.inputs):
        return None
    if reading.specs[0].shape is None:
        return None
    found = read(reading)
    return [found] if isinstance(found, Tensor) else found


def _as_it_is(reading: Reading) -> list[Tensor]:
    attrs = {
        name: reading.operation.node_def.attr[name].SerializeToString(deterministic=True)
        for name in reading.operation.node_def.attr
        if not name.startswith("_")
    }
    node = make(reading.operation.type, reading.inputs, reading.specs, attrs)
    outputs = [Tensor(node, index) for index in range(len(reading.specs))]
    if node.needs == Needs.NOTHING and _is_small(node.outputs) and not _calls_functions(reading.operation):
        return [constant(value) for value in evaluate(outputs)]
    return outputs


def _is_small(specs: Iterable[Spec]) -> bool:
    return all(
        spec.shape is not None
        and tf.TensorShape(spec.shape).num_elements() * spec.dtype.size <= _ops.MAX_FOLDED_BYTES
        for spec in specs
    )


def _calls_functions(operation: Any) -> bool:
    attrs = operation.node_def.attr.values()
    return any(attr.HasField("func") or attr.list.func for attr in attrs)


def _spec(tensor: Any) -> Spec:
    shape: Shape | None = None
    if tensor.shape.is_fully_defined():
        shape = tuple(tensor.shape.as_list())
    return Spec(tensor.dtype, shape)
