"""Reads numbers in JSON as RapidJSON does, with its limits, its error texts and its rounding."""

from __future__ import annotations

import re

_DIGITS = re.compile(r"[0-9]*")
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1
_BEYOND_LAST_DIGIT = 1.7976931348623157e307
_MAX_EXPONENT = 308
# From here on RapidJSON takes the digits of a fraction one by one, up to this number of digits in all.
_EXACT_INTEGERS, _MAX_DIGITS = 2**53 - 1, 17
# An exponent of more digits is this small, too.
_TINY_EXPONENT = 214_748_364


class NumberError(Exception):
    """There is no number, or it is too big. `at` is the position that the error is reported at."""

    def __init__(self, message: str, at: int) -> None:
        super().__init__(message)
        self.message = message
        self.at = at


def read_number(text: str, start: int) -> tuple[int | float, int]:
    """Return the number that begins at `start`, and the position behind it.

    Raises:
      NumberError
    """
    at = start + 1 if text.startswith("-", start) else start
    sign = -1 if at > start else 1
    first = text[at : at + 1]
    digits = "0" if first == "0" else _digits(text, at)
    special: float | None = None
    if digits:
        at += len(digits)
    elif first in ("I", "N"):
        special, at = _special(text, at)
    else:
        raise NumberError("Invalid value.", at)
    if not text.startswith((".", "e", "E"), at):
        if special is not None:
            return sign * special, at
        return _whole(sign, digits, start), at
    # Whatever was special about the number is forgotten here.
    fraction = ""
    if text.startswith(".", at):
        fraction = _digits(text, at + 1)
        if not fraction:
            raise NumberError("Miss fraction part in number.", at + 1)
        at += 1 + len(fraction)
    significand, used = _significand(digits or "0", fraction, start, has_minus=sign < 0)
    exponent = 0
    if text.startswith(("e", "E"), at):
        exponent, at = _exponent(text, at + 1, _MAX_EXPONENT + used, start)
    return sign * _scaled(significand, exponent - used), at


def _digits(text: str, at: int) -> str:
    found = _DIGITS.match(text, at)
    return found.group() if found is not None else ""


def _special(text: str, at: int) -> tuple[float, int]:
    """Read NaN, Inf or Infinity. An error is reported behind the letters that fit."""
    at, is_nan = _letters(text, at, "NaN")
    if is_nan:
        return float("nan"), at
    at, is_infinity = _letters(text, at, "Inf")
    if is_infinity and text.startswith("i", at):
        at, is_infinity = _letters(text, at, "inity")
    if not is_infinity:
        raise NumberError("Invalid value.", at)
    return float("inf"), at


def _letters(text: str, at: int, word: str) -> tuple[int, bool]:
    """Return the position behind the letters of `word` that follow, and whether the whole word does."""
    for index, letter in enumerate(word):
        if not text.startswith(letter, at + index):
            return at + index, False
    return at + len(word), True


def _whole(sign: int, digits: str, start: int) -> int | float:
    # Python refuses to convert thousands of digits, and so many are too big anyway.
    if len(digits) > _MAX_EXPONENT + 1 or not _INT64_MIN <= sign * int(digits) <= _UINT64_MAX:
        return sign * _significand(digits, "", start, has_minus=sign < 0)[0]
    return sign * int(digits)


def _significand(digits: str, fraction: str, start: int, *, has_minus: bool) -> tuple[float, int]:
    """Return the digits as a number, and how many digits of the fraction are in it."""
    limit = -_INT64_MIN if has_minus else _UINT64_MAX
    exact = len(digits)
    while exact > len(str(limit)) or int(digits[:exact]) > limit:
        exact -= 1
    value: float = int(digits[:exact] or "0")
    for digit in digits[exact:]:
        if value >= _BEYOND_LAST_DIGIT:
            raise NumberError("Number too big to be stored in double.", start)
        value = float(value) * 10 + int(digit)
    # RapidJSON does not count the first digit.
    used, count = 0, exact - 1
    if exact == len(digits):
        for digit in fraction:
            if value > _EXACT_INTEGERS:
                break
            value, used = value * 10 + int(digit), used + 1
            count += value != 0
    value = float(value)
    for digit in fraction[used:]:
        if count >= _MAX_DIGITS:
            break
        value, used = value * 10.0 + int(digit), used + 1
        count += value > 0
    return float(value), used


def _exponent(text: str, at: int, largest: int, start: int) -> tuple[int, int]:
    is_negative = text.startswith("-", at)
    if text.startswith(("+", "-"), at):
        at += 1
    digits = _digits(text, at)
    if not digits:
        raise NumberError("Miss exponent in number.", at)
    significant = digits.lstrip("0")
    exponent = int(significant or "0") if len(significant) < len(str(_TINY_EXPONENT)) else _TINY_EXPONENT
    if not is_negative and exponent > largest:
        raise NumberError("Number too big to be stored in double.", start)
    return (-exponent if is_negative else exponent), at + len(digits)


def _scaled(significand: float, exponent: int) -> float:
    """Return a number times a power of ten, rounded as RapidJSON rounds: not always to the nearest."""
    if exponent < -_MAX_EXPONENT:
        if exponent + _MAX_EXPONENT < -_MAX_EXPONENT:
            return 0.0
        significand, exponent = significand / 1e308, exponent + _MAX_EXPONENT
    return significand * float(f"1e{exponent}") if exponent >= 0 else significand / float(f"1e{-exponent}")
