"""Lists of numbers and JSON on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click


class Parsed(click.ParamType):  # type: ignore[type-arg]  # Generic only in newer releases.
    """A parameter that `parse` reads; its ValueError becomes an error that says what was `expected`."""

    def __init__(self, name: str, parse: Callable[[str], Any], *, expected: str) -> None:
        self.name = name
        self._parse = parse
        self._expected = expected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"expected {self._expected}; found {value!r}", param, ctx)


def list_of(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """A parser of `1,2,3` as a tuple of `kind`."""
    return lambda text: tuple(kind(part) for part in text.split(",") if part.strip())


NUMBERS = Parsed("N,N,...", list_of(int), expected="whole numbers with commas between, such as 3,1")


def _json_object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found


JSON_OBJECT = Parsed("JSON", _json_object, expected="a JSON object")
