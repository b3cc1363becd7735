"""Reads JSON as TensorFlow Serving does: with the rules, error texts and byte offsets of RapidJSON.

It differs from Python's `json` in this:

- A byte order mark, and whatever follows the first value, is ignored.
- If an object has a key twice, the first one counts, where one is asked for; a `Members` has all of them.
- `NaN`, `Infinity` and `Inf` are numbers.
- An integer that is neither an int64 nor a uint64 is read as a double.
- Text may be invalid UTF-8. Invalid bytes become surrogate escapes, so that they can be written back.
- Values may be nested as deeply as memory allows, here up to `_MAX_DEPTH`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from nann.serving.server._json_numbers import NumberError, read_number
from nann.serving.server._status import invalid_argument

# Python's parser reads these differently: lone surrogates, and numbers too big for a double or for 64 bits.
# The pattern also finds some that both accept; the slow parser reads these correctly, too.
_NEEDS_OWN_PARSER = re.compile(rb"\\u[dD][89a-fA-F]|[eE]\+?[0-9]{3}|[0-9]{19}")
# RapidJSON skips each of the three bytes on its own.
_BYTE_ORDER_MARK = re.compile(r"\xef?\xbb?\xbf?")
_WHITE_SPACE = re.compile(r"[ \n\r\t]*")
_PLAIN_TEXT = re.compile(r'[^"\\\x00-\x1f]*')
_HEX = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS: dict[str, tuple[str, Any]] = {"n": ("null", None), "t": ("true", True), "f": ("false", False)}
_END = "\0"
# The real server reads deeper values and then overflows its stack. A body must not take a hundred times its
# size in memory.
_MAX_DEPTH = 100_000
_NO_NAME = "Missing a name for object member."
_NO_VALUE = "Invalid value."
_BAD_ESCAPE = "Invalid escape character in string."


class Members(dict[str, Any]):
    """A JSON object that has a key more than once. As a dictionary it has the first value of each key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.pairs = pairs
        for key, value in pairs:
            self.setdefault(key, value)


def members(value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    """Return all keys and values of a JSON object, equal keys included."""
    return value.pairs if isinstance(value, Members) else value.items()


def parse_json(body: bytes) -> Any:
    """Return the first JSON value in `body`.

    Raises:
      StatusError: INVALID_ARGUMENT, with RapidJSON's description of the error and its byte offset; or the
        values are nested too deeply.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    if not _NEEDS_OWN_PARSER.search(body):
        try:
            return _fast(body)
        except (ValueError, RecursionError):
            pass
    return _Parser(body).parse()


def _fast(body: bytes) -> Any:
    """Parse with Python's parser, which is many times faster than ours.

    Raises:
      ValueError, RecursionError: Python's parser refuses the body; RapidJSON may accept it, or has another
        error text.
    """
    return json.loads(body.decode("utf-8", "surrogateescape"), object_pairs_hook=_as_object)


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Members(pairs)


class _Open:
    """An array or object that is not closed yet: its items, or an object's pairs and the next one's key."""

    def __init__(self, *, is_array: bool) -> None:
        self.is_array = is_array
        self.items: list[Any] = []
        self.key = ""

    def add(self, value: Any) -> None:
        self.items.append(value if self.is_array else (self.key, value))

    def close(self) -> Any:
        return self.items if self.is_array else _as_object(self.items)


class _Parser:
    """A parser without recursion.

    It reads the body as Latin-1: each byte is one character, so that positions are byte offsets.
    """

    def __init__(self, body: bytes) -> None:
        self._text = body.decode("latin-1")
        self._at = 0
        self._match(_BYTE_ORDER_MARK)
        self._open: list[_Open] = []

    def parse(self) -> Any:
        self._skip_space()
        if self._peek() in (_END, *"]},:"):
            raise self._error("The document is empty.")
        while True:
            if self._peek() in ("[", "{"):
                if self._begin():
                    continue
                value = self._end()
            else:
                value = self._scalar()
            while self._open:
                self._open[-1].add(value)
                if self._goes_on():
                    break
                value = self._end()
            else:
                return value

    def _begin(self) -> bool:
        """Open an array or object; return whether it has a value, which is next."""
        if len(self._open) == _MAX_DEPTH:
            raise invalid_argument("JSON values are nested too deeply")
        opened = _Open(is_array=self._peek() == "[")
        self._open.append(opened)
        self._at += 1
        self._skip_space()
        if self._peek() == ("]" if opened.is_array else "}"):
            return False
        if not opened.is_array:
            self._key()
        return True

    def _goes_on(self) -> bool:
        """Return whether another value follows in the innermost array or object, and go to it."""
        opened = self._open[-1]
        self._skip_space()
        if self._peek() == ("]" if opened.is_array else "}"):
            return False
        if not self._consume(","):
            raise self._error(
                "Missing a comma or ']' after an array element."
                if opened.is_array
                else "Missing a comma or '}' after an object member."
            )
        self._skip_space()
        if not opened.is_array:
            self._key()
        return True

    def _end(self) -> Any:
        self._at += 1
        return self._open.pop().close()

    def _key(self) -> None:
        """Read a key and the colon behind it."""
        if self._peek() != '"':
            raise self._error(_NO_NAME)
        self._open[-1].key = self._string()
        self._skip_space()
        if not self._consume(":"):
            raise self._error("Missing a colon after a name of object member.")
        self._skip_space()

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

    def _scalar(self) -> Any:
        first = self._peek()
        if first == '"':
            return self._string()
        if first in _WORDS:
            word, value = _WORDS[first]
            for letter in word:
                if not self._consume(letter):
                    raise self._error(_NO_VALUE)
            return value
        try:
            number, self._at = read_number(self._text, self._at)
        except NumberError as error:
            raise self._error(error.message, error.at) from error
        return number

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
                raise self._error(_BAD_ESCAPE)

    def _escape(self) -> str:
        """Return the text that an escape stands for, as UTF-8 with one character per byte."""
        start = self._at
        self._at += 1
        letter = self._peek()
        if letter in _ESCAPES:
            self._at += 1
            return _ESCAPES[letter]
        if not self._consume("u"):
            raise self._error(_BAD_ESCAPE, start)
        code = self._hex(start)
        if 0xD800 <= code < 0xDC00:
            low = self._hex(start) if self._consume("\\u") else 0
            if not 0xDC00 <= low <= 0xDFFF:
                raise self._error("The surrogate pair in string is invalid.", start)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        # The second half of a pair alone is accepted, and becomes three bytes that are not UTF-8.
        return chr(code).encode("utf-8", "surrogatepass").decode("latin-1")

    def _hex(self, start: int) -> int:
        digits = self._match(_HEX)
        if not digits:
            raise self._error("Incorrect hex digit after \\u escape in string.", start)
        return int(digits, 16)
