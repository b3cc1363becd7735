"""The graph of `embed_user`, cut in two: what TensorFlow looks up for a batch, and what encodes one user.

Everything here is of one graph, whose calls are written out. Its operations have the same names for a batch
of one user, by which shapes are known, and for any batch.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from nann.export._user_rows import lacks_its_row, say_one_row
from nann.export._user_side import imported, inlined, own_inputs
from nann.export.constants import MAX_CONSTANT_BYTES, captured
from nann.export.graph_defs import is_read, keep_inputs
from nann.export.known_shapes import become_constant, is_of_known_shape
from nann.export.replaced import MAY_BE_STATELESS, library_of
from nann.export.scorer import PROGRAM_TYPES, effects_of_operation

# What computes nothing: TensorFlow may as well do it.
_MOVES = frozenset(
    ["Cast", "Const", "EnsureShape", "ExpandDims", "Identity", "ReadVariableOp", "Reshape", "Squeeze"]
)
# What takes most of the time.
_PRODUCTS = frozenset(
    ["BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv2D", "Einsum", "MatMul", "While"]
)


@dataclass(frozen=True)
class Cut:
    """Where a graph is cut.

    leaves: tensors that TensorFlow computes and the encoder reads: a row for each user.
    checks: names of operations that TensorFlow runs before it hands the leaves over, such as assertions.
    """

    leaves: tuple[Any, ...]
    checks: tuple[str, ...]


class UserGraph:
    """The graph, and which of its operations are TensorFlow's. Those grow by `leave_to_tensorflow`.

    left_out: the names of assertions and prints of what TensorFlow would have to encode a user for.
    """

    def __init__(self, function: Any) -> None:
        """`function`: ConcreteFunction (features [B, ...]..., handle of the index) -> state [B, ...]."""
        self._function = function
        self._graph_def = inlined(function)
        self._graph_of_one = graph_pb2.GraphDef()
        self._graph_of_one.CopyFrom(self._graph_def)
        self._one, self._any = self._traced_for_one(), self._traced(None)
        self._operations = _in_order(each.op for each in self._one.outputs)
        weights = _weights(self._one)
        seeds = {each.name for each in self._operations if _is_tensorflows(each, weights)}
        # What is computed of weights and constants alone can be on both sides of a cut.
        self._fixed: set[str] = set()
        for each in self._operations:
            if each.name not in seeds and all(read.name in self._fixed for read in _computed_from(each)):
                self._fixed.add(each.name)
        # A program has no errors: what fails for a user's numbers stays where that does not keep the encoder.
        checks = self._checks()
        self._late = frozenset(name for name in checks if self._is_encoded_before(name))
        self.left_out = tuple(each for name in sorted(self._late) for each in checks[name])
        seeds = (seeds | checks.keys()) - self._late
        self._operations = _in_order((each.op for each in self._one.outputs), without=self._late)
        seeds |= {each.name for each in self._operations if self._looks_up(each)}
        seeds |= self._numbers_of_integers()
        self._tensorflows: set[str] = set()
        self._leave(each for each in self._operations if each.name in seeds)

    def cut(self) -> Cut | None:
        """Return the cut that leaves TensorFlow the least; None if nothing is left for the encoder."""
        while True:
            encoder = [each for each in self._operations if self._is_encoders(each)]
            if not self._is_worth_it(encoder):
                return None
            reads = [each for each in encoder if not is_of_known_shape(each)]
            read = [x for each in reads for x in each.inputs]
            leaves = [x for x in (*read, *self._one.outputs) if x.op.name in self._tensorflows]
            wrong = {x.name for x in leaves if not self._is_row(x)}
            if not wrong:
                break
            readers = [each for each in reads if any(x.name in wrong for x in each.inputs)]
            if not readers:  # A tensor of the state is one.
                return None
            self._leave(readers)
        waits = {each.name: each for one in encoder for each in one.control_inputs}
        checks = [name for name, each in waits.items() if name in self._tensorflows and _has_effects(each)]
        return Cut(tuple({each.name: each for each in leaves}.values()), tuple(sorted(checks)))

    def leave_to_tensorflow(self, names: Iterable[str]) -> bool:
        """Leave the first of these operations that is the encoder's to TensorFlow; return whether one is."""
        encoder = {each.name: each for each in self._operations if self._is_encoders(each)}
        found = next((encoder[name] for name in names if name in encoder), None)
        if found is None or found.name in self._fixed:
            return False
        self._leave([found, *self._alike(found)])
        return True

    def lookups(self, cut: Cut) -> Any:
        """Return the ConcreteFunction (features [B, ...]..., handle of the index) -> leaves [B, ...]."""
        return self._traced(None, outputs=cut.leaves, checks=cut.checks)

    def encoder(self, cut: Cut) -> Any:
        """Return the ConcreteFunction (leaves of one user, without batch...) -> state without batch."""
        specs = [
            tf.TensorSpec(each.shape[1:], each.dtype, f"user_{at}") for at, each in enumerate(cut.leaves)
        ]
        graph_def = self._of_one_user()
        states = self._one.outputs

        def encode(*tensors: Any) -> list[tf.Tensor]:
            # Names that no operation of the model has: by them it is told which the program does not know.
            with tf.name_scope("nann_batch"):
                batch = [tensor[tf.newaxis] for tensor in tensors]
            given = dict(zip(_names(cut.leaves), batch, strict=True))
            found = imported(self._function, graph_def, given, _names(self._function.outputs))
            with tf.name_scope("nann_state"):
                shaped = [
                    tf.ensure_shape(each, state.shape) for each, state in zip(found, states, strict=True)
                ]
                return [each[0] for each in shaped]

        return tf.function(encode, input_signature=specs, autograph=False).get_concrete_function()

    def _is_worth_it(self, encoder: Iterable[Any]) -> bool:
        """Whether the encoder computes something, and TensorFlow not all of the products."""
        here = {each.type for each in encoder if each.name not in self._fixed}
        there = {each.type for each in self._operations if each.name in self._tensorflows}
        return bool(here - _MOVES) and (bool(here & _PRODUCTS) or not there & _PRODUCTS)

    def _is_encoders(self, operation: Any) -> bool:
        return operation.name not in self._tensorflows

    def _leave(self, operations: Iterable[Any]) -> None:
        """Leave operations, and all that they are computed from, to TensorFlow."""
        pending = list(operations)
        while pending:
            operation = pending.pop()
            if operation.name not in self._tensorflows and operation.name not in self._fixed:
                self._tensorflows.add(operation.name)
                pending += _read_by(operation, without=self._late)

    def _checks(self) -> dict[str, tuple[str, ...]]:
        """The operations that are there for their effects -> the names of these."""
        library = library_of(self._one)
        read = {x.op.name for each in self._operations for x in each.inputs}
        found = {
            each.name: tuple(effects_of_operation(each, library))
            for each in self._operations
            if each.name not in read or each.type not in MAY_BE_STATELESS
        }
        return {name: effects for name, effects in found.items() if effects}

    def _is_encoded_before(self, name: str) -> bool:
        """Whether an operation needs products of what a user brings."""
        before = _in_order([self._one.graph.get_operation_by_name(name)])
        return any(each.type in _PRODUCTS and each.name not in self._fixed for each in before)

    def _alike(self, operation: Any) -> list[Any]:
        """Others of its kind that read integers: they would be left one by one, each by an attempt."""
        dtypes = [each.dtype for each in operation.inputs]
        if any(dtype.is_floating for dtype in dtypes):
            return []
        known, found = self._tensorflows | self._fixed, []
        for each in self._operations:
            if not all(x.op.name in known for x in each.inputs):
                continue
            if each.type == operation.type and [x.dtype for x in each.inputs] == dtypes:
                found.append(each)
            if each.type in _MOVES:
                known.add(each.name)
        return found

    def _looks_up(self, operation: Any) -> bool:
        """Whether it gathers rows of weights by what a user brings."""
        if operation.type not in ("GatherNd", "GatherV2"):
            return False
        table, indices = operation.inputs[:2]
        return table.op.name in self._fixed and indices.op.name not in self._fixed

    def _numbers_of_integers(self) -> set[str]:
        """What makes floats of a user's integers, which may be beyond 2^24: casts, one-hots."""
        integers, floats = set[str](), set[str]()
        for each in self._operations:
            brought = [x for x in each.inputs if x.op.name not in self._fixed]
            if each.name in self._fixed or any(x.dtype.is_floating for x in brought):
                continue
            reads = [read.name for read in _read_by(each) if read.name not in self._fixed]
            if all(name in integers for name in reads):
                of_integers = any(x.dtype.is_integer for x in brought)
                has_floats = any(x.dtype.is_floating for x in each.outputs)
                (floats if has_floats and of_integers else integers).add(each.name)
        return floats

    def _is_row(self, tensor: Any) -> bool:
        """Whether any batch has one of it for each user, of a type that a program reads."""
        if (
            tensor.dtype not in PROGRAM_TYPES
            or not tensor.shape.is_fully_defined()
            or tensor.shape[:1] != [1]
        ):
            return False
        of_batch = self._any.graph.get_tensor_by_name(tensor.name)
        return bool(of_batch.shape.as_list() == [None, *tensor.shape[1:]]) if of_batch.shape.rank else False

    def _traced_for_one(self) -> Any:
        """The graph for a batch of one user."""
        while True:
            one = self._traced(1)
            lacking = [each for each in one.graph.get_operations() if lacks_its_row(each)]
            if not lacking:
                return one
            # What reads them may be next.
            say_one_row(self._graph_of_one, lacking)

    def _traced(self, batch: int | None, outputs: Sequence[Any] = (), checks: Sequence[str] = ()) -> Any:
        """The graph for a batch of so many users: (features..., handle) -> `outputs`, or the state."""
        inputs = own_inputs(self._function)
        specs = [
            tf.TensorSpec([batch, *each.shape[1:]] if each.shape.rank else [], each.dtype, each.op.name)
            for each in inputs
        ]
        names = _names(outputs or self._function.outputs)

        def run(*tensors: Any) -> list[tf.Tensor]:
            given = dict(zip(_names(inputs), tensors, strict=True))
            graph_def = self._graph_of_one if batch == 1 else self._graph_def
            return imported(self._function, graph_def, given, names, checks)

        return tf.function(run, input_signature=specs, autograph=False).get_concrete_function()

    def _of_one_user(self) -> Any:
        """The graph with shapes of one user as constants; nothing waits, for nothing has effects."""
        operations = {each.name: each for each in self._one.graph.get_operations()}
        of_one = graph_pb2.GraphDef()
        of_one.CopyFrom(self._graph_of_one)
        for node in of_one.node:
            keep_inputs(node, is_read)
            operation = operations.get(node.name)
            if operation is not None and is_of_known_shape(operation):
                become_constant(node, operation)
        return of_one


