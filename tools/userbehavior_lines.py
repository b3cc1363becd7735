"""userbehavior_lines.py LINES FILE: writes made-up lines of Taobao's UserBehavior format, to measure with.

As many lines per user and per item as the real file has (100,150,807 lines, 987,994 users, 4,162,024 items,
9,439 categories), item popularity by a power law, nine days of time stamps. The lines are in random order:
neighbours are of different users, which is the hardest order to sort.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

LINES_PER_USER, LINES_PER_ITEM, ITEMS_PER_CATEGORY = 101, 24, 441
BEHAVIOURS = pa.array(["pv", "cart", "fav", "buy"])
SHARES = (0.895, 0.055, 0.029, 0.021)
FIRST_SECOND, SECONDS = 1_511_539_200, 9 * 86_400
CHUNK = 1_000_000


def write(lines: int, path: Path) -> None:
    """Write `lines` lines to `path`; the same number gives the same lines."""
    users, items = max(1, lines // LINES_PER_USER), max(1, lines // LINES_PER_ITEM)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, lines, CHUNK):
            count = min(CHUNK, lines - start)
            # The inverse of a distribution function ~ rank ** 0.3, and ids in no order of popularity.
            item = (items * rng.random(count) ** 3.3).astype(np.int64) * 7_919 % items + 1
            columns = {
                "user": rng.integers(1, users + 1, count),
                "item": item,
                "category": item % (items // ITEMS_PER_CATEGORY + 1) + 1,
                "behaviour": BEHAVIOURS.take(pa.array(rng.choice(4, count, p=SHARES))),
                "timestamp": FIRST_SECOND + rng.integers(0, SECONDS, count),
            }
            pyarrow.csv.write_csv(pa.table(columns), file, options)


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
