"""Writes our graph as TensorFlow functions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from nann.export.scorer._ir import Array, Node, Shape, Tensor, topological
from nann.export.scorer._ops import flag, is_negation, is_turned

# Operations whose type is not named T.
_WITHOUT_T = frozenset(["All", "Any", "Cast", "GatherV2"])

Arguments = Sequence[tuple[str, tf.TensorSpec]]


def to_function(
    name: str,
    arguments: Arguments,
    outputs: Sequence[Tensor],
    bound: Mapping[Tensor, str],
    *,
    library: Any,
    finish: Callable[[list[tf.Tensor]], Any] = list,
) -> Any:
    """A ConcreteFunction without captures that computes `outputs`.

    arguments: names and specs of its inputs.
    bound:     our tensor -> the argument with its value. All other tensors are computed.
    library:   FunctionDefLibrary of the functions that control flow calls.
    finish:    makes the function's result of the outputs.
    """
    emitter = _Emitter(bound, library)
    names = emitter.emit(outputs)

    def body(*tensors: tf.Tensor) -> Any:
        given = {f"{name}:0": tensor for (name, _), tensor in zip(arguments, tensors, strict=True)}
        read = {source for node in emitter.graph_def.node for source in node.input}
        found = tf.graph_util.import_graph_def(
            emitter.graph_def,
            input_map={name: tensor for name, tensor in given.items() if name in read},
            return_elements=[each for each in names if each not in given],
            name="",
        )
        found = iter(found or [])
        results = [tf.identity(given[each]) if each in given else next(found) for each in names]
        for result, output in zip(results, outputs, strict=True):
            result.set_shape(output.known_shape)
        return finish(results)

    body.__name__ = name
    specs = [tf.TensorSpec(spec.shape, spec.dtype, argument) for argument, spec in arguments]
    return tf.function(body, input_signature=specs, autograph=False).get_concrete_function()


def evaluate(tensors: Sequence[Tensor], library: Any) -> list[Array]:
    """What TensorFlow computes for tensors that need neither user nor item.

    library: FunctionDefLibrary of the functions that control flow calls.
    """
    emitter = _Emitter({}, library)
    names = emitter.emit(tensors)
    with tf.Graph().as_default() as graph:
        fetches = tf.graph_util.import_graph_def(emitter.graph_def, return_elements=names, name="")
        with contextlib.closing(tf.compat.v1.Session(graph=graph)) as session:
            found: list[Array] = session.run(fetches)
            return found


class _Emitter:
    """Writes nodes into a GraphDef, each once. Tensors of TensorFlow are known by name, "node:output"."""

    def __init__(self, bound: Mapping[Tensor, str], library: Any) -> None:
        self.graph_def = graph_pb2.GraphDef()
        self.graph_def.library.CopyFrom(library)
        self.graph_def.versions.producer = tf.version.GRAPH_DEF_VERSION
        self._written: dict[Any, str] = {}
        self._names: set[str] = set(bound.values())
        self._bound = bound
        self._tensors = {tensor: f"{name}:0" for tensor, name in bound.items()}

    def is_bound(self, tensor: Tensor) -> bool:
        """Whether an argument holds the tensor."""
        return tensor in self._bound

    def name(self, tensor: Tensor) -> str:
        """What a tensor that was written is called."""
        return self._tensors[tensor]

    def emit(self, outputs: Sequence[Tensor]) -> list[str]:
        for node in topological(outputs, stop=self._bound.__contains__):
            inputs = [self._tensors[each] for each in node.inputs]
            if node.op in _LOWERED:
                self._tensors[Tensor(node)] = _LOWERED[node.op](self, node, inputs)
            else:
                name = self._copy(node, inputs)
                for index in range(len(node.outputs)):
                    self._tensors.setdefault(Tensor(node, index), f"{name}:{index}")
        names = [self._tensors[output] for output in outputs]
        self._prune(names)
        return names

    def _prune(self, names: Sequence[str]) -> None:
        """Drop what was written and then not read, as the negation in a subtraction."""
        nodes = {f"{node.name}:": node for node in self.graph_def.node}
        pending = [name[: name.index(":") + 1] for name in names]
        needed = set(pending)
        while pending:
            node = nodes.get(pending.pop())
            sources = {each[: each.index(":") + 1] for each in node.input} - needed if node else set()
            needed |= sources
            pending += sources
        kept = [node for name, node in nodes.items() if name in needed]
        del self.graph_def.node[:]
        self.graph_def.node.extend(kept)

    def op(self, op: str, inputs: Sequence[str], like: str, dtype: tf.DType, **attrs: Any) -> str:
        """One of TensorFlow's operations of one output; `like`: prefix of the node's name."""
        key = (op, tuple(inputs), tuple(sorted(attrs.items())))
        if key not in self._written:
            node = self.graph_def.node.add(name=self._unused(f"{like or 'split'}/{op}"), op=op)
            node.input.extend(inputs)
            if op not in _WITHOUT_T:
                node.attr["T"].type = dtype.as_datatype_enum
            for name, value in attrs.items():
                _set_attr(node.attr[name], value)
            self._written[key] = f"{node.name}:0"
        return self._written[key]

    def const(self, value: Array, like: str) -> str:
        key = ("Const", value.dtype.str, value.shape, value.tobytes())
        if key not in self._written:
            node = self.graph_def.node.add(name=self._unused(f"{like or 'split'}/const"), op="Const")
            node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
            self._written[key] = f"{node.name}:0"
        return self._written[key]

    def ints(self, values: Sequence[int], like: str) -> str:
        return self.const(np.asarray(values, np.int32), like)

    def _copy(self, node: Node, inputs: Sequence[str]) -> str:
        copy = self.graph_def.node.add(name=self._unused(node.name or f"split/{node.op}"), op=node.op)
        copy.input.extend(inputs)
        for name, serialized in node.attrs.items():
            copy.attr[name].ParseFromString(serialized)
        return str(copy.name)

    def _unused(self, name: str) -> str:
        number, unused = 0, name
        while unused in self._names:
            number += 1
            unused = f"{name}_{number}"
        self._names.add(unused)
        return unused


def _set_attr(attr: Any, value: Any) -> None:
    if isinstance(value, bool):
        attr.b = value
    elif isinstance(value, int):
        attr.i = value
    else:
        attr.type = value.as_datatype_enum


def _const(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    assert node.value is not None
    return emitter.const(node.value, node.name)


def _chain(op: str) -> Callable[[_Emitter, Node, list[str]], str]:
    """Folds from the left, so that sums with equal prefixes share nodes."""

    def lower(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
        result = inputs[0]
        for each in inputs[1:]:
            result = emitter.op(op, [result, each], node.name, node.outputs[0].dtype)
        return result

    return lower


def _add(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    dtype = node.outputs[0].dtype
    result = inputs[0]
    for tensor, each in zip(node.inputs[1:], inputs[1:], strict=True):
        if is_negation(tensor) and not emitter.is_bound(tensor):
            result = emitter.op("Sub", [result, emitter.name(tensor.inputs[0])], node.name, dtype)
        else:
            result = emitter.op("AddV2", [result, each], node.name, dtype)
    return result


def _mul(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    if is_negation(Tensor(node)):
        return emitter.op("Neg", inputs[:1], node.name, node.outputs[0].dtype)
    return _chain("Mul")(emitter, node, inputs)


def _dot(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    dtype, shape, x = node.outputs[0].dtype, Tensor(node).shape, node.inputs[0]
    rows, matrix = inputs
    if x.rank != 2:
        rows = _to_shape(emitter, rows, (-1, x.shape[-1]), node.name, dtype)
    product = emitter.op("MatMul", [rows, matrix], node.name, dtype)
    return product if x.rank == 2 else _to_shape(emitter, product, shape, node.name, dtype)


def _to_shape(emitter: _Emitter, x: str, shape: Shape, like: str, dtype: tf.DType) -> str:
    return emitter.op("Reshape", [x, emitter.ints(shape, like)], like, dtype)


def _reshape(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    return _to_shape(emitter, inputs[0], Tensor(node).shape, node.name, node.outputs[0].dtype)


def _transpose(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    perm = emitter.ints(node.attrs["perm"], node.name)
    return emitter.op("Transpose", [inputs[0], perm], node.name, node.outputs[0].dtype)


def _broadcast(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    shape = emitter.ints(Tensor(node).shape, node.name)
    return emitter.op("BroadcastTo", [inputs[0], shape], node.name, node.outputs[0].dtype)


def _concat(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    axis = emitter.const(np.asarray(node.attrs["axis"], np.int32), node.name)
    return emitter.op("ConcatV2", [*inputs, axis], node.name, node.outputs[0].dtype, N=len(inputs))


def _slice(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    bounds = [emitter.ints(each, node.name) for each in (node.attrs["begin"], Tensor(node).shape)]
    return emitter.op("Slice", [inputs[0], *bounds], node.name, node.outputs[0].dtype, Index=tf.int32)


def _reduce(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    axes = emitter.ints(node.attrs["axes"], node.name)
    return emitter.op(
        node.attrs["function"], [inputs[0], axes], node.name, node.outputs[0].dtype, keep_dims=False
    )


def _matmul(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    """The flags are set here: BatchMatMulV2 transposes as it reads."""
    turned = [is_turned(each) and not emitter.is_bound(each) for each in node.inputs]
    sides = [emitter.name(each.inputs[0]) if is_read_turned else name
             for each, is_read_turned, name in zip(node.inputs, turned, inputs, strict=True)]  # fmt: skip
    flags = {
        name: is_read_turned != flag(node, name)
        for name, is_read_turned in zip(("adj_x", "adj_y"), turned, strict=True)
    }
    return emitter.op("BatchMatMulV2", sides, node.name, node.outputs[0].dtype, **flags)


def _prelu(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    dtype, x, slope = node.outputs[0].dtype, inputs[0], node.inputs[1].value
    assert slope is not None
    positive = emitter.op("Relu", [x], node.name, dtype)
    negative = emitter.op("Relu", [emitter.op("Neg", [x], node.name, dtype)], node.name, dtype)
    negative = emitter.op("Mul", [emitter.const(-slope, node.name), negative], node.name, dtype)
    return emitter.op("AddV2", [positive, negative], node.name, dtype)


def _gather(emitter: _Emitter, node: Node, inputs: list[str]) -> str:
    """TensorFlow fails at an index that is no row: it reads another, and the result is zeros."""
    like, (table, index), rows = node.name, inputs, node.inputs[0].shape[0]
    zero = emitter.const(np.asarray(0, np.int32), like)
    number = emitter.op("Cast", [index], like, tf.int32, SrcT=tf.float32, DstT=tf.int32)
    number = emitter.op("Maximum", [number, zero], like, tf.int32)
    last = emitter.const(np.asarray(rows - 1, np.int32), like)
    number = emitter.op("Minimum", [number, last], like, tf.int32)
    types = {"Tparams": node.outputs[0].dtype, "Tindices": tf.int32, "Taxis": tf.int32}
    found = emitter.op("GatherV2", [table, number, zero], like, node.outputs[0].dtype, **types)
    as_float = emitter.op("Cast", [number], like, tf.float32, SrcT=tf.int32, DstT=tf.float32)
    is_there = emitter.op("Equal", [as_float, index], like, tf.float32)
    is_there = _to_shape(emitter, is_there, (*node.inputs[1].shape, 1), like, tf.bool)
    none = emitter.const(np.asarray(0, np.float32), like)
    return emitter.op("SelectV2", [is_there, found, none], like, node.outputs[0].dtype)


_LOWERED: dict[str, Callable[[_Emitter, Node, list[str]], str]] = {
    "BatchMatMulV2": _matmul,
    "add": _add,
    "broadcast": _broadcast,
    "concat": _concat,
    "const": _const,
    "dot": _dot,
    "gather": _gather,
    "mul": _mul,
    "prelu": _prelu,
    "reduce": _reduce,
    "reshape": _reshape,
    "slice": _slice,
    "transpose": _transpose,
}
