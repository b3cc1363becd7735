"""From a frozen function to our graph: every operation that has a form of ours takes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from nann.export.replaced import MAY_BE_STATELESS
from nann.export.scorer import _ops
from nann.export.scorer._any_order import sorted_in_any_order
from nann.export.scorer._control_flow import without_control_flow
from nann.export.scorer._dispatch import without_dispatch
from nann.export.scorer._effects import PASSED_ON, without_effects
from nann.export.scorer._emit import evaluate
from nann.export.scorer._forms import FORMS
from nann.export.scorer._import_complex import complex_form, is_complex
from nann.export.scorer._import_lists import LISTS
from nann.export.scorer._import_open import OpenReading, rule_of
from nann.export.scorer._import_open_slices import SLICES
from nann.export.scorer._import_ops import Found, Reading, plain_arithmetic
from nann.export.scorer._import_scans import SEGMENTS
from nann.export.scorer._ir import (
    Needs,
    Node,
    NotSplittableError,
    Shape,
    Spec,
    Tensor,
    constant,
    make,
    name_new,
    source,
    topological,
)
from nann.export.scorer._open_axes import Opened
from nann.export.scorer._ops import cast
from nann.export.scorer._raw_features import left_as_it_is
from nann.export.scorer._rewrite import substitute
from nann.export.scorer._shapes import inferred_shapes

_LOOPS = {"Enter", "Exit", "LoopCond", "Merge", "NextIteration", "Switch"}
# Their forms know the shape where TensorFlow's own rules do not.
_FIND_THEIR_SHAPE = frozenset([*LISTS, *SEGMENTS, "DenseBincount"])
# Their results are as long as their operands' values make them.
_SIZED_BY_VALUES = frozenset(["BroadcastGradientArgs", "ListDiff", "Unique", "UniqueV2", "Where"])
_NARROW = (tf.float16, tf.bfloat16)
# What rounds to few values: the types, and operations that do it within a type.
_QUANTIZED = frozenset(["float8_e4m3fn", "float8_e5m2", "int8", "uint8"])
_QUANTIZE = frozenset(
    [
        "FakeQuantWithMinMaxArgs", "FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel",
        "QuantizeAndDequantize", "QuantizeAndDequantizeV2", "QuantizeAndDequantizeV3",
        "QuantizeAndDequantizeV4",
    ]
)  # fmt: skip


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
    function = without_control_flow(without_effects(function), tile_rows=function.inputs[-1].shape[0])
    function = sorted_in_any_order(without_dispatch(function))
    found = _read(function, follows_open_axes=False)
    if _has_open_items(found.output):
        with contextlib.suppress(NotSplittableError):
            return _read(function, follows_open_axes=True)
    return found


def _has_open_items(output: Tensor) -> bool:
    """Whether items meet a tensor of which only a request knows the shape."""
    return any(
        node.needs & Needs.ITEM and any(each.known_shape is None for each in (*node.inputs, Tensor(node)))
        for node in topological([output])
    )


def _read(function: Any, *, follows_open_axes: bool) -> ScorerGraph:
    graph = function.graph
    library = graph.as_graph_def().library
    operations = _needed([function.outputs[0].op])
    _check_stateless(operations, library)
    reader = _Reader(
        widen=not any(map(_keeps_types, operations)),
        left=left_as_it_is(operations, function.inputs[-1].op.name),
        library=library,
        follows_open_axes=follows_open_axes,
    )
    user = tuple(reader.source(each, Needs.USER) for each in function.inputs[:-1])
    item = reader.source(function.inputs[-1], Needs.ITEM)
    sizes = dict.fromkeys((Needs.NOTHING, Needs.USER, Needs.ITEM, Needs.USER | Needs.ITEM), 0)
    for operation in operations:
        if operation.type == "Placeholder" or not operation.outputs:
            continue
        outputs = reader.read(operation)
        if operation.type != "Const":
            sizes[outputs[0].needs] += 1
    return ScorerGraph(
        output=reader.tensors[function.outputs[0].name], user=user, item=item, library=library, sizes=sizes
    )


def read_encoder(
    function: Any, *, integers_are_places: bool = False
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Read a frozen function of one user's tensors: its inputs and its outputs.

    integers_are_places: read what follows from integers as a scorer does, which knows rows `hist[n]` at them.

    Raises NotSplittableError.
    """
    function = sorted_in_any_order(without_control_flow(without_effects(function)))
    library = function.graph.as_graph_def().library
    operations = _needed([each.op for each in function.outputs])
    _check_stateless(operations, library)
    reader = _Reader(
        widen=not any(map(_keeps_types, operations)), left=left_as_it_is(operations, ""), library=library
    )
    # As of items, of which more operations have forms: a scorer leaves those of its user to TensorFlow.
    inputs = tuple(
        reader.source(
            each, Needs.USER if integers_are_places and each.dtype.is_integer else Needs.USER | Needs.ITEM
        )
        for each in function.inputs
    )
    for operation in operations:
        if operation.type != "Placeholder" and operation.outputs:
            reader.read(operation)
    of_user = {each: source(each.node.name, each.node.outputs[0], Needs.USER) for each in inputs}
    outputs = (substitute(reader.tensors[each.name], of_user) for each in function.outputs)
    return tuple(of_user.values()), tuple(outputs)


