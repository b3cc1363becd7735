"""The columns of a source: the five of Taobao's UserBehavior, or those of a schema file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from nann.errors import InvalidFileError
from nann.files import read_json

USER, ITEM, CATEGORY, BEHAVIOUR, TIMESTAMP = ROLES = ("user", "item", "category", "behaviour", "timestamp")
NUMBERS = (USER, ITEM, CATEGORY, TIMESTAMP)
REQUIRED = (USER, ITEM, TIMESTAMP)
BEHAVIOURS = ("pv", "buy", "cart", "fav")
OWNERS = ("user", "item", "event")

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "int64": pa.int64(),
    "id": pa.int64(),
    "float32": pa.float32(),
    "bool": pa.bool_(),
    "string": pa.string(),
}
_NEXT_STEP = "docs/data.md describes schema files."


@dataclass(frozen=True)
class Field:
    """A column of the source.

    Attributes:
      name: the column's name.
      role: one of `ROLES`, or None for a further column.
      of: whose value a further column holds: `user`, `item` or `event`; None skips it. A column with a role
        is kept per event, too, where this is `event`.
      type: of a further column: a key of `ARROW_TYPES`.
      separator: between the values of a list, in text; None for single values. In Parquet a list is a list.
    """

    name: str
    role: str | None = None
    of: str | None = None
    type: str = "string"
    separator: str | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """Of the values in memory: a list where there are several."""
        element = ARROW_TYPES[self.type]
        return element if self.separator is None else pa.list_(element)


@dataclass(frozen=True)
class Schema:
    """What the columns of a source mean.

    Attributes:
      fields: in the order of the lines; in Parquet columns are found by name.
      header: whether the first line of each text file names the columns.
      delimiter: one character between the columns of a line.
      behaviours: the allowed values of the column behaviour; None allows all.
    """

    fields: tuple[Field, ...] = tuple(Field(role, role) for role in ROLES)
    header: bool = False
    delimiter: str = ","
    behaviours: tuple[str, ...] | None = BEHAVIOURS

    @cached_property
    def names(self) -> list[str]:
        return [each.name for each in self.fields]

    @cached_property
    def further(self) -> list[Field]:
        """The columns that are kept beyond what the roles stand for."""
        return [each for each in self.fields if each.of is not None]

    @cached_property
    def beside_roles(self) -> list[Field]:
        """The columns that are kept and have no role."""
        return [each for each in self.further if each.role is None]

    def of_role(self, role: str) -> Field | None:
        return next((each for each in self.fields if each.role == role), None)

    def numbers(self) -> list[Field]:
        """The columns with a role that hold whole numbers."""
        return [each for each in self.fields if each.role in NUMBERS]


def read_schema(path: Path) -> Schema:
    """Read a schema file (docs/data.md).

    Raises:
      InvalidFileError: it is not as described.
    """
    content = read_json(path, what="a schema", next_step=_NEXT_STEP)

    def expect(holds: bool, expected: str, found: Any) -> None:
        if not holds:
            raise InvalidFileError(f"{path}: expected {expected}, found {found!r}. {_NEXT_STEP}")

    known = ("columns", "header", "delimiter", "behaviours")
    for key in content:
        expect(key in known, f"keys {', '.join(known)}", key)
    columns = content.get("columns")
    expect(isinstance(columns, list) and bool(columns), "a list `columns`", columns)
    delimiter, header = content.get("delimiter", ","), content.get("header", False)
    single = isinstance(delimiter, str) and len(delimiter) == 1 and delimiter.isascii()
    expect(single and delimiter not in '"\r\n\0', "a delimiter of one ASCII character", delimiter)
    expect(isinstance(header, bool), "header true or false", header)
    behaviours = content.get("behaviours")
    words = isinstance(behaviours, list) and all(isinstance(each, str) for each in behaviours)
    expect(behaviours is None or words, "a list of strings `behaviours`", behaviours)
    assert isinstance(columns, list)
    fields = tuple(_field(each, expect) for each in columns)
    names = [each.name for each in fields]
    expect(len(set(names)) == len(names), "each column once", names)
    roles = [each.role for each in fields if each.role]
    expect(all(role in roles for role in REQUIRED), f"columns {', '.join(REQUIRED)}", names)
    expect(len(set(roles)) == len(roles), "each role once", roles)
    return Schema(fields, header, delimiter, tuple(behaviours) if behaviours else None)


def _field(described: Any, expect: Any) -> Field:
    keys = ("name", "role", "of", "type", "list")
    expect(isinstance(described, dict), "a column as an object", described)
    expect(set(described) <= set(keys), f"keys {', '.join(keys)} of a column", sorted(described))
    name = described.get("name")
    plain = isinstance(name, str) and name.replace("_", "").replace("-", "").isalnum()
    expect(plain, "a column's name of letters, digits, _ and -", name)
    of, separator = described.get("of"), described.get("list")
    role = described.get("role", name if name in ROLES and of is None else None)
    expect(role in (None, *ROLES), f"a role of {', '.join(ROLES)}", role)
    owners = OWNERS if role is None else ("event",)
    expect(of in (None, *owners), f"`of` of {', '.join(owners)}", described)
    kind = described.get("type", "int64" if role in NUMBERS else "string")
    expect(role is None or kind == ("int64" if role in NUMBERS else "string"), "no type with a role", kind)
    expect(kind in ARROW_TYPES, f"a type of {', '.join(ARROW_TYPES)}", kind)
    one = separator is None or (isinstance(separator, str) and len(separator) == 1)
    expect(one and (separator is None or role is None), "a separator of one character in `list`", described)
    return Field(name, role, of, kind, separator)