def _read_by(operation: Any, *, without: Container[str] = ()) -> list[Any]:
    """The operations that an operation waits for.

    without: names of those that need not have run.
    """
    if is_of_known_shape(operation):
        return []
    waits = [each for each in operation.control_inputs if each.name not in without]
    return [*waits, *(each.op for each in operation.inputs)]


def _computed_from(operation: Any) -> list[Any]:
    """The operations whose results an operation reads; all that it waits for where it has no result.

    In a function that is called, constants wait for what the call waits for.
    """
    if not operation.outputs or is_of_known_shape(operation):
        return _read_by(operation)
    return [each.op for each in operation.inputs]


def _in_order(operations: Iterable[Any], *, without: Container[str] = ()) -> list[Any]:
    """Operations and those that they need, those first that others need. without: as of `_read_by`."""
    ordered, seen, pending = [], set[str](), [(each, False) for each in operations]
    while pending:
        operation, done = pending.pop()
        if done:
            ordered.append(operation)
        elif operation.name not in seen:
            seen.add(operation.name)
            pending.append((operation, True))
            pending += [(each, False) for each in _read_by(operation, without=without)]
    return ordered


def _has_effects(operation: Any) -> bool:
    """Whether anything happens when an operation is run, such as an assertion."""
    silent = ("Placeholder", "ReadVariableOp")
    return any(each.op_def.is_stateful and each.type not in silent for each in _in_order([operation]))


