"""A block of lines as a typed table, without the rows that are malformed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from nann.errors import InvalidFileError
from nann.training.ingest import _rows as rows
from nann.training.ingest._blocks import Block
from nann.training.ingest._rows import BadRow, BadRows
from nann.training.ingest._schema import BEHAVIOUR, CATEGORY, ITEM, USER, Field, Schema

Mask = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

LINE = "line"
"""The column with the number of each row's line in its block, from 0."""

_NEWLINE, _QUOTE = ord("\n"), ord('"')
_SHOWN = 80
# A sign and 19 digits: longer numbers exceed 64 bits, but for leading zeros, which nobody writes.
_WHOLE = r"^[ \t]*-?[0-9]{1,19}[ \t]*$"
_TRUE, _FALSE = ["true", "1"], ["false", "0"]
# What makes Arrow's conversion accept or split otherwise than the rules here: such blocks go the careful way.
_UNUSUAL = (b"\0", b'"', b"0x", b"0X")


def parse(block: Block, schema: Schema) -> tuple[pa.Table, BadRows]:
    """The good rows of a block, and what was wrong with the others.

    Returns:
      a table with the columns of `schema` that have a role or are kept, and `line`, int32; int64 for numbers.

    A block is first parsed by Arrow at once. Where that fails, or the block holds something unusual, each row
    is judged on its own: a good row gives the same values either way.
    """
    data = block.data
    if schema.header and block.line == 1:
        # The line stays in place, empty, so that the numbers of the lines behind it hold.
        data = data[_checked_header(block, schema) :]
    table = None if any(each in data for each in _UNUSUAL) else _parse_fast(data, schema)
    if table is None:
        return _Careful(block, data, schema).parse()
    return table, {}


def _checked_header(block: Block, schema: Schema) -> int:
    """The length of the header line; raises InvalidFileError unless it names the columns of the schema."""
    end = block.data.index(b"\n")
    line = block.data[:end].decode(errors="replace")
    if [name.strip().strip('"') for name in line.split(schema.delimiter)] != schema.names:
        raise InvalidFileError(
            f"{block.path}: line 1: expected the header {schema.delimiter.join(schema.names)}, found "
            f"{line[:_SHOWN]!r}. Name the columns in the schema file as in the data, in the same order."
        )
    return end


def _parse_fast(data: bytes, schema: Schema) -> pa.Table | None:
    """The table where all rows are good and no line is empty, else None."""
    if not data.strip():
        return None
    types = {field.name: _text_type(field) for field in schema.fields}
    try:
        table = _read(data, schema, types)
        table = _typed_lists(table, schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    lines = data.count(b"\n")
    if table.num_rows != lines or not _all_good(table, schema):
        return None
    return _kept(table.append_column(LINE, pa.array(np.arange(lines, dtype=np.int32))), schema)


def _text_type(field: Field) -> pa.DataType:
    if field.role in (USER, ITEM, CATEGORY, "timestamp"):
        return pa.int64()
    if field.role == BEHAVIOUR:
        return pa.dictionary(pa.int32(), pa.string())
    if field.of is None or field.separator is not None:
        return pa.string()
    return field.arrow_type


def _read(data: bytes, schema: Schema, types: dict[str, pa.DataType]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        read_options=pyarrow.csv.ReadOptions(
            column_names=schema.names, use_threads=False, block_size=max(1, len(data))
        ),
        parse_options=pyarrow.csv.ParseOptions(delimiter=schema.delimiter),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            true_values=_TRUE,
            false_values=_FALSE,
        ),
    )


def _all_good(table: pa.Table, schema: Schema) -> bool:
    """Whether no value of a column with a role is missing, too small or unknown."""
    for field in schema.numbers():
        column = table[field.name]
        if column.null_count or (field.role != "timestamp" and pc.min(column).as_py() < 1):
            return False
    behaviour = schema.of_role(BEHAVIOUR)
    if behaviour is None or schema.behaviours is None:
        return True
    column = table[behaviour.name]
    known = set(schema.behaviours)
    return column.null_count == 0 and all(set(c.dictionary.to_pylist()) <= known for c in column.chunks)


def _typed_lists(table: pa.Table, schema: Schema) -> pa.Table:
    """Lists of text as lists of their type; raises pa.ArrowInvalid where an element is none."""
    for field in schema.beside_roles:
        if field.separator is not None:
            place = table.schema.get_field_index(field.name)
            table = table.set_column(place, field.name, _as_list(table[field.name].combine_chunks(), field))
    return table


