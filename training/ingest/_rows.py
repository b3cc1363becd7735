"""What is wrong with rows: kinds, counts, and the first of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nann.errors import InvalidFileError, InvalidInputError

COLUMNS = "wrong number of columns"
NUMBER = "not a whole number of 64 bits"
VALUE = "not a value of the column's type"
BEHAVIOUR = "unknown behaviour"
SMALL = "id below 1"
NUL = "NUL byte"
ENCODING = "not UTF-8"
QUOTE = "unclosed quotation mark"
MISSING = "missing value"
SEQUENCE = "not a sequence"

_ADVICE = "Correct or remove the line{header}, or skip such lines: without --strict they are counted."


@dataclass(frozen=True)
class BadRow:
    """The first bad row of a kind.

    Attributes:
      count: how many there are of the kind.
      file, line: where the first one is; the line counts from 1.
      column: the name of the column that is wrong; empty where the whole line is.
      text: the line, shortened.
      expected: what the message expects.
    """

    count: int
    file: str
    line: int
    column: str
    text: str
    expected: str

    def error(self, kind: str, *, header: bool) -> Exception:
        """The error of `--strict`."""
        advice = _ADVICE.format(header="" if header else " (the file has no header line)")
        if kind == SMALL:
            return InvalidInputError(
                f"{self.file}: line {self.line}: column {self.column}: expected ids of 1 and above (0 means "
                f"missing, -1 means none), found {self.text!r}. Renumber the ids."
            )
        return InvalidFileError(
            f"{self.file}: line {self.line}: expected {self.expected}, found {self.text!r}. {advice}"
        )


BadRows = Mapping[str, BadRow]
"""Kind -> how many there are, and the first."""


def merge_bad(first: BadRows, second: BadRows) -> dict[str, BadRow]:
    """Both together; files of `first` come before those of `second`."""
    merged = dict(first)
    for kind, bad in second.items():
        known = merged.get(kind)
        if known is None:
            merged[kind] = bad
            continue
        earlier = bad if (known.file, bad.line) == (bad.file, min(bad.line, known.line)) else known
        merged[kind] = replace(earlier, count=known.count + bad.count)
    return merged


def describe_bad(bad: BadRows) -> list[dict[str, Any]]:
    """As `meta.json` lists them, the most frequent kind first."""
    ordered = sorted(bad.items(), key=lambda each: (-each[1].count, each[0]))
    return [
        {
            "kind": kind,
            "rows": each.count,
            "first_file": each.file,
            "first_line": each.line,
            "first_column": each.column,
        }
        for kind, each in ordered
    ]
