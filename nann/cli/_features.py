"""`--feature NAME=VALUE,...`: text on the command line, which the types of the model make values of."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from nann.errors import InvalidInputError

if TYPE_CHECKING:
    from nann.serving.client import TensorSpec


def split_named(text: str) -> tuple[str, str]:
    """`NAME=...` as the name and what it is given; ValueError without a name."""
    name, equals, given = text.partition("=")
    if not name or not equals:
        raise ValueError(text)
    return name, given


def features_of(given: Iterable[tuple[str, str]], inputs: Mapping[str, TensorSpec]) -> dict[str, list[Any]]:
    """Return the values of one user by feature.

    Strings are split at commas, as in a CSV file: quotes keep a comma. Numbers and nested lists are JSON.

    Args:
      given:  names and texts, as `split_named` returns them.
      inputs: types and shapes of the signature that is asked. The text of a name that is not among them is
        read as JSON or else as strings, for the client to refuse.

    Raises:
      InvalidInputError: a name is given twice, or a text is not what the input takes.

    Example:
      >>> from nann.serving.client import TensorSpec
      >>> types = {"city": TensorSpec("string", (-1,)), "hour": TensorSpec("int64", (-1,))}
      >>> features_of([("city", "17"), ("hour", "7")], types)
      {'city': ['17'], 'hour': [7]}
    """
    found: dict[str, list[Any]] = {}
    for name, text in given:
        if name in found:
            raise InvalidInputError(
                f"--feature: expected {name} once, found it twice; separate its values by commas"
            )
        found[name] = _values(name, text, inputs.get(name))
    return found


def _values(name: str, text: str, spec: TensorSpec | None) -> list[Any]:
    values = _json_list(text)
    if spec is None:
        return _strings(text) if values is None else values
    if spec.dtype == "string":
        values = values if text.startswith("[") and values is not None else _strings(text)
    elif values is None:
        raise InvalidInputError(f"--feature: expected values of type {spec.dtype} for {name}, found {text!r}")
    if spec.shape in ((-1,), (-1, 1)) and len(values) != 1:
        raise InvalidInputError(f"--feature: expected one value of {name}, found {len(values)} in {text!r}")
    return values


def _json_list(text: str) -> list[Any] | None:
    for content in (text, f"[{text}]"):
        with contextlib.suppress(ValueError):
            found = json.loads(content)
            return found if isinstance(found, list) else [found]
    return None


def _strings(text: str) -> list[str]:
    return next(csv.reader([text]), []) or [""]
