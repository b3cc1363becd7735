"""`attributes.parquet`: item_id, and what is known of items in one typed column each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from nann.files import link_or_copy, staged_file
from nann.run import ATTRIBUTES
from nann.training._dataset import Dataset


def category_table(dataset: Dataset) -> Any:
    """item_id and category, int64 each; without the category where the items have none."""
    columns = {"item_id": dataset.item_ids}
    if dataset.item_cates.all(where=np.arange(dataset.num_items + 1) > 0):
        columns["category"] = dataset.cate_ids[dataset.item_cates[1:] - 1]
    return pa.table(columns)


def write_attributes(path: Path, table: Any) -> None:
    """Write an Arrow table; a reader sees the whole file or none."""
    with staged_file(path) as staged:
        pyarrow.parquet.write_table(table, staged)


def carry_attributes(data_dir: Path, run_dir: Path) -> None:
    """Give the run the attributes of its data set, unless it has some of its own.

    Example: `carry_attributes(Path("DATA"), Path("RUN"))` makes `RUN/attributes.parquet`.
    """
    source, target = data_dir / ATTRIBUTES, run_dir / ATTRIBUTES
    if source.exists() and not target.exists():
        with staged_file(target) as staged:
            link_or_copy(source, staged)
