"""The ground that lowering rules stand on: values as matrices, and tensors computed on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import tensorflow as tf

from nann.errors import NannError
from nann.export.scorer import _ops
from nann.export.scorer._ir import Needs, OpenShapeError, Spec, Tensor, Uses, constant, count_uses, source
from nann.export.scorer._program import Opcode, ProgramWriter, Shape
from nann.export.scorer._rewrite import substitute
from nann.export.scorer._whole_numbers import with_bounds_of

# Truth values and whole numbers are floats in a program (docs/scorer-program.md).
PROGRAM_TYPES = (tf.float32, tf.float16, tf.bfloat16, tf.bool, tf.int32, tf.int64)

# What a tensor whose first axis is not the items has gone through.
_ITEMS_MOVED = {
    "concat": "a concatenation along another axis than the columns",
    "reduce": "a reduction over another axis than the columns",
    "reshape": "a reshape that mixes rows and columns",
    "slice": "a slice that is not one of whole rows' columns",
    "transpose": "a transpose that moves the items",
}


class NotLowerableError(NannError):
    """The native executor cannot compute a node; the message names it and says what.

    tensor: what cannot be computed.
    """

    def __init__(self, message: str, tensor: Tensor) -> None:
        super().__init__(message)
        self.tensor = tensor


@dataclass(frozen=True)
class ScorerIr:
    """A scorer as a graph.

    output: scores of a tile, computed from `user` and `tables`, and so from `state` and `tables`.
    state:  the user's tensors as requests bring them.
    user:   what the user function makes of them; `state` where there is none.
    tables: tiles of the item tables.
    """

    output: Tensor
    state: tuple[Tensor, ...]
    user: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]

    @property
    def tile_rows(self) -> int:
        return self.tables[0].shape[0]

    def after_user_function(self) -> ScorerIr:
        """The scorer that takes the user function's results as they are."""
        results = tuple(
            source(f"user_{number}", Spec(each.dtype, each.known_shape), Needs.USER)
            for number, each in enumerate(self.user)
        )
        known = [with_bounds_of(each, result) for each, result in zip(self.user, results, strict=True)]
        output = substitute(self.output, dict(zip(self.user, known, strict=True)))
        return ScorerIr(output, results, results, self.tables)


@dataclass(frozen=True)
class Step:
    """How a tensor is computed: from the values of `operands`, by instructions that `emit` writes."""

    operands: Sequence[Tensor]
    emit: Callable[[Sequence[int]], int]


def refuse(tensor: Tensor, what: str) -> NoReturn:
    """Raise NotLowerableError for the node of `tensor`."""
    op = tensor.op.capitalize() if tensor.op.islower() else tensor.op
    raise NotLowerableError(f"node {tensor.node.name or '...'} ({op}): {what}", tensor)


def refuse_moved_items(tensor: Tensor) -> NoReturn:
    """Raise NotLowerableError: the first axis of `tensor` is not the items."""
    refuse(tensor, _ITEMS_MOVED.get(tensor.op, "a tensor whose first axis is not the items"))


