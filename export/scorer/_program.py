"""Writing scorer programs, in the format of docs/scorer-program.md."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nann.export.scorer._ir import Array

VERSION = 4
_MAGIC = b"nannprog"
_AFTER_USER_FUNCTION = 1

# Terms and addends of one product.
MAX_SUMMANDS = 12


class Opcode(enum.IntEnum):
    """What makes a value; the order is the format's."""

    INPUT = 0
    TABLE = 1
    CONSTANT = 2
    GEMM = 3
    BINARY = 4
    SELECT = 5
    UNARY = 6
    PRELU = 7
    SOFTMAX = 8
    REDUCE = 9
    SIMILARITY = 10
    TRANSPOSE = 11
    RESHAPE = 12
    SLICE = 13
    CONCAT = 14
    PRODUCT = 15
    REARRANGE = 16
    GATHER = 17


class Activation(enum.IntEnum):
    NONE = 0
    RELU = 1
    PRELU = 2


class BinaryOp(enum.IntEnum):
    ADD = 0
    SUB = 1
    MUL = 2
    DIV = 3
    MAX = 4
    MIN = 5
    SQUARED_DIFFERENCE = 6
    EQUAL = 7
    NOT_EQUAL = 8
    GREATER = 9
    GREATER_EQUAL = 10
    ATAN2 = 11


class UnaryOp(enum.IntEnum):
    NEG = 0
    RELU = 1
    RELU6 = 2
    SQUARE = 3
    SQRT = 4
    RSQRT = 5
    RECIPROCAL = 6
    EXP = 7
    SIGMOID = 8
    TANH = 9
    ERF = 10
    ABS = 11
    EXPM1 = 12
    LOG = 13
    LOG1P = 14
    SOFTPLUS = 15
    ELU = 16
    FLOOR = 17
    SILU = 18
    TWICE_GELU = 19
    SIN = 20
    COS = 21
    TAN = 22
    ASIN = 23
    ACOS = 24
    ATAN = 25


class ReduceOp(enum.IntEnum):
    SUM = 0
    MEAN = 1
    MAX = 2
    MIN = 3


class SimilarityOp(enum.IntEnum):
    DOT = 0
    NEGATIVE_DOT = 1
    SQUARED_DISTANCE = 2
    NEGATIVE_SQUARED_DISTANCE = 3


NEGATED = {
    SimilarityOp.DOT: SimilarityOp.NEGATIVE_DOT,
    SimilarityOp.NEGATIVE_DOT: SimilarityOp.DOT,
    SimilarityOp.SQUARED_DISTANCE: SimilarityOp.NEGATIVE_SQUARED_DISTANCE,
    SimilarityOp.NEGATIVE_SQUARED_DISTANCE: SimilarityOp.SQUARED_DISTANCE,
}


@dataclass(frozen=True)
class Shape:
    """A matrix [rows, columns], one for each item of a tile or one for all of them."""

    per_item: bool
    rows: int
    columns: int


@dataclass(frozen=True)
class Instruction:
    """Makes a value of `shape` out of earlier ones."""

    opcode: Opcode
    shape: Shape
    operands: tuple[int, ...] = ()
    function: int = 0
    parameters: tuple[int, ...] = ()


class ProgramWriter:
    """A program that grows by one instruction at a time; equal instructions are written once.

    after_user_function: whether inputs are what the export's user function returns.
    """

    def __init__(self, *, after_user_function: bool) -> None:
        self.after_user_function = after_user_function
        self.instructions: list[Instruction] = []
        self._constants: list[Array] = []
        self._numbers: dict[object, int] = {}

    def add(
        self,
        opcode: Opcode,
        shape: Shape,
        operands: Sequence[int] = (),
        *,
        function: int = 0,
        parameters: Sequence[int] = (),
    ) -> int:
        """The number of the value that the instruction makes."""
        return self._once(
            Instruction(opcode, shape, tuple(operands), int(function), tuple(int(p) for p in parameters))
        )

    def constant(self, values: Array) -> int:
        """A matrix [rows, columns] of float32."""
        values = np.ascontiguousarray(values, np.float32)
        rows, columns = values.shape
        instruction = Instruction(Opcode.CONSTANT, Shape(False, rows, columns), parameters=(rows, columns))
        count = len(self.instructions)
        value = self._once(instruction, values.tobytes())
        if value == count:
            self._constants.append(values)
        return value

    def shape(self, value: int) -> Shape:
        return self.instructions[value].shape

    def is_similarity(self) -> bool:
        """Whether all that is done for an item is to compare its row of a table with a vector of the user."""
        last = self.instructions[-1]
        computed = [each for each in self.instructions if each.shape.per_item and each.opcode != Opcode.TABLE]
        return (
            computed == [last]
            and last.opcode == Opcode.SIMILARITY
            and self.instructions[last.operands[0]].opcode == Opcode.TABLE
        )

    def to_bytes(self) -> bytes:
        words = [
            word
            for each in self.instructions
            for word in (
                each.opcode,
                each.function,
                len(each.operands),
                len(each.parameters),
                *each.operands,
                *each.parameters,
            )
        ]
        flags = _AFTER_USER_FUNCTION if self.after_user_function else 0
        floats = sum(each.size for each in self._constants)
        header = np.asarray([VERSION, flags, len(words), floats], "<u4")
        return b"".join(
            [
                _MAGIC,
                header.tobytes(),
                np.asarray(words, "<u4").tobytes(),
                *(each.astype("<f4").tobytes() for each in self._constants),
            ]
        )

    def _once(self, instruction: Instruction, content: bytes = b"") -> int:
        number = self._numbers.setdefault((instruction, content), len(self.instructions))
        if number == len(self.instructions):
            self.instructions.append(instruction)
        return number
