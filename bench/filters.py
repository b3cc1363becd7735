"""What filters cost: python -m nann.bench.filters [--items N].

Prints, for each filter, how many items pass, and the median time of its first use and of a further one. The
columns are in the page cache, and nothing is kept from one round to the next.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from nann.export.attributes import write_attributes
from nann.ops import AttributeFiles, evaluate_filter
from nann.run import ATTRIBUTES

# Of a laptop's minute; medians of so many agree within a tenth.
ROUNDS = 15
CATEGORIES, BRANDS, TAGS = 100, 5_000, 1_000
# What they show: a bitmap, a sample, lists, strings, a long list of values.
FILTERS = (
    "category IN (3, 7) AND price <= 20",
    "category < 50 AND price <= 80",
    "17 = ANY(tags)",
    "NOT 17 = ANY(tags) AND category = 3",
    "brand LIKE 'brand 12%' AND NOT sale",
    f"brand_id IN ({', '.join(map(str, range(0, BRANDS, 50)))})",
    "price < list_price AND category = 3",
)


def write_columns(folder: Path, items: int) -> list[AttributeFiles]:
    """Attributes of `items` random items: integers, prices, a flag, strings and lists of three."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random = np.random.default_rng(0)
    brand = random.integers(0, BRANDS, items)
    tags = pa.array(random.integers(0, TAGS, 3 * items))
    columns = {
        "item_id": np.arange(items),
        "category": random.integers(0, CATEGORIES, items),
        "price": random.uniform(0, 100, items).astype(np.float32),
        "list_price": random.uniform(0, 100, items).astype(np.float32),
        "sale": random.random(items) < 0.2,
        "brand_id": brand,
        "brand": pa.DictionaryArray.from_arrays(brand, [f"brand {number}" for number in range(BRANDS)]),
        "tags": pa.ListArray.from_arrays(np.arange(0, 3 * items + 1, 3, dtype=np.int32), tags),
    }
    pq.write_table(pa.table(columns), folder / ATTRIBUTES)
    return write_attributes(folder, folder, np.arange(items))


def measure(attributes: list[AttributeFiles], items: int, text: str) -> str:
    """A line of the table in docs/filters.md."""
    rounds = [evaluate_filter(attributes, text, num_rows=items) for _ in range(ROUNDS)]
    first, again = (
        1e3 * float(np.median([float(seconds) for seconds in column]))
        for column in zip(*((each.first_seconds, each.again_seconds) for each in rounds), strict=True)
    )
    passing = int(rounds[0].passing)
    shown = f"{passing:,}" if passing >= 0 else "sampled"
    short = text if len(text) < 60 else f"{text[:40]}... ({text.count(',') + 1} values)"
    return f"| `{short}` | {shown} | {first:.2f} ms | {again:.4f} ms |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m nann.bench.filters", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="N; default 1000000")
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as folder:
        attributes = write_columns(Path(folder), items)
        print("| filter | items that pass | first use | kept |\n|---|---|---|---|")
        for text in FILTERS:
            print(measure(attributes, items, text), flush=True)


if __name__ == "__main__":
    main()
