"""Columns beyond the five: read by a schema file, kept as arrays and as attributes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.errors import InvalidFileError
from nann.training import PrepareOptions, prepare_data
from nann.training.ingest import _prepare
from nann.training.ingest._blocks import Block, Position
from nann.training.ingest._schema import Field, Schema
from nann.training.ingest._text import _Careful, parse

COLUMNS: list[dict[str, Any]] = [
    {"name": "user"},
    {"name": "item"},
    {"name": "when", "role": "timestamp", "of": "event"},
    {"name": "city", "of": "user", "type": "string"},
    {"name": "price", "of": "item", "type": "float32"},
    {"name": "tags", "of": "item", "type": "string", "list": "|"},
    {"name": "sold", "of": "item", "type": "bool"},
    {"name": "device", "of": "event", "type": "id"},
    {"name": "note"},
    {"name": "scores", "of": "event", "type": "int64", "list": " "},
]
TEXT = """\
7,30,3,Rome,1.5,a|b,true,9,x,1 2
7,10,1,Oslo,2.5,,false,8,x,
5,20,1,,,b,,9,"quoted, twice",3
5,30,2,Paris,3.5,c|a,1,,x,
7,20,2,Oslo,,a,0,7,x,-4 5 6
5,10,9,Nice,4.5,b,true,9,x,7
"""


def _schema(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps({"columns": COLUMNS, **changes}))
    return path


def _check(folder: Path) -> None:
    from nann.training import read_dataset

    data = read_dataset(folder)
    assert data.item_ids[data.events - 1].tolist() == [20, 30, 10, 10, 20, 30]
    city, price, tags = (data.columns[name] for name in ("city", "price", "tags"))
    assert city.vocabulary is not None
    # Of users the value of the last event counts, of items that of the last row.
    assert city.vocabulary.tolist() == ["Nice", "Rome"]
    assert [city.vocabulary[row - 1] for row in city.values.tolist()] == ["Nice", "Rome"]
    assert np.array_equal(price.values, np.array([np.nan, 4.5, np.nan, 3.5], np.float32), equal_nan=True)
    assert tags.vocabulary is not None
    assert tags.row_splits is not None
    words = [
        [tags.vocabulary[row - 1] for row in part] for part in np.split(tags.values, tags.row_splits[1:-1])
    ]
    assert words == [[], ["b"], ["a"], ["c", "a"]]
    assert tags.padded(np.array([3, 0]), 3).tolist() == [[3, 1, 0], [0, 0, 0]]
    assert data.columns["sold"].values.tolist() == [False, True, False, True]
    device = data.columns["device"]
    assert device.vocabulary is not None
    assert device.vocabulary.tolist() == [7, 8, 9]
    assert device.values.tolist() == [3, 0, 3, 2, 1, 3]
    scores = data.columns["scores"]
    assert scores.row_splits is not None
    assert [part.tolist() for part in np.split(scores.values, scores.row_splits[1:-1])] == [
        *([3], [], [7]),
        *([], [-4, 5, 6], [1, 2]),
    ]
    assert data.columns["when"].values.tolist() == [1, 2, 9, 1, 2, 3]
    assert "note" not in data.columns
    table = pyarrow.parquet.read_table(folder / "attributes.parquet")
    assert table.schema.field("tags").type == pa.list_(pa.string())
    assert table.to_pydict() == {
        "item_id": [10, 20, 30],
        "price": [4.5, None, 3.5],
        "tags": [["b"], ["a"], ["c", "a"]],
        "sold": [True, False, True],
    }


@pytest.mark.parametrize("block_bytes", [40, 2**25])
@pytest.mark.parametrize("header", [False, True])
def test_every_type_and_owner_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, header: bool
) -> None:
    monkeypatch.setattr(_prepare, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(_prepare, "_BYTES_PER_PARTITION", 60 if block_bytes < 100 else 2**26)
    names = ",".join(each["name"] for each in COLUMNS) + "\n"
    (tmp_path / "a.csv").write_text((names if header else "") + TEXT)
    options = PrepareOptions(schema=_schema(tmp_path, header=header), strict=True)
    prepare_data(str(tmp_path / "a.csv"), tmp_path / "out", options)
    _check(tmp_path / "out")


def test_parquet_has_lists_of_its_own(tmp_path: Path) -> None:
    names = [each["name"] for each in COLUMNS]
    rows = [line.split(",") for line in TEXT.replace('"quoted, twice"', "x").splitlines()]
    texts = dict(zip(names, zip(*rows, strict=True), strict=True))

    def typed(name: str, convert: Any, kind: pa.DataType) -> pa.Array:
        return pa.array([convert(text) if text else None for text in texts[name]], kind)

    table = pa.table(
        {
            **{name: typed(name, int, pa.int32()) for name in ("user", "item", "when", "device")},
            **{name: typed(name, str, pa.large_string()) for name in ("city", "note")},
            "price": typed("price", float, pa.float64()),
            "tags": typed("tags", lambda text: text.split("|"), pa.large_list(pa.string())),
            "sold": typed("sold", lambda text: text in ("1", "true"), pa.bool_()),
            "scores": typed(
                "scores", lambda text: [int(word) for word in text.split()], pa.list_(pa.int32())
            ),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    options = PrepareOptions(schema=_schema(tmp_path), strict=True)
    prepare_data(str(tmp_path / "a.parquet"), tmp_path / "out", options)
    _check(tmp_path / "out")


@pytest.mark.parametrize(
    ("line", "column", "expected"),
    [
        ("5,30,2,Paris,dear,c|a,1,,x,", "price", "a float32 in column price"),
        ("5,30,2,Paris,3.5,c|a,maybe,,x,", "sold", "a bool in column sold"),
        ("5,30,2,Paris,3.5,c|a,1,nine,x,", "device", "a id in column device"),
        ("5,30,2,Paris,3.5,c|a,1,,x,1 two", "scores", "a list of int64 in column scores"),
    ],
)
def test_a_value_of_another_type_is_a_bad_row(tmp_path: Path, line: str, column: str, expected: str) -> None:
    (tmp_path / "a.csv").write_text(TEXT.replace("5,10,9", f"{line}\n5,10,9"))
    schema = _schema(tmp_path)
    data = prepare_data(str(tmp_path / "a.csv"), tmp_path / "out", PrepareOptions(schema=schema))
    (bad,) = data.meta["bad_rows"]
    assert (bad["kind"], bad["rows"], bad["first_line"]) == ("not a value of the column's type", 1, 6)
    assert bad["first_column"] == column
    _check(tmp_path / "out")
    with pytest.raises(InvalidFileError, match=f"line 6: expected {expected}"):
        prepare_data(str(tmp_path / "a.csv"), tmp_path / "b", PrepareOptions(schema=schema, strict=True))


# What text a column of each type may hold in a file of a careless writer.
CELLS = st.sampled_from(
    [
        *("1", "-7", " 12 ", "007", "1.5", "-0.25", "1e3", "nan", "inf", "true", "false", "0", "", " ", "x"),
        *(
            "9223372036854775807",
            "9223372036854775808",
            "TRUE",
            "1e400",
            "+3",
            "--1",
            "1,5",
            "é",
            "\t4",
            "a b",
        ),
    ]
)
KINDS = ["int64", "id", "float32", "bool", "string"]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([None, " ", "|"]),
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6),
)
def test_a_row_is_judged_alike_in_a_clean_block_and_among_bad_rows(
    kind: str, separator: str | None, cells: list[tuple[str, str, str]]
) -> None:
    fields = (Field("user", "user"), Field("item", "item"), Field("timestamp", "timestamp"))
    schema = Schema((*fields, Field("x", None, "event", kind, separator)), delimiter=";")
    lines = [f"{user};3;{time};{cell}\n".encode() for user, time, cell in cells]

    def rows_of(data: bytes, *, careful: bool) -> list[Any]:
        block = Block(Path("a.csv"), 1, data, Position(), 0)
        table, _ = _Careful(block, data, schema).parse() if careful else parse(block, schema)
        rows = zip(*table.drop_columns(["line"]).to_pydict().values(), strict=True)
        return [repr(row) for row in rows]

    alone = [row for line in lines for row in rows_of(line, careful=False)]
    assert rows_of(b"".join(lines), careful=False) == alone
    assert rows_of(b"".join(lines), careful=True) == alone


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, "a list `columns`"),
        ({"columns": [{"name": "user"}, {"name": "item"}]}, "columns user, item, timestamp"),
        ({"columns": [*COLUMNS, {"name": "user"}]}, "each column once"),
        ({"columns": [*COLUMNS, {"name": "u", "role": "user"}]}, "each role once"),
        ({"columns": [*COLUMNS, {"name": "y", "of": "shop"}]}, "`of` of user, item, event"),
        ({"columns": [*COLUMNS, {"name": "y", "of": "item", "type": "int"}]}, "a type of int64"),
        ({"columns": [*COLUMNS, {"name": "y", "of": "item", "list": "||"}]}, "a separator of one character"),
        ({"columns": [*COLUMNS, {"name": "../y", "of": "item"}]}, "a column's name"),
        ({"columns": [*COLUMNS, {"nom": "y"}]}, "keys name, role"),
        ({"columns": [*COLUMNS, "y"]}, "a column as an object"),
        ({"columns": COLUMNS, "delimiter": "\n"}, "a delimiter of one ASCII character"),
        ({"columns": COLUMNS, "headers": True}, "keys columns, header"),
        ({"columns": COLUMNS, "behaviours": "pv"}, "a list of strings"),
        ([], "a JSON object"),
    ],
)
def test_a_malformed_schema_is_refused(tmp_path: Path, content: Any, expected: str) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(content))
    (tmp_path / "a.csv").write_text(TEXT)
    with pytest.raises(InvalidFileError, match=r"schema\.json: expected") as error:
        prepare_data(
            str(tmp_path / "a.csv"), tmp_path / "out", PrepareOptions(schema=tmp_path / "schema.json")
        )
    assert expected in str(error.value)


def test_a_header_that_is_not_the_schemas_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TEXT)
    with pytest.raises(InvalidFileError, match=r"a\.csv: line 1: expected the header user,item,when"):
        prepare_data(
            str(tmp_path / "a.csv"), tmp_path / "out", PrepareOptions(schema=_schema(tmp_path, header=True))
        )
