"""RUN/attributes.parquet and the files that become of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from nann.errors import InvalidFileError
from nann.export.attributes import check_attributes, write_attributes
from nann.ops import AttributeFiles, evaluate_filter

IDS = np.array([1, 2, 3, 4])


def write(folder: Path, **columns: Any) -> list[AttributeFiles]:
    pq.write_table(pa.table({"item_id": [3, 1, 2], **columns}), folder / "attributes.parquet")
    return write_attributes(folder, folder, IDS)


def passing(attributes: list[AttributeFiles], text: str) -> list[int]:
    passes = evaluate_filter(attributes, text, num_rows=IDS.size).passes.numpy()
    return [int(item) for item in IDS[passes]]


def test_a_run_without_the_file_has_no_attributes(tmp_path: Path) -> None:
    assert write_attributes(tmp_path, tmp_path, IDS) == []
    check_attributes(tmp_path, IDS)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([1, 2, 3], pa.int8()), "int64"),
        (pa.array([1, 2, 3], pa.uint32()), "int64"),
        (pa.array([1.5, 2, 3], pa.float64()), "float32"),
        (pa.array([True, None, False]), "bool"),
        (pa.array(["x", "y", "x"]).dictionary_encode(), "string"),
        (pa.array(["x", None, ""], pa.large_string()), "string"),
        (pa.array([[1], [], None], pa.list_(pa.int32())), "list<int64>"),
        (pa.array([[1, 2], [3, 4], [5, None]], pa.list_(pa.float32(), 2)), "list<float32>"),
        (pa.array([["x", None], [], None]), "list<string>"),
        (pa.chunked_array([[1, 2], [3]]), "int64"),
    ],
)
def test_types(tmp_path: Path, values: Any, kind: str) -> None:
    attributes = write(tmp_path, a=values)
    check_attributes(tmp_path, IDS)
    assert [(each.name, each.type) for each in attributes] == [("a", kind)]
    null = [item for item, value in zip([3, 1, 2], values.to_pylist(), strict=True) if value is None]
    assert passing(attributes, "a IS NULL") == sorted([*null, 4])


def test_values_follow_their_items(tmp_path: Path) -> None:
    attributes = write(tmp_path, price=[30.0, 10.0, 20.0], tags=[["c"], ["a", "z"], []], s=["c", "a", None])
    assert passing(attributes, "price <= 20") == [1, 2]
    assert passing(attributes, "s >= 'b'") == [3]
    assert passing(attributes, "'z' = ANY(tags)") == [1]


def test_values_without_nulls_have_no_bitmap(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": IDS, "a": IDS}), tmp_path / "attributes.parquet")
    (attribute,) = write_attributes(tmp_path, tmp_path, IDS)
    assert set(attribute.files) == {"values"}


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    attributes = write(tmp_path, **{"a/b": [1, 2, 3], "a.b": [4, 5, 6], "größe": [7, 8, 9]})
    assert len({path for each in attributes for path in each.files.values()}) == 6
    assert passing(attributes, '"a/b" = 2 AND "a.b" = 5 AND größe = 8') == [1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"t": pa.array([1, 2, 3], pa.timestamp("s"))}, "found timestamp.*such as seconds since 1970"),
        ({"t": pa.array([1, 2, 3]).cast(pa.decimal128(30, 2))}, "found decimal.*such as cents"),
        ({"t": [[[1]], [], []]}, "Lists of lists are not read"),
        ({"t": [{"x": 1}, None, None]}, "Store each field as a column"),
        ({"t": pa.nulls(3)}, "give it a type"),
        ({"t": [b"x", b"y", b"z"]}, "Store it as a string"),
        ({"t": pa.array([2**63, 1, 2], pa.uint64())}, "column t: expected values that int64 holds"),
        ({"t": [123456789.0, 1.0, 2.0]}, "column t: expected values that float32 holds.*123456789.0"),
        ({"price": [1, 2, 3], "Price": [1, 2, 3]}, "differ by more than the case.*'price' 2 times"),
    ],
)
def test_columns_that_cannot_be_attributes(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidFileError, match=f"(?s)attributes.parquet: .*{message}"):
        write(tmp_path, **columns)


@pytest.mark.parametrize(
    ("item_ids", "message"),
    [
        ([3, 1, 3], "one row per item, found 1 items with several: 3"),
        ([3, 1, 9], "found 1 others: 9"),
        ([3, 1, None], "without NULL"),
        (["3", "1", "2"], "item_id of type int64"),
    ],
)
def test_items_that_do_not_fit(tmp_path: Path, item_ids: list[Any], message: str) -> None:
    pq.write_table(pa.table({"item_id": item_ids, "a": [1, 2, 3]}), tmp_path / "attributes.parquet")
    for function in (check_attributes, lambda run, ids: write_attributes(run, run, ids)):
        with pytest.raises(InvalidFileError, match=message):
            function(tmp_path, IDS)


def test_a_shard_ignores_the_items_of_others(tmp_path: Path) -> None:
    pq.write_table(pa.table({"item_id": [9, 1], "a": [5, 6]}), tmp_path / "attributes.parquet")
    attributes = write_attributes(tmp_path, tmp_path, IDS, of_part=True)
    assert passing(attributes, "a = 6") == [1]
    assert passing(attributes, "a = 5") == []


def test_files_that_are_no_attributes(tmp_path: Path) -> None:
    path = tmp_path / "attributes.parquet"
    path.write_bytes(b"PAR1 or not")
    with pytest.raises(InvalidFileError, match="expected a Parquet file"):
        write_attributes(tmp_path, tmp_path, IDS)
    pq.write_table(pa.table({"id": [1]}), path)
    with pytest.raises(InvalidFileError, match="expected one column item_id, found id"):
        write_attributes(tmp_path, tmp_path, IDS)


def test_filters_have_errors_with_a_column(tmp_path: Path) -> None:
    attributes = write(tmp_path, price=[1, 2, 3])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"filter, column 1: .*did you mean price"):
        passing(attributes, "prize < 3")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    attributes = write(tmp_path, price=[1, 2, 3])
    np.save(tmp_path / "attribute_price.npy", np.zeros(3, np.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"attribute_price.npy: expected 4 values"):
        passing(attributes, "price < 3")
