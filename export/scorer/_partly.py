"""Scorers of which the native executor cannot run a part: TensorFlow computes that, and the program goes on.

What is unknown, and what it is computed from, stays a TensorFlow function over a tile. Its results are to the
program the rows of one more item table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf

from nann.export.scorer._cost import NS_PER_BYTE, work_of
from nann.export.scorer._emit import to_function
from nann.export.scorer._ir import Needs, Spec, Tensor, source, topological
from nann.export.scorer._lower import lower_after
from nann.export.scorer._lowering import NotLowerableError, ScorerIr
from nann.export.scorer._ops import cast, concat, reshape
from nann.export.scorer._program import ProgramWriter
from nann.export.scorer._rewrite import substitute

# Of unknown operations that are found one after the other; each is another attempt to write the program.
_MOST_UNKNOWN = 16
# Of the whole scorer's cost. Where TensorFlow would do more, it does all: copies between the two cost too. A
# scorer of which it did 0.56, in four tensors, took 1.25 times as long in two parts.
_MOST_SHARE = 0.5
# What TensorFlow computes is written, gathered and read.
_TIMES_MOVED = 3
# Results are floats to the program. An integer may be beyond 2^24, and is none then.
_TYPES = (tf.float32, tf.float16, tf.bfloat16, tf.bool)


@dataclass(frozen=True)
class PartlyLowered:
    """A scorer as a TensorFlow function and the program that goes on with what it computes.

    ir:       the whole scorer, from the user function's results on.
    computed: what TensorFlow computes of a tile, [tile_rows, ...] each.
    reason:   what TensorFlow runs, and what that costs.
    """

    program: ProgramWriter
    ir: ScorerIr
    computed: tuple[Tensor, ...]
    reason: str

    def to_function(self, tables: Sequence[str], library: Any) -> Any:
        """(user tensors..., a tile of each of `tables`) -> float32 [tile_rows, width], a table's rows.

        library: FunctionDefLibrary of the functions that control flow calls.
        """
        names = [f"user_{number}" for number in range(len(self.ir.user))]
        bound = dict(zip((*self.ir.user, *self.ir.tables), (*names, *tables), strict=True))
        arguments = [(name, tf.TensorSpec(each.known_shape, each.dtype)) for each, name in bound.items()]
        rows = [
            reshape(each if each.dtype == tf.float32 else cast(each), (self.ir.tile_rows, _width(each)))
            for each in self.computed
        ]
        return to_function(
            "unknown_part", arguments, [concat(rows, 1)], bound, library=library, finish=lambda out: out[0]
        )


def lower_partly(ir: ScorerIr) -> PartlyLowered:
    """The smallest part of a scorer that TensorFlow has to compute, and the program of the rest.

    Raises NotLowerableError where that part is most of it.
    """
    has_user_function = ir.user != ir.state
    ir = ir.after_user_function() if has_user_function else ir
    output, computed = ir.output, dict[Tensor, Tensor]()  # To the program each is an input.
    first: NotLowerableError | None = None
    while True:
        rest = replace(ir, output=output)
        try:
            program = lower_after(rest, tuple(computed), has_user_function=has_user_function)
            break
        except NotLowerableError as error:
            first = first or error
            found = _computable(error.tensor, output, ir.tile_rows)
            if not found or len(computed) + len(found) > _MOST_UNKNOWN:
                raise first from None
        inputs = {each: _input(each, len(computed) + at) for at, each in enumerate(found)}
        output = substitute(output, inputs)
        computed |= {given: substitute(each, computed) for each, given in inputs.items()}
        read = {Tensor(node) for node in topological([output])}
        computed = {given: each for given, each in computed.items() if given in read}
    if first is None:
        raise ValueError("lower_partly: expected a scorer that the native executor cannot run")
    return PartlyLowered(program, ir, tuple(computed.values()), _reason(first, ir, tuple(computed.values())))


def _reason(first: NotLowerableError, ir: ScorerIr, computed: Sequence[Tensor]) -> str:
    """What TensorFlow computes, and what that costs. Raises `first` where it is most of the scorer."""
    part, whole = (
        work_of(topological(outputs, stop=lambda each: each.is_free)) for outputs in (computed, [ir.output])
    )
    handed_over = _TIMES_MOVED * NS_PER_BYTE * sum(4 * each.size for each in computed)
    if part.ns + handed_over > _MOST_SHARE * whole.ns:
        raise first
    return (
        f"{first}; TensorFlow computes it and what it is computed from, {part.flops / ir.tile_rows:,.0f} of "
        f"{whole.flops / ir.tile_rows:,.0f} FLOPs per item, the native executor the rest"
    )


def _computable(tensor: Tensor, output: Tensor, tile_rows: int) -> list[Tensor]:
    """Tensors to compute by TensorFlow so that `tensor` need not be lowered; none where that is all.

    It is itself one where it has a row for each item; else those that read it.
    """
    readers = readers_of(output)
    pending, found = [tensor], list[Tensor]()
    while pending:
        each = pending.pop()
        if each == output or each not in readers:
            return []
        has_rows = not each.is_free and each.dtype in _TYPES and each.known_shape is not None
        if not has_rows or each.shape[:1] != (tile_rows,):
            pending += readers[each]
        elif each not in found:
            found.append(each)
    return found


def readers_of(output: Tensor) -> dict[Tensor, list[Tensor]]:
    """Who reads each tensor: all results of the operations that do."""
    readers: dict[Tensor, list[Tensor]] = {}
    for node in topological([output]):
        results = [Tensor(node, index) for index in range(len(node.outputs))]
        for each in dict.fromkeys(node.inputs):
            readers.setdefault(each, []).extend(results)
    return readers


def _input(x: Tensor, number: int) -> Tensor:
    return source(f"computed_{number}", Spec(x.dtype, x.known_shape), Needs.USER | Needs.ITEM)


def _width(x: Tensor) -> int:
    """Columns of one item."""
    return x.size // x.shape[0]
