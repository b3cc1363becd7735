"""tools/filter_quality.py gives the items attributes of its own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TOOL = Path(__file__).parents[2] / "tools/filter_quality.py"


def load_tool() -> Any:
    spec = importlib.util.spec_from_file_location("filter_quality", TOOL)
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_a_run_with_attributes_keeps_them_and_is_measured_with_others(tmp_path: Path) -> None:
    run, out = tmp_path / "RUN", tmp_path / "OUT/run"
    (run / "embeddings").mkdir(parents=True)
    np.save(run / "embeddings/item_ids.npy", np.arange(900))
    embs = np.random.default_rng(0).random((900, 8)).astype(np.float32)
    np.save(run / "embeddings/item_embs.npy", embs)
    own = pa.table({"item_id": np.arange(900), "price": np.ones(900)})
    pq.write_table(own, run / "attributes.parquet")
    tool = load_tool()
    for _ in range(2):  # The second time it takes what is there.
        tool.link_run(run, out)
        columns = tool.write_attributes(out)
        assert {"item_id", "random", "category", "axis_0"} <= columns.keys()
        assert "price" not in columns
        filters = list(tool.filters(columns, np.arange(20)))
        assert {kind for kind, *_ in filters} == {"random", "category", "taste", "against taste"}
    np.testing.assert_array_equal(np.load(out / "embeddings/item_embs.npy"), embs)
    assert pq.read_table(run / "attributes.parquet").equals(own)