def _as_list(column: Any, field: Field) -> Any:
    parts = pc.split_pattern(column, field.separator)
    elements = pc.utf8_trim_whitespace(parts.flatten())
    return pa.ListArray.from_arrays(parts.offsets, _converted(elements, field), mask=parts.is_null())


def _converted(texts: Any, field: Field) -> Any:
    """Texts as the type of a further column; raises pa.ArrowInvalid where one is none."""
    if field.type == "string":
        return texts
    if field.type == "bool":
        if not pc.all(pc.is_in(texts, pa.array([*_TRUE, *_FALSE, None]))).as_py():
            raise pa.ArrowInvalid("not a bool")
        return pc.if_else(pc.is_valid(texts), pc.is_in(texts, pa.array(_TRUE)), pa.scalar(None, pa.bool_()))
    return texts.cast(field.arrow_type if field.separator is None else field.arrow_type.value_type)


def _kept(table: pa.Table, schema: Schema) -> pa.Table:
    behaviour = schema.of_role(BEHAVIOUR)
    names = [each.name for each in [*schema.numbers(), *schema.beside_roles]]
    if behaviour is not None and behaviour.of is not None:
        place = table.schema.get_field_index(behaviour.name)
        table = table.set_column(place, behaviour.name, table[behaviour.name].cast(pa.string()))
        names.append(behaviour.name)
    return table.select([*names, LINE])


def _without_rows(schema: Schema) -> pa.Table:
    types = {field.name: _text_type(field) for field in schema.fields}
    types |= {field.name: field.arrow_type for field in schema.beside_roles}
    columns = {name: pa.array([], kind) for name, kind in types.items()}
    return _kept(pa.table({**columns, LINE: pa.array([], pa.int32())}), schema)


