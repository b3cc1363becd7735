"""Writes JSON as TensorFlow Serving does: with the layout, number formats and escapes of RapidJSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np

from nann.serving.server._json_parser import members

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
# TensorFlow Serving quotes only the beginning of a large value in an error message: no token begins after so
# many bytes.
_MAX_DUMP = 256
# Numbers with more digits before the point, or with a point further left, are written with an exponent.
_MAX_PLAIN_DIGITS, _MIN_PLAIN_POINT = 21, -6
_TABLE = str.maketrans({chr(code): f"\\u{code:04X}" for code in range(0x20)} | _ESCAPES)


def quote(text: str) -> str:
    """Return text as a JSON string. Only quotation marks, backslashes and control characters are escaped."""
    return f'"{text.translate(_TABLE)}"'


def format_float(value: np.floating[Any] | float) -> str:
    """Return a number with 6 digits, or with all its digits if 6 do not read back as the same number."""
    number = float(value)
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    text = f"{number:.6g}"
    is_single = isinstance(value, np.float32)
    read_back = float(np.float32(text)) if is_single else float(text)
    if read_back != number:
        text = f"{number:.9g}" if is_single else f"{number:.17g}"
    return text if "." in text or "e" in text else text + ".0"


class PrettyWriter:
    """Writes values one by one, indented by four spaces, as RapidJSON's PrettyWriter does.

    While `single_line_arrays` is set, the items of an array stay on one line, separated by ", ". If it is
    unset after the last item and before the end of the array, the closing bracket gets its own line.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        # How many of the parts were measured, and how many bytes they have.
        self._measured = self._bytes = 0
        # One entry per open array or object: 1 for an array, and the number of values and keys so far.
        self._levels: list[list[int]] = []
        self.single_line_arrays = False

    def text(self) -> str:
        return "".join(self._parts)

    def size(self) -> int:
        """Return how many bytes the text has so far."""
        new = self._parts[self._measured :]
        self._measured += len(new)
        self._bytes += len("".join(new).encode("utf-8", "surrogateescape"))
        return self._bytes

    def start_object(self) -> None:
        self._start(0, "{")

    def start_array(self) -> None:
        self._start(1, "[")

    def _start(self, is_array: int, bracket: str) -> None:
        self.value(bracket)
        self._levels.append([is_array, 0])

    def end(self) -> None:
        """Close the innermost array or object."""
        is_array, count = self._levels.pop()
        if count and not (is_array and self.single_line_arrays):
            self._new_line()
        self._parts.append("]" if is_array else "}")

    def key(self, name: str) -> None:
        self.value(quote(name))

    def value(self, text: str) -> None:
        """Write a value, given as JSON text."""
        if self._levels:
            self._separate(self._levels[-1])
        self._parts.append(text)

    def values(self, texts: Iterable[str]) -> None:
        """Write several values, given as JSON texts, into the innermost array."""
        for text in texts:
            self.value(text)

    def _separate(self, level: list[int]) -> None:
        is_array, count = level
        level[1] += 1
        if is_array:
            if count:
                self._parts.append(", " if self.single_line_arrays else ",")
            if not self.single_line_arrays:
                self._new_line()
        elif count % 2:
            self._parts.append(": ")
        else:
            if count:
                self._parts.append(",")
            self._new_line()

    def _new_line(self) -> None:
        self._parts.append("\n" + "    " * len(self._levels))


def error_body(message: str) -> str:
    """Return the body of the answer to a failed request."""
    writer = PrettyWriter()
    writer.start_object()
    writer.key("error")
    writer.value(quote(message))
    writer.end()
    return writer.text()


def dump(value: Any) -> str:
    """Return a parsed value as TensorFlow Serving quotes it in error messages.

    Token after token is written while the text is shorter than `_MAX_DUMP` bytes, up to a number that is not
    finite.
    """
    writer = PrettyWriter()
    writer.single_line_arrays = True
    _dump(writer, value)
    return writer.text()


def _dump(writer: PrettyWriter, value: Any) -> bool:
    """Write a value; return whether all of it was written."""
    if writer.size() >= _MAX_DUMP:
        return False
    if isinstance(value, dict):
        writer.start_object()
        for key, member in members(value):
            if writer.size() >= _MAX_DUMP:
                return False
            writer.key(key)
            if not _dump(writer, member):
                return False
    elif isinstance(value, list):
        writer.start_array()
        for item in value:
            if not _dump(writer, item):
                return False
    else:
        text = _scalar(value)
        writer.value(text)
        return text != ""
    if writer.size() >= _MAX_DUMP:
        return False
    writer.end()
    return True


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return str(value)
    return _shortest(value) if math.isfinite(value) else ""


def _shortest(value: float) -> str:
    """Return a number with as many digits as it needs, in RapidJSON's form: 1e22, 1.5e-7, 100.0."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    point = len(text) + exponent if value else 1
    if exponent >= 0 and point <= _MAX_PLAIN_DIGITS:
        text = f"{text.ljust(point, '0')}.0"
    elif 0 < point <= _MAX_PLAIN_DIGITS:
        text = f"{text[:point]}.{text[point:]}"
    elif _MIN_PLAIN_POINT < point <= 0:
        text = f"0.{'0' * -point}{text}"
    else:
        text = f"{text[0]}{'.' if text[1:] else ''}{text[1:]}e{point - 1}"
    return f"-{text}" if sign else text