def _needed(outputs: Iterable[Any]) -> list[Any]:
    """The operations that `outputs` need, by data or control, in an order in which they can run."""
    ordered, seen, pending = [], set(), [(output, False) for output in outputs]
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
        may_be_stateless = node.op in MAY_BE_STATELESS or node.op in PASSED_ON
        if op_def is not None and op_def.is_stateful and not may_be_stateless:
            raise NotSplittableError(f"it has state, randomness or side effects: {node.name} ({node.op})")
        for attr in node.attr.values():
            for name in [attr.func.name, *(each.name for each in attr.list.func)]:
                if name in functions and name not in called:
                    called.add(name)
                    pending += functions[name].node_def


class _Reader:
    """Reads operations in an order in which they can run.

    widen:   whether what is computed in float16 or bfloat16 is read as float32, nearer to what is meant.
    left:    names of arithmetic operations that are not taken apart.
    library: FunctionDefLibrary of the functions that operations call.
    follows_open_axes: read what has axes as long as the user makes them as all that there may be.
    """

    def __init__(
        self, *, widen: bool, left: frozenset[str], library: Any, follows_open_axes: bool = False
    ) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._open: dict[str, Opened] = {}
        self._follows_open_axes = follows_open_axes
        self._widen = widen
        self._left = left
        self._library = library

    def source(self, placeholder: Any, needs: Needs) -> Tensor:
        found = source(placeholder.op.name, _spec(placeholder), needs)
        self.tensors[placeholder.name] = found if self._widened(found.dtype) == found.dtype else cast(found)
        return found

    def read(self, operation: Any) -> list[Tensor]:
        inputs = [self.tensors[tensor.name] for tensor in operation.inputs]
        if self._follows_open_axes and (found := self._read_open(operation, inputs)) is not None:
            return [found]
        if _quantizes(operation, inputs):
            raise NotSplittableError(
                f"it is quantized: {operation.name} ({operation.type}) rounds to steps so large that the "
                f"order of a sum before it shows"
            )
        specs = [_spec(tensor) for tensor in operation.outputs]
        if any(spec.shape is None for spec in specs) and _may_be_inferred(operation, inputs):
            shapes = inferred_shapes(operation, inputs)
            specs = [Spec(spec.dtype, shape) for spec, shape in zip(specs, shapes, strict=True)]
        specs = [Spec(self._widened(spec.dtype), spec.shape) for spec in specs]
        reading = Reading(operation, tuple(inputs), tuple(specs))
        if operation.type == "Const":
            value = tf.make_ndarray(operation.get_attr("value"))
            outputs = [
                constant(value.astype(np.float32) if specs[0] != _spec(operation.outputs[0]) else value)
            ]
        else:
            outputs = _without_elements(reading) or self._read_known(reading)
            outputs = [_empty(Spec(tensor.dtype, tensor.known_shape)) or tensor for tensor in outputs]
        outputs = [name_new(tensor, operation.name) for tensor in outputs]
        self.tensors.update(zip((each.name for each in operation.outputs), outputs, strict=True))
        return outputs

    def _read_open(self, operation: Any, inputs: Sequence[Tensor]) -> Tensor | None:
        """All that there may be of a result with open axes, or of operands that have some; None of others."""
        names = [each.name for each in operation.inputs]
        specs = tuple(Spec(self._widened(each.dtype), each.shape) for each in map(_spec, operation.outputs))
        has_open = any(name in self._open for name in names)
        if not has_open and (not inputs or all(each.shape is not None for each in specs)):
            return None
        rule = SLICES.get(operation.type) or rule_of(operation.type)
        operands = tuple(self._open.get(n) or Opened(x) for n, x in zip(names, inputs, strict=True))
        is_known = rule is not None and all(each.full.known_shape is not None for each in operands)
        found = None
        if rule is not None and is_known:
            found = rule(OpenReading(Reading(operation, tuple(inputs), specs), operands, self._read_known))
        if found is None and has_open:
            raise NotSplittableError(f"{operation.name} ({operation.type}) has an axis that a user decides")
        if found is None:
            return None
        self.tensors[operation.outputs[0].name] = name_new(found.full, operation.name)
        if found.axes:
            self._open[operation.outputs[0].name] = found
        return found.full

    def _read_known(self, reading: Reading) -> list[Tensor]:
        outputs = _in_our_form(reading, reading.operation.name in self._left) or self._as_it_is(reading)
        return _folded(outputs, self._library)

    def _as_it_is(self, reading: Reading) -> list[Tensor]:
        node_def = reading.operation.node_def
        attrs = {
            name: self._with_types(attr).SerializeToString(deterministic=True)
            for name, attr in node_def.attr.items()
            if not name.startswith("_")
        }
        node = make(reading.operation.type, reading.inputs, reading.specs, attrs)
        return [Tensor(node, index) for index in range(len(reading.specs))]

    def _with_types(self, attr: Any) -> Any:
        changed = type(attr).FromString(attr.SerializeToString())
        if attr.type:
            changed.type = self._widened(tf.as_dtype(attr.type)).as_datatype_enum
        return changed

    def _widened(self, dtype: tf.DType) -> tf.DType:
        return tf.float32 if self._widen and dtype in _NARROW else dtype


