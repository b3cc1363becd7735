"""Blocks of lines `user item item ...`, oldest item first: the format of SASRec and S3-Rec."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from nann.training.ingest import _rows as rows
from nann.training.ingest._blocks import Block
from nann.training.ingest._rows import BadRow, BadRows
from nann.training.ingest._schema import CATEGORY, ITEM, TIMESTAMP, USER
from nann.training.ingest._text import LINE

_LARGEST = 2**63 - 1
_EXPECTED = f"`user item item ...`, numbers from 1 to {_LARGEST}"
_SHOWN = 80


def parse(block: Block) -> tuple[pa.Table, BadRows]:
    """A row per event, in the order of the file, with the columns of `_text.parse` for the default schema.

    The time stamps are all the same, so that the order of the file is the order of time. The reference model
    embeds a category per item; these files have none, so all items share one.
    """
    users: list[int] = []
    items: list[int] = []
    counts: list[int] = []
    bad: dict[str, BadRow] = {}
    for number, line in enumerate(block.data.split(b"\n")[:-1]):
        words = line.split()
        if not words:
            continue
        if len(words) < 2 or not all(map(_is_id, words)):
            text = line[:_SHOWN].decode(errors="replace").strip()
            found = BadRow(1, str(block.path), block.line + number, "", text, _EXPECTED)
            bad = rows.merge_bad(bad, {rows.SEQUENCE: found})
            continue
        users.append(int(words[0]))
        items.extend(map(int, words[1:]))
        counts.append(len(words) - 1)
    columns = {
        USER: np.repeat(np.array(users, np.int64), counts),
        ITEM: np.array(items, np.int64),
        CATEGORY: np.ones(len(items), np.int64),
        TIMESTAMP: np.zeros(len(items), np.int64),
        LINE: np.arange(len(items), dtype=np.int32),
    }
    return pa.table(columns), bad


def _is_id(word: bytes) -> bool:
    # The length comes first: Python refuses to convert thousands of digits.
    return word.isdigit() and len(word) <= len(str(_LARGEST)) and 1 <= int(word) <= _LARGEST
