"""Filters let pass the rows that DuckDB's WHERE selects."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
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


def test_items_without_a_row_are_null(tmp_path: Path) -> None:
    table = RandomFilters(1).table()
    pq.write_table(table.slice(0, 50), tmp_path / "attributes.parquet")
    item_ids = table["item_id"].to_numpy()
    attributes = write_attributes(tmp_path, tmp_path, item_ids)
    for name in table.column_names[1:]:
        passes = evaluate_filter(attributes, f"{name} IS NULL", num_rows=ROWS).passes.numpy()
        assert passes[50:].all()
        assert passes[:50].tolist() == table[name].slice(0, 50).is_null().to_pylist()