def _weights(function: Any) -> frozenset[str]:
    """The placeholders of what a function captures and may become constants of a program."""
    sources = zip(captured(function), function.graph.captures, strict=True)
    return frozenset(
        inside.op.name
        for (_, source), (_, inside) in sources
        if source.dtype not in (tf.resource, tf.variant)
        and source.shape.num_elements() * source.dtype.size <= MAX_CONSTANT_BYTES
    )


def _is_tensorflows(operation: Any, weights: frozenset[str]) -> bool:
    """Whether TensorFlow has to run an operation, whatever computes what it reads."""
    if operation.type == "Placeholder":
        return operation.name not in weights
    if operation.type == "ReadVariableOp":
        return _origin(operation.inputs[0]) not in weights
    reads_resource = any(x.dtype == tf.resource and _origin(x) not in weights for x in operation.inputs)
    has_text = any(x.dtype == tf.string for x in [*operation.inputs, *operation.outputs])
    is_stateful = operation.op_def.is_stateful and operation.type not in MAY_BE_STATELESS
    return operation.type == "ResourceGather" or reads_resource or has_text or is_stateful


def _origin(handle: Any) -> str:
    """What a handle is of: calls that are written out hand it on by identities."""
    while handle.op.type == "Identity":
        handle = handle.op.inputs[0]
    return str(handle.op.name)


def _names(tensors: Iterable[Any]) -> list[str]:
    return [each.name for each in tensors]
