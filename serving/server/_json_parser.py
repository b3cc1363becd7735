"""Reads JSON as TensorFlow Serving does: with the rules, error texts and byte offsets of RapidJSON.

It differs from Python's `json` in this:

- A byte order mark, and whatever follows the first value, is ignored.
- If an object has a key twice, the first one counts.
- `NaN`, `Infinity` and `Inf` are numbers.
- An integer that is neither an int64 nor a uint64 is read as a double.
- Text may be invalid UTF-8. Invalid bytes become surrogate escapes, so that they can be written back.
"""

from __future__ import annotations

import json
import re
from typing import Any

from nann.serving.server._status import invalid_argument

# Python's parser reads these differently: lone surrogates, and numbers too big for a double or for 64 bits.
# The pattern also finds some that both accept; the slow parser reads these correctly, too.
_NEEDS_OWN_PARSER = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|[0-9]{19}")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE_SPACE = re.compile(r"[ \n\r\t]*")
_PLAIN_TEXT = re.compile(r'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(r"[0-9]+")
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_END = "\0"


def parse_json(body: bytes) -> Any:
    """Return the first JSON value in `body`.

    Raises:
      StatusError: INVALID_ARGUMENT, with RapidJSON's description of the error and its byte offset.
      RecursionError: the values are nested too deeply.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    if not _NEEDS_OWN_PARSER.search(body):
        try:
            return _fast(body)
        except ValueError:
            pass
    return _Parser(body).parse()


def _fast(body: bytes) -> Any:
    """Parse with Python's parser, which is many times faster than ours.

    Raises:
      ValueError: Python's parser refuses the body; RapidJSON may accept it, or has another error text.
    """
    return json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=_first_wins)


def _first_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        members = {}
        for key, value in pairs:
            members.setdefault(key, value)
    return members


class _Parser:
    """A recursive-descent parser.

    It reads the body as Latin-1: each byte is one character, so that positions are byte offsets.
    """

    def __init__(self, body: bytes) -> None:
        self._text = body.decode("latin-1")
        self._at = len(_BYTE_ORDER_MARK) if body.startswith(_BYTE_ORDER_MARK) else 0

    def parse(self) -> Any:
        self._skip_space()
        if self._peek() == _END:
            raise self._error("The document is empty.")
        return self._value()

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else _END

    def _consume(self, text: str) -> bool:
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _skip_space(self) -> None:
        self._match(_WHITE_SPACE)

    def _error(self, message: str, at: int | None = None) -> Exception:
        offset = self._at if at is None else at
        return invalid_argument(f"JSON Parse error: {message} at offset: {offset}")

    def _value(self) -> Any:
        first = self._peek()
        if first == "{":
            return self._object()
        if first == "[":
            return self._array()
        if first == '"':
            return self._string()
        for word, value in (("null", None), ("true", True), ("false", False)):
            if first == word[0]:
                self._word(word)
                return value
        return self._number()

    def _word(self, word: str) -> None:
        for letter in word:
            if not self._consume(letter):
                raise self._error("Invalid value.")

    def _object(self) -> dict[str, Any]:
        self._at += 1
        members: dict[str, Any] = {}
        self._skip_space()
        if self._consume("}"):
            return members
        while True:
            if self._peek() != '"':
                raise self._error("Missing a name for object member.")
            key = self._string()
            self._skip_space()
            if not self._consume(":"):
                raise self._error("Missing a colon after a name of object member.")
            self._skip_space()
            members.setdefault(key, self._value())
            self._skip_space()
            if self._consume("}"):
                return members
            if not self._consume(","):
                raise self._error("Missing a comma or '}' after an object member.")
            self._skip_space()

    def _array(self) -> list[Any]:
        self._at += 1
        items: list[Any] = []
        self._skip_space()
        if self._consume("]"):
            return items
        while True:
            items.append(self._value())
            self._skip_space()
            if self._consume("]"):
                return items
            if not self._consume(","):
                raise self._error("Missing a comma or ']' after an array element.")
            self._skip_space()

    def _string(self) -> str:
        self._at += 1
        parts: list[str] = []
        while True:
            parts.append(self._match(_PLAIN_TEXT))
            if self._consume('"'):
                return "".join(parts).encode("latin-1").decode("utf-8", "surrogateescape")
            if self._peek() == "\\":
                parts.append(self._escape())
            elif self._peek() == _END:
                raise self._error("Missing a closing quotation mark in string.")
            else:
                raise self._error("Invalid encoding in string.")

    def _escape(self) -> str:
        """Return the text that an escape stands for, as UTF-8 with one character per byte."""
        start = self._at
        self._at += 1
        letter = self._peek()
        if letter in _ESCAPES:
            self._at += 1
            return _ESCAPES[letter]
        if not self._consume("u"):
            raise self._error("Invalid escape character in string.", start)
        code = self._hex(start)
        if 0xD800 <= code <= 0xDFFF:
            low = self._hex(start) if code < 0xDC00 and self._consume("\\u") else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        return chr(code).encode().decode("latin-1")

    def _hex(self, start: int) -> int:
        digits = self._match(_HEX)
        if not digits:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        return int(digits, 16)

    def _number(self) -> int | float:
        start = self._at
        sign = -1 if self._consume("-") else 1
        if self._consume("NaN"):
            return float("nan")
        if self._peek() == "I":
            return sign * self._infinity()
        is_integer = True
        if not self._consume("0") and not self._match(_DIGITS):
            raise self._error("Invalid value.")
        if self._consume("."):
            is_integer = False
            if not self._match(_DIGITS):
                raise self._error("Miss fraction part in number.")
        if self._consume("e") or self._consume("E"):
            is_integer = False
            if not self._consume("+"):
                self._consume("-")
            if not self._match(_DIGITS):
                raise self._error("Miss exponent in number.")
        text = self._text[start : self._at]
        if float(text) in (float("inf"), float("-inf")):
            raise self._error("Number too big to be stored in double.", start)
        # A number that is not infinite has at most 309 digits before the point, which `int` takes.
        if is_integer and _INT64_MIN <= int(text) <= _UINT64_MAX:
            return int(text)
        return float(text)

    def _infinity(self) -> float:
        if self._consume("Inf"):
            if self._peek() == "i" and not self._consume("inity"):
                raise self._error("Invalid value.")
            return float("inf")
        self._at += 1
        raise self._error("Invalid value.")
