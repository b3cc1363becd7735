"""Files of lines `user item item ...`, oldest item first: the format of SASRec and S3-Rec."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from nann.errors import InvalidFileError
from nann.training._building import dataset_from_events
from nann.training._dataset import Dataset
from nann.training._splits import SplitOptions

_LARGEST = 2**63 - 1
# The reference model embeds a category per item; these files have none, so all items share one.
_CATEGORY = 1


def sequences_dataset(path: Path, options: SplitOptions | None = None) -> Dataset:
    """Read lines `user item item ...`, ids of 1 and above; several lines of one user follow each other.

    `user item`, a line per event in order of time, is thus read as well. Empty lines are skipped.

    Raises:
      InvalidFileError: no such file, an empty one, or a line that is not as described.
      InvalidInputError: too few users that have enough events.
    """
    if not path.is_file():
        raise InvalidFileError(
            f"{path}: no such file. Give the path of a file of lines `user item item ...`."
        )
    users, items, counts = [], [], []
    for user, sequence in _lines(path):
        users.append(user)
        items.extend(sequence)
        counts.append(len(sequence))
    if not items:
        raise InvalidFileError(f"{path}: expected lines `user item item ...`, found none.")
    events = pd.DataFrame(
        {
            "user": np.repeat(np.array(users, np.int64), counts),
            "item": np.array(items, np.int64),
            "category": _CATEGORY,
            # The order of the file is the order of time.
            "timestamp": np.arange(len(items)),
        }
    )
    return dataset_from_events(events, source=str(path), options=options)


def _lines(path: Path) -> Iterator[tuple[int, list[int]]]:
    """User and items of each line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            words = line.split()
            if not words:
                continue
            if not all(map(_is_id, words)) or len(words) < 2:
                raise InvalidFileError(
                    f"{path}: line {number}: expected `user item item ...`, numbers from 1 to {_LARGEST}, "
                    f"found {line[:80].decode(errors='replace').rstrip()!r}. Correct or remove the line."
                )
            yield int(words[0]), [int(word) for word in words[1:]]


def _is_id(word: bytes) -> bool:
    # The length comes first: Python refuses to convert thousands of digits.
    return word.isdigit() and len(word) <= len(str(_LARGEST)) and 1 <= int(word) <= _LARGEST