class Lowering:
    """One program that grows. Values are matrices [rows, columns]; TensorFlow's other axes end here.

    rule:     how a tensor is computed that is neither an input nor a row of a table.
    computed: inputs that TensorFlow computes of a tile: side by side, the rows of a table after the last.
    """

    def __init__(
        self,
        ir: ScorerIr,
        rule: Callable[[Lowering, Tensor], Step],
        *,
        after_user_function: bool,
        computed: Sequence[Tensor] = (),
    ) -> None:
        self.program = ProgramWriter(after_user_function=after_user_function)
        self.tile_rows = ir.tile_rows
        self.uses: Uses = count_uses([ir.output])
        self._rule = rule
        self._output = ir.output
        self._inputs = {tensor: number for number, tensor in enumerate(ir.state)}
        self._tables = {tensor: number for number, tensor in enumerate(ir.tables)}
        self._computed = tuple(computed)
        self._values: dict[Tensor, int] = {}

    def run(self) -> ProgramWriter:
        output = self._output
        if output.is_free:
            output = self.without_items(output, output)
        value = self._value(output)
        if value != len(self.program.instructions) - 1:  # The score is the last value.
            self.columns(value, 0, 1)
        return self.program

    def _value(self, wanted: Tensor) -> int:
        """Without recursion: scorers are thousands of nodes deep."""
        steps: dict[Tensor, Step] = {}
        pending = [wanted]
        while pending:
            tensor = pending[-1]
            if tensor not in self._values:
                if tensor not in steps:
                    steps[tensor] = self._step(tensor)
                missing = [each for each in steps[tensor].operands if each not in self._values]
                if missing:
                    pending += reversed(missing)
                    continue
                step = steps[tensor]
                self._values[tensor] = step.emit([self._values[each] for each in step.operands])
            pending.pop()
        return self._values[wanted]

    def _step(self, tensor: Tensor) -> Step:
        if tensor in self._inputs:
            return self._input(tensor, self._inputs[tensor])
        if tensor in self._computed:
            return self._result(tensor)
        if tensor in self._tables:
            shape = self.shape(tensor)
            parameters = (self._tables[tensor], shape.columns)
            return Step((), lambda _: self.program.add(Opcode.TABLE, shape, parameters=parameters))
        try:
            return self._rule(self, tensor)
        except OpenShapeError:
            refuse(tensor, "a tensor of open shape")

    def _result(self, tensor: Tensor) -> Step:
        """Its columns of what TensorFlow computed."""
        shape = self.shape(tensor)
        widths = [each.size // self.tile_rows for each in self._computed]
        at = self._computed.index(tensor)

        def emit(_: Sequence[int]) -> int:
            parameters = (len(self._tables), sum(widths))
            all_columns = self.program.add(Opcode.TABLE, Shape(True, 1, sum(widths)), parameters=parameters)
            return self.as_shape(self.columns(all_columns, sum(widths[:at]), widths[at]), shape)

        return Step((), emit)

    def _input(self, tensor: Tensor, number: int) -> Step:
        shape = self.shape(tensor)
        # A tensor is read as a matrix, whatever its axes before the last.
        parameters = (number, *(tensor.shape if tensor.rank <= 2 else (shape.rows, shape.columns)))
        return Step((), lambda _: self.program.add(Opcode.INPUT, shape, parameters=parameters))

    # ------------------------------------------------------------------ shapes of tensors

    def shape(self, tensor: Tensor) -> Shape:
        """The matrix that a tensor is; items are always the first axis."""
        if tensor.known_shape is None:
            refuse(tensor, "a tensor of open shape")
        if tensor.dtype not in PROGRAM_TYPES:
            refuse(tensor, f"a tensor of type {tensor.dtype.name}")
        sizes = tensor.shape
        if not tensor.is_free:
            if sizes[:1] != (self.tile_rows,):
                refuse_moved_items(tensor)
            sizes = sizes[1:]
        if 0 in sizes:
            refuse(tensor, "a tensor without elements")
        return Shape(not tensor.is_free, math.prod(sizes[:-1]), (1, *sizes)[-1])

    def has_matrix(self, tensor: Tensor) -> bool:
        """Whether a tensor is a matrix for all items, or one for each."""
        return tensor.known_shape is not None and (tensor.is_free or tensor.shape[:1] == (self.tile_rows,))

    def without_items(self, x: Tensor, reader: Tensor) -> Tensor:
        """A free tensor that was repeated for each item, once."""
        if x.shape[0] == 1:
            return _ops.reshape(x, x.shape[1:])
        if x.value is not None and (x.value == x.value[:1]).all():
            return constant(x.value[0])
        narrow = x.inputs[0] if x.op == "broadcast" else x
        if narrow.rank == x.rank and narrow.shape[0] == 1:
            narrow = _ops.reshape(narrow, narrow.shape[1:])
        if narrow.rank < x.rank:
            return _ops.broadcast(narrow, x.shape[1:])
        refuse(reader, "an operand of the user that differs from item to item")

    def operand(self, x: Tensor, reader: Tensor) -> Tensor:
        """An operand of an elementwise operation: TensorFlow lines up last axes, and items stay first."""
        if x.known_shape is None:
            return x
        if reader.is_free:
            return self._lined_up(x, reader.shape)
        if not x.is_free:
            if x.rank != reader.rank:
                refuse(reader, "an elementwise operation that lines up the items with another axis")
            return self._lined_up(x, reader.shape)
        x = x if x.rank < reader.rank else self.without_items(x, reader)
        return self._lined_up(x, reader.shape[1:])

    def _lined_up(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """`x` of one row or of all rows of what has this shape: the instructions repeat no others."""
        rows = math.prod(x.shape[:-1] if x.is_free else x.shape[1:-1])
        all_rows = math.prod(shape[:-1] if x.is_free else shape[1:-1])
        return x if rows in (1, all_rows) else _ops.broadcast(x, (*shape[:-1], x.shape[-1]))

    # ------------------------------------------------------------------ instructions

    def as_shape(self, value: int, shape: Shape) -> int:
        """The same numbers, row by row, in another shape."""
        if self.program.shape(value) == shape:
            return value
        return self.program.add(Opcode.RESHAPE, shape, [value], parameters=(shape.rows, shape.columns))

    def elementwise(self, opcode: Opcode, values: Sequence[int], function: int = 0) -> int:
        shapes = [self.program.shape(value) for value in values]
        shape = Shape(
            any(each.per_item for each in shapes),
            max(each.rows for each in shapes),
            max(each.columns for each in shapes),
        )
        return self.program.add(opcode, shape, values, function=function)

    def flat(self, value: int) -> int:
        shape = self.program.shape(value)
        return self.as_shape(value, Shape(shape.per_item, 1, shape.rows * shape.columns))

    def columns(self, value: int, begin: int, width: int) -> int:
        shape = self.program.shape(value)
        cut = Shape(shape.per_item, shape.rows, width)
        return self.program.add(Opcode.SLICE, cut, [value], parameters=(begin, width))
