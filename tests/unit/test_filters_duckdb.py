"""Filters let pass the rows that DuckDB's WHERE selects."""

from __future__ import annotations

import itertools
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nann.export.attributes import write_attributes
from nann.ops import evaluate_filter
from support.random_filters import ROWS, RandomFilters

FILTERS_PER_TABLE = 50


@pytest.mark.parametrize("seed", range(20))
def test_random_filters_select_what_duckdb_selects(tmp_path: Path, seed: int) -> None:
    random = RandomFilters(seed)
    table = random.table()
    pq.write_table(table, tmp_path / "attributes.parquet")
    # The items stand in another order than the rows, as after an export that re-orders them.
    item_ids = np.random.default_rng(seed).permutation(table["item_id"].to_numpy())
    attributes = write_attributes(tmp_path, tmp_path, item_ids)
    database = duckdb.connect()
    database.register("items", table)
    selected = 0
    for _ in range(FILTERS_PER_TABLE):
        text = random.filter()
        expected = {row[0] for row in database.execute(f"SELECT item_id FROM items WHERE {text}").fetchall()}
        passes = evaluate_filter(attributes, text, num_rows=ROWS).passes.numpy()
        found = set(item_ids[passes].tolist())
        assert found == expected, f"{text}: {len(found)} rows instead of {len(expected)}"
        selected += 0 < len(found) < ROWS
    assert selected > FILTERS_PER_TABLE // 10  # The filters tell rows apart.


# Integers and decimals of about as many digits as a decimal has, and as a 128-bit integer, and many more.
LONG_NUMBERS = [
    *("1" + "0" * zeros for zeros in (36, 37, 38, 39, 60, 300)),
    *("9" * digits for digits in (37, 38, 39, 40, 300)),
    "170141183460469231731687303715884105727",
    "170141183460469231731687303715884105728",
    "0" * 45 + "5",
    "0" * 45 + "5.5",
    "2" * 39,
    *("5." + "0" * zeros + "1" for zeros in (35, 36, 37, 60)),
    *("." + "0" * zeros + "3" for zeros in (36, 37, 38)),
]


def test_long_numbers_select_what_duckdb_selects(tmp_path: Path) -> None:
    floats = [0.0, 5.0, 5.5, -5.0, 1e37, 1e38, 2.2222222e38, 3e38, 3.4028234e38, -1e38, float("nan"), None]
    ints = [0, 5, -5, 2**63 - 1, -(2**63), 6, None, 1, 2, 3, 4, 7]
    table = pa.table(
        {"item_id": range(12), "f": pa.array(floats, pa.float32()), "i": pa.array(ints, pa.int64())}
    )
    pq.write_table(table, tmp_path / "attributes.parquet")
    attributes = write_attributes(tmp_path, tmp_path, np.arange(12))
    database = duckdb.connect()
    database.register("items", table)
    compared = 0
    for number, sign, name, operator in itertools.product(LONG_NUMBERS, ["", "-"], "fi", ["<", "=", ">="]):
        text = f"{name} {operator} {sign}{number}"
        try:
            rows = database.execute(f"SELECT item_id FROM items WHERE {text}").fetchall()
        except duckdb.Error:
            continue  # It casts the column to a type that its values do not fit.
        passes = evaluate_filter(attributes, text, num_rows=12).passes.numpy()
        assert np.flatnonzero(passes).tolist() == sorted(row[0] for row in rows), text
        compared += 1
    assert compared > 150


def test_items_without_a_row_are_null(tmp_path: Path) -> None:
    table = RandomFilters(1).table()
    pq.write_table(table.slice(0, 50), tmp_path / "attributes.parquet")
    item_ids = table["item_id"].to_numpy()
    attributes = write_attributes(tmp_path, tmp_path, item_ids)
    for name in table.column_names[1:]:
        passes = evaluate_filter(attributes, f"{name} IS NULL", num_rows=ROWS).passes.numpy()
        assert passes[50:].all()
        assert passes[:50].tolist() == table[name].slice(0, 50).is_null().to_pylist()