class _Careful:
    """Judges each row of a block on its own."""

    def __init__(self, block: Block, data: bytes, schema: Schema) -> None:
        self._block = block
        self._schema = schema
        self._data = data
        self._bad: dict[str, BadRow] = {}
        buffer = np.frombuffer(data, np.uint8)
        self._buffer: Bytes = buffer
        self._ends = np.flatnonzero(buffer == _NEWLINE)
        self._starts = np.concatenate([[0], self._ends[:-1] + 1])
        # bool [lines]: those that are still good; empty lines never were.
        self._good: Mask = self._not_blank()

    def parse(self) -> tuple[pa.Table, BadRows]:
        """As the function `parse`."""
        self._drop(self._lines_with(0), rows.NUL, expected="text without NUL bytes")
        self._drop_bad_encoding()
        self._drop_wrong_columns()
        lines = np.flatnonzero(self._good)
        if not len(lines):
            return _without_rows(self._schema), self._bad
        texts = self._texts()
        columns = {}
        for field in [*self._schema.numbers(), *filter(None, [self._schema.of_role(BEHAVIOUR)])]:
            columns[field.name] = self._checked(texts[field.name], field, lines)
        for field in self._schema.beside_roles:
            columns[field.name] = self._further(texts[field.name], field, lines)
        table = pa.table({**columns, LINE: pa.array(lines.astype(np.int32))})
        return _kept(table.filter(pa.array(self._good[lines])), self._schema), self._bad

    def _not_blank(self) -> Mask:
        """Lines with more than spaces: Arrow skips lines without any character, and so are these."""
        visible = (self._buffer != _NEWLINE) & (self._buffer != ord(" ")) & (self._buffer != ord("\t"))
        return np.add.reduceat(visible, self._starts, dtype=np.int64) > 0

    def _lines_with(self, byte: int) -> Mask:
        return np.add.reduceat(self._buffer == byte, self._starts, dtype=np.int64) > 0

    def _drop(self, wrong: Mask, kind: str, *, expected: str, column: str = "") -> None:
        """Count the lines of `wrong` [lines] that are still good as bad ones of `kind`."""
        wrong = wrong & self._good
        count = int(wrong.sum())
        if count:
            place = int(wrong.argmax())
            text = self._data[self._starts[place] : self._ends[place]][:_SHOWN].decode(errors="replace")
            bad = BadRow(count, str(self._block.path), self._block.line + place, column, text, expected)
            self._bad = rows.merge_bad(self._bad, {kind: bad})
            self._good &= ~wrong

    def _drop_bad_encoding(self) -> None:
        try:
            self._data.decode()
        except UnicodeDecodeError:
            wrong = [not _is_utf8(line) for line in self._data.split(b"\n")[:-1]]
            self._drop(np.array(wrong, bool), rows.ENCODING, expected="text in UTF-8")

    def _drop_wrong_columns(self) -> None:
        """Lines without the right number of delimiters outside quotation marks."""
        delimiters = np.flatnonzero(self._buffer == ord(self._schema.delimiter))
        quotes = np.flatnonzero(self._buffer == _QUOTE)
        if len(quotes):
            line_of_quote = np.searchsorted(self._ends, quotes)
            per_line = np.bincount(line_of_quote, minlength=len(self._ends))
            self._drop(per_line % 2 == 1, rows.QUOTE, expected="quotation marks in pairs")
            # A delimiter behind an odd number of quotation marks of its line stands inside of a pair.
            before_line = np.cumsum(per_line) - per_line
            line = np.searchsorted(self._ends, delimiters)
            inside = (np.searchsorted(quotes, delimiters) - before_line[line]) % 2 == 1
            delimiters = delimiters[~inside]
        found = np.bincount(np.searchsorted(self._ends, delimiters), minlength=len(self._ends)) + 1
        names = self._schema.names
        expected = f"{len(names)} columns {self._schema.delimiter.join(names)}"
        self._drop(found != len(names), rows.COLUMNS, expected=expected)

    def _texts(self) -> pa.Table:
        """All columns of the lines that are good so far, as text."""
        kept = np.repeat(self._good, self._ends - self._starts + 1)
        data = self._buffer[kept].tobytes()
        return _read(data, self._schema, dict.fromkeys(self._schema.names, pa.string())).combine_chunks()

    def _drop_values(self, wrong: Any, field: Field, lines: Any, kind: str, expected: str) -> None:
        """wrong: an Arrow bool array over `lines`, null counting as false."""
        mask = np.zeros(len(self._good), bool)
        mask[lines] = np.asarray(pc.fill_null(wrong, False))
        self._drop(mask, kind, expected=f"{expected} in column {field.name}", column=field.name)

    def _checked(self, texts: Any, field: Field, lines: Any) -> Any:
        """A column with a role: int64, or the text of a behaviour."""
        if field.role == BEHAVIOUR:
            known = self._schema.behaviours
            if known is not None:
                wrong = pc.invert(pc.is_in(texts, pa.array(known)))
                self._drop_values(wrong, field, lines, rows.BEHAVIOUR, f"one of {', '.join(known)}")
            return texts
        number = pc.fill_null(pc.match_substring_regex(texts, _WHOLE), False)
        trimmed = pc.if_else(number, pc.utf8_trim_whitespace(texts), "0")
        values, fits = _int64(trimmed)
        wrong = pc.invert(pc.and_(number, fits))
        self._drop_values(wrong, field, lines, rows.NUMBER, "a whole number of 64 bits")
        if field.role != "timestamp":
            small = pc.and_(pc.less(values, 1), pc.invert(wrong))
            self._drop_values(small, field, lines, rows.SMALL, "ids of 1 and above")
        return values

    def _further(self, texts: Any, field: Field, lines: Any) -> Any:
        """A further column; missing where the text is empty."""
        try:
            return self._as_type(texts, field)
        except pa.ArrowInvalid:
            values = [_one(text, field, self._as_type) for text in texts.to_pylist()]
        wrong = pa.array([value is _NO_VALUE for value in values])
        expected = f"a {'list of ' if field.separator else ''}{field.type}"
        self._drop_values(wrong, field, lines, rows.VALUE, expected)
        return pa.array([None if value is _NO_VALUE else value for value in values], field.arrow_type)

    def _as_type(self, texts: Any, field: Field) -> Any:
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        if field.separator is not None:
            return _as_list(texts, field)
        return _converted(texts if field.type == "string" else pc.utf8_trim_whitespace(texts), field)


_NO_VALUE = object()


def _one(text: str | None, field: Field, convert: Any) -> Any:
    try:
        return convert(pa.array([text], pa.string()), field)[0].as_py()
    except pa.ArrowInvalid:
        return _NO_VALUE


def _int64(texts: Any) -> tuple[Any, Any]:
    """int64 of texts that are a sign and up to 19 digits, and whether each fits; 0 where it does not."""
    try:
        return texts.cast(pa.int64()), pa.scalar(True)
    except pa.ArrowInvalid:
        fits = pa.array([-(2**63) <= int(text) < 2**63 for text in texts.to_pylist()])
        return pc.if_else(fits, texts, "0").cast(pa.int64()), fits


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