def _without_elements(reading: Reading) -> list[Tensor] | None:
    """The results, where none has elements; None where one does."""
    found = [_empty(each) for each in reading.specs]
    empty = [each for each in found if each is not None]
    return empty if len(empty) == len(found) else None


def _empty(spec: Spec) -> Tensor | None:
    """A tensor without elements, as `events[i - 1 : i]` before the first event, is a constant."""
    if spec.shape is None or 0 not in spec.shape or not _is_array(spec.dtype):
        return None
    return constant(np.zeros(spec.shape, spec.dtype.as_numpy_dtype))


def _is_array(dtype: tf.DType) -> bool:
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_bool)


def _in_our_form(reading: Reading, is_left: bool) -> list[Tensor] | None:
    """None where there is none, or where a shape is open. is_left: arithmetic that is not taken apart."""
    is_open = any(each.shape is None for each in reading.specs[:1])
    if is_open and reading.operation.type not in _FIND_THEIR_SHAPE:
        return None
    if any(each.known_shape is None for each in reading.inputs):
        return None
    if is_left and any(each.value is None for each in reading.inputs):
        plain = plain_arithmetic(reading)
        return None if plain is None else [plain]
    found = complex_form(reading, _read_real) if is_complex(reading) else _read_real(reading)
    return [found] if isinstance(found, Tensor) else found


def _read_real(reading: Reading) -> Found:
    read = FORMS.get(reading.operation.type)
    return None if read is None else read(reading)


def _quantizes(operation: Any, inputs: Sequence[Tensor]) -> bool:
    """Whether it rounds to few values, as layers do after `layer.quantize`; item state is whole as it is."""
    if operation.type in _QUANTIZE:
        return True
    if operation.type != "Cast" or operation.outputs[0].dtype.name not in _QUANTIZED:
        return False
    (x,) = inputs
    while x.op in ("reshape", "slice"):
        x = x.inputs[0]
    return x.dtype.is_floating and x.op not in ("const", "source")


def _may_be_inferred(operation: Any, inputs: Iterable[Tensor]) -> bool:
    """Whether an operation's operands may tell its shape: functions and lists are read by themselves."""
    is_known = all(each.known_shape is not None and each.dtype != tf.variant for each in inputs)
    return is_known and not _calls_functions(operation.node_def)


def _keeps_types(operation: Any) -> bool:
    """Whether what an operation does is only right for the types that it was traced with."""
    return operation.type == "Bitcast" or _calls_functions(operation.node_def)


def _folded(outputs: list[Tensor], library: Any) -> list[Tensor]:
    """Constants as such, where a form of ours computes one by TensorFlow's operations."""
    computed = all(each.needs == Needs.NOTHING and each.op[0].isupper() for each in outputs)
    if not computed or not all(_may_be_folded(each.node) for each in outputs):
        return outputs
    return [constant(value) for value in evaluate(outputs, library)]


def _may_be_folded(node: Node) -> bool:
    """Constants of a size that is known, or that follows from the values of small ones."""
    if node.op in _SIZED_BY_VALUES:
        return _is_small(spec for each in node.inputs for spec in each.node.outputs)
    return _is_small(node.outputs)


def _is_small(specs: Iterable[Spec]) -> bool:
    return all(
        spec.shape is not None
        and spec.dtype not in (tf.resource, tf.variant)
        and tf.TensorShape(spec.shape).num_elements() * spec.dtype.size <= _ops.MAX_FOLDED_BYTES
        for spec in specs
    )


def _calls_functions(node_def: Any) -> bool:
    attrs = node_def.attr.values()
    return any(attr.HasField("func") or attr.list.func for attr in attrs)


def _spec(tensor: Any) -> Spec:
    shape: Shape | None = None
    if tensor.shape.is_fully_defined():
        shape = tuple(tensor.shape.as_list())
    return Spec(tensor.dtype, shape)
