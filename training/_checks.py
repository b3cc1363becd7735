"""Checks of options and of data sets: the first expectation that does not hold is the error."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nann.errors import InvalidFileError, InvalidInputError

PREPARE = "Run `nann data prepare` again."


def check_options(name: str, expectations: Mapping[str, bool], options: object) -> None:
    """Raise InvalidInputError for the first expectation that `options`, called `name`, do not meet."""
    for expectation, holds in expectations.items():
        if not holds:
            raise InvalidInputError(f"{name}: expected {expectation}, found {options}.")


def check_files(place: Path, expectations: Mapping[str, bool]) -> None:
    """Raise InvalidFileError for the first expectation that the file or folder `place` does not meet."""
    for expectation, holds in expectations.items():
        if not holds:
            raise InvalidFileError(f"{place}: expected {expectation}, found otherwise. {PREPARE}")
