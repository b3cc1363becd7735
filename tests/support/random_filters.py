"""Random attribute tables, and random filters over them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa

ROWS = 200
_OPERATORS = ["=", "==", "!=", "<>", "<", "<=", ">", ">="]
_TYPES = {
    "quantity": pa.int64(),
    "year": pa.int64(),
    "price": pa.float32(),
    "old_price": pa.float32(),
    "sale": pa.bool_(),
    "new": pa.bool_(),
    "brand": pa.string(),
    "maker": pa.string(),
    "ids": pa.list_(pa.int64()),
    "sizes": pa.list_(pa.float32()),
    "flags": pa.list_(pa.bool_()),
    "tags": pa.list_(pa.string()),
}
_FAMILIES = {
    "number": (["quantity", "year", "price", "old_price"], ["ids", "sizes"]),
    "bool": (["sale", "new"], ["flags"]),
    "string": (["brand", "maker"], ["tags"]),
}


class RandomFilters:
    """Draws tables and filters; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        # The share of NULL, from none to most.
        self._null = self._random.choice([0.0, 0.1, 0.6])

    def table(self) -> pa.Table:
        """ROWS rows of `item_id` and one attribute of each type."""
        ids = self._random.sample(range(10 * ROWS), ROWS)
        columns: dict[str, Any] = {"item_id": pa.array(ids, pa.int64())}
        for name, kind in _TYPES.items():
            columns[name] = pa.array([self._cell(kind) for _ in range(ROWS)], kind)
        return pa.table(columns)

    def _cell(self, kind: pa.DataType) -> Any:
        if self._random.random() < self._null:
            return None
        if pa.types.is_list(kind):
            return [self._cell(kind.value_type) for _ in range(self._random.choice([0, 1, 2, 3, 70]))]
        if kind == pa.int64():
            return self._random.choice([*range(-3, 10), 2**53 + 1, -(2**63), 2**63 - 1, 16_777_217])
        if kind == pa.float32():
            special = [0.0, -0.0, float("nan"), float("inf"), -float("inf"), 0.1, 19.99, 16_777_216.0]
            return float(np.float32(self._random.choice([*special, self._random.randint(-30, 30) / 10])))
        if kind == pa.bool_():
            return self._random.random() < 0.5
        return self._random.choice(["", "a", "ab", "abc", "B", "b", "é", "it's", "日本", "zz", "a%", "10"])

    def filter(self, depth: int = 3) -> str:
        """A filter that both dialects take."""
        choices = [self._comparison] * 6 + ([self._combined] * 6 if depth else [])
        return self._random.choice(choices)(depth)

    def _combined(self, depth: int) -> str:
        left = self.filter(depth - 1)
        match self._random.randrange(5):
            case 0:
                return f"NOT ({left})"
            case 1:
                return f"({left}) IS {self._random.choice(['', 'NOT '])}NULL"
            case 2:
                return f"{left} AND {self.filter(depth - 1)}"
            case 3:
                return f"{left} OR NOT {self.filter(0)}"
            case _:
                return f"({left} OR {self.filter(depth - 1)})"

    def _comparison(self, _: int) -> str:
        family = self._random.choice(["number", "number", "bool", "string"])
        left, negation = self._operand(family), self._random.choice(["", "NOT "])
        match self._random.randrange(7):
            case 0:
                return f"{left} {self._random.choice(_OPERATORS)} {self._operand(family)}"
            case 1:
                values = [self._operand(family) for _ in range(self._random.choice([1, 2, 3, 9]))]
                return f"{left} {negation}IN ({', '.join(values)})"
            case 2:
                return f"{left} {negation}BETWEEN {self._operand(family)} AND {self._operand(family)}"
            case 3:
                return f"{negation}{left} = ANY({self._random.choice(_FAMILIES[family][1])})"
            case 4:
                name = self._random.choice(list(_TYPES))
                return f"{name} IS {negation}NULL"
            case 5:
                pattern = self._random.choice(["a%", "ab%", "%", "a", "", "é%", "B%%", "it''s%"])
                return f"{self._operand('string')} {negation}LIKE '{pattern}'"
            case _:
                return f"{negation}{self._random.choice(['sale', 'new', 'TRUE', 'FALSE', 'sale = TRUE'])}"

    def _operand(self, family: str) -> str:
        kind = self._random.random()
        if kind < 0.05:
            return "NULL"
        if kind < 0.55:
            return self._random.choice(_FAMILIES[family][0])
        if family == "bool":
            return self._random.choice(["TRUE", "false"])
        if family == "string":
            return "'" + str(self._cell_of("string")).replace("'", "''") + "'"
        return self._random.choice(
            [
                str(self._random.randint(-4, 10)),
                f"{self._random.randint(-30, 30) / 10}",
                f"{self._random.randint(-30, 30) / 10}e0",
                "0.1",
                "1e-1",
                "19.99",
                "-0.0",
                ".5",
                "16777217",
                "16777217.0",
                "9007199254740993",
                "9007199254740993e0",
                "-9223372036854775808",
                "9223372036854775808",
                "123456.789",
                "1e39",
            ]
        )

    def _cell_of(self, kind: str) -> Any:
        while (cell := self._cell(pa.string())) is None:
            pass
        return cell
