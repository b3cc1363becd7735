"""Functions of a model whose Python control flow asks for the values of tensors: TensorFlow's AutoGraph."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

# AutoGraph puts what went wrong into a message: frames, of which an asterisk marks those of converted code,
# then the exception as Python prints it.
_FIRST_LINE = "in user code:"
_FRAME = re.compile(r'^ *File "(?P<file>.+)", line (?P<line>\d+), in .+?(?P<own>  \*)?$', re.MULTILINE)
_EXCEPTION = re.compile(r"^    (?P<type>[\w.]+): (?P<message>(?s:.*))\Z", re.MULTILINE)


def by_autograph_if_needed(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function returns, converted by AutoGraph where it fails in a graph without it.

    The errors and the operations of all other functions stay as their author wrote them.
    """
    try:
        return function(*arguments, **options)
    except TypeError as error:
        if type(error).__name__ != "OperatorNotAllowedInGraphError":
            raise
        return sys.modules["tensorflow"].function(function)(*arguments, **options)


def exception_in(text: str) -> tuple[str, str] | None:
    """The type and the message of the exception in an error of converted code; None: it is none."""
    if not text.startswith(_FIRST_LINE):
        return None
    frames = list(_FRAME.finditer(text))
    found = _EXCEPTION.search(text, frames[-1].end() if frames else 0)
    return None if found is None else (found["type"], found["message"])


def line_in(text: str) -> tuple[str, int] | None:
    """File and line of the model's own code in such an error."""
    frames = [each for each in _FRAME.finditer(text) if each["own"]] if text.startswith(_FIRST_LINE) else []
    return (frames[-1]["file"], int(frames[-1]["line"])) if frames else None
