"""The publisher: events become segments, and what they make of an export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from nann.errors import InvalidFileError, InvalidInputError
from nann.live import (
    Publisher,
    open_base,
    read_segment,
    roll_back,
    segment_numbers,
    segment_path,
    updates_dir,
)
from nann.live._events import EventReader
from nann.live.loop import Totals, prometheus_text, publish_events
from nann.live.segment import decode_segment, encode_segment
from nann.live.sources import open_source
from support import modern_model
from support.live import delete, state_of, upsert, write_export, write_lines

D = 8


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("live"), items=120, share=0.5)


@pytest.fixture
def model_dir(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "nann" / "1"))


def test_new_changed_and_deleted_items(model_dir: Path) -> None:
    base = open_base(model_dir)
    first, second, third = base.ids[:3].tolist()
    row = np.arange(D, dtype=np.float32)
    with Publisher(model_dir) as publisher:
        assert publisher.offset is None
        published = publisher.publish(
            [upsert(10**12, row), upsert(first, row + 1), delete(second)], {"files": {"a": 3}}
        )
        assert (published.segment, published.new, published.deleted, published.refused) == (1, 2, 2, ())
        # The last event of an item counts; an item that is not there is not deleted.
        published = publisher.publish(
            [upsert(third, row), delete(third), delete(12345), delete(second)], {"files": {"a": 7}}
        )
        assert (published.segment, published.new, published.deleted) == (2, 0, 1)
        assert publisher.publish([delete(second)], {"files": {"a": 8}}).segment is None
    state = state_of(model_dir)
    assert (state.applied, state.num_positions, state.num_live) == (2, 122, 119)
    assert state.position_of(second) is None
    assert state.position_of(third) is None
    assert (state.position_of(10**12), state.position_of(first)) == (120, 121)
    np.testing.assert_array_equal(
        state.rows("item_embs", np.array([120, 121, 3])), [row, row + 1, base.tables["item_embs"][3]]
    )
    assert state.segment_of(121) == 1
    assert state.segment_of(7) == 0
    with Publisher(model_dir) as publisher:
        assert publisher.offset == {"files": {"a": 7}}


def with_proxy(folder: Path) -> Path:
    return write_export(folder, items=120, walk="proxy")


def with_item_state(folder: Path) -> Path:
    return write_export(folder, model=modern_model.Modern(), write=modern_model.write_run)


def with_int8_rows(folder: Path) -> Path:
    return write_export(folder, items=120, precision="int8", accuracy=0.1)


def wide(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers of rows of int8 of one block; other rows as they are."""
    if rows.dtype != np.uint8:
        return rows
    return rows[:, 4:].view(np.int8) * np.ascontiguousarray(rows[:, :4]).view(np.float32)


@pytest.mark.parametrize("write", [with_proxy, with_item_state, with_int8_rows])
def test_rows_are_those_of_an_export(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """An item that is published as it is gets the rows that the export has computed."""
    base = open_base(write(tmp_path))
    assert set(base.tables) > {"item_embs"} or base.state
    chosen = np.arange(0, 120, 7)
    events = []
    for position in chosen:
        state = {"item_state": {name: values[position].tolist() for name, values in base.state.items()}}
        events.append(upsert(base.ids[position], base.tables["item_embs"][position], **state))
    with Publisher(base.model_dir) as publisher:
        assert publisher.publish(events, {}).refused == ()
    found = state_of(base.model_dir)
    positions = np.array([found.position_of(item) for item in base.ids[chosen].tolist()])
    assert (positions >= base.num_items).all()
    for table, rows in base.tables.items():
        of_found, of_base = wide(found.rows(table, positions)), wide(rows[chosen])
        np.testing.assert_allclose(of_found, of_base, rtol=1e-5, atol=1e-6)
    for name, values in base.state.items():
        np.testing.assert_array_equal(found.state_rows(name, positions), values[chosen])


def test_links_lead_to_live_items_both_ways(model_dir: Path) -> None:
    random = np.random.default_rng(0)
    base = open_base(model_dir)
    with Publisher(model_dir) as publisher:
        for batch in range(3):
            new = [upsert(10**6 + 10 * batch + i, random.normal(size=D)) for i in range(10)]
            publisher.publish([*new, *map(delete, base.ids[batch * 10 : batch * 10 + 10].tolist())], {})
    state = state_of(model_dir)
    for position in range(120, 150):
        neighbors = state.neighbors(0, position)
        assert neighbors.size
        assert position in np.concatenate([state.neighbors(0, int(n)) for n in neighbors])


def test_a_publisher_begins_where_the_snapshot_ends(tmp_path: Path) -> None:
    model_dir = write_export(tmp_path, items=60, stream_offset={"files": {"a": 7}})
    with Publisher(model_dir) as publisher:
        assert publisher.offset == {"files": {"a": 7}}
        publisher.publish([upsert(5, np.zeros(D))], {"files": {"a": 9}})
    with Publisher(model_dir) as publisher:
        assert publisher.offset == {"files": {"a": 9}}


TYPES = {
    "price": "float32",
    "brand": "string",
    "stock": "int64",
    "tags": "list<string>",
    "sizes": "list<int64>",
    "new": "bool",
}


def with_attributes(model_dir: Path) -> Path:
    """The same export as one with attributes; their files are of no matter here."""
    path = model_dir / "assets.extra/nann_manifest.json"
    manifest = json.loads(path.read_text())
    manifest["attributes"] = {name: {"type": kind, "files": {}} for name, kind in TYPES.items()}
    path.write_text(json.dumps(manifest))
    return model_dir


def test_attributes_become_columns(model_dir: Path) -> None:
    given = {"price": 3.5, "brand": "añb", "stock": 2**60, "tags": ["x", "yz"], "sizes": [], "new": True}
    with Publisher(with_attributes(model_dir)) as publisher:
        events = [
            upsert(1, np.zeros(D), attributes=given),
            upsert(2, np.ones(D)),
            upsert(3, np.ones(D), attributes={"brand": "", "price": None}),
        ]
        assert publisher.publish(events, {}).refused == ()
    columns = read_segment(segment_path(updates_dir(model_dir), 1)).columns
    found = {
        name.removeprefix("attribute/"): column.tolist()
        for name, column in columns.items()
        if "attribute" in name
    }
    assert found == {
        "price/values": [3.5, 0, 0],
        "price/nulls": [0, 1, 1],
        "brand/values": list("añb".encode()),
        "brand/string_splits": [0, 4, 4, 4],
        "brand/nulls": [0, 1, 0],
        "stock/values": [2**60, 0, 0],
        "stock/nulls": [0, 1, 1],
        "tags/row_splits": [0, 2, 2, 2],
        "tags/values": list(b"xyz"),
        "tags/string_splits": [0, 1, 3],
        "tags/nulls": [0, 1, 1],
        "sizes/row_splits": [0, 0, 0, 0],
        "sizes/values": [],
        "sizes/nulls": [0, 1, 1],
        "new/values": [1, 0, 0],
        "new/nulls": [0, 1, 1],
    }


@pytest.mark.parametrize(
    "given",
    [
        {"color": 1},
        [1],
        {"price": "3"},
        {"price": True},
        {"price": 1e39},
        {"price": float("nan")},
        {"stock": 1.5},
        {"stock": 2**63},
        {"brand": 3},
        {"tags": "x"},
        {"tags": [1]},
        {"tags": [None]},
        {"new": 1},
    ],
)
def test_attributes_that_do_not_fit_are_refused(model_dir: Path, given: object) -> None:
    reader = EventReader(open_base(with_attributes(model_dir)))
    with pytest.raises(InvalidInputError, match="attributes: expected"):
        reader.read(upsert(1, np.zeros(D), attributes=given))


def test_the_totals_are_written_for_prometheus(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        text = prometheus_text(Totals(events=3, refused=1, seconds=0.5), publisher.state)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines[:2] == ["nann_publish_events_total 3", "nann_publish_refused_total 1"]
    assert lines[-2:] == ["nann_publish_segment 0", "nann_publish_room 60"]


def test_a_second_publisher_is_refused_and_the_lock_goes_with_the_first(model_dir: Path) -> None:
    with Publisher(model_dir), pytest.raises(InvalidInputError, match="expected no other publisher"):
        Publisher(model_dir)
    with Publisher(model_dir):
        pass


def test_a_full_overlay_says_what_to_do(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        publisher.publish([upsert(10**6 + i, np.full(D, i)) for i in range(60)], {})
        with pytest.raises(InvalidFileError, match=r"room for 1 new items, found 0 of 60\. .*nann compact"):
            publisher.publish([upsert(5, np.zeros(D))], {})
        assert publisher.publish([delete(10**6)], {}).deleted == 1


def test_an_export_without_an_overlay_is_refused(model_dir: Path) -> None:
    path = model_dir / "assets.extra/nann_manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["overlay"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(InvalidFileError, match=r"expected an export with room .* --overlay-share"):
        Publisher(model_dir)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (b"{", "found no JSON"),
        (b"[1]", "found list"),
        (b"{}", "id: expected an integer other than -1, found None"),
        (b'{"id": -1, "delete": true}', "id: expected an integer other than -1"),
        (b'{"id": true, "delete": true}', "id: expected"),
        (b'{"id": 9223372036854775808, "delete": true}', "id: expected an integer of 64 bits"),
        (b'{"id": 1, "delete": 1}', "delete: expected true or false"),
        (b'{"id": 1}', r"embedding: expected float32 \[8\]"),
        (b'{"id": 1, "embedding": [1, 2]}', r"found int64 \[2\]"),
        (b'{"id": 1, "embedding": [[1], 2]}', "different lengths"),
        (b'{"id": 1, "embedding": [1,2,3,4,5,6,7,NaN]}', "finite"),
        (b'{"id": 1, "embedding": [1,2,3,4,5,6,7,1e40]}', "too large"),
        (b'{"id": 1, "embedding": ["a","b","c","d","e","f","g","h"]}', "found str"),
        (
            b'{"id": 1, "embedding": [1,2,3,4,5,6,7,8], "item_state": {"price": 3}}',
            r"item_state: expected \[\]",
        ),
        (b"\xff", "found no JSON"),
        (b"[" * 100_000, "found no JSON"),
    ],
)
def test_a_malformed_event_is_refused(original: Path, event: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EventReader(open_base(original)).read(event)


def test_the_events_beside_a_malformed_one_count(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        published = publisher.publish([b"{", upsert(5, np.zeros(D))], {})
    assert (published.new, len(published.refused)) == (1, 1)


def test_rollback_removes_the_newest_and_never_uses_numbers_again(model_dir: Path) -> None:
    folder = updates_dir(model_dir)
    with Publisher(model_dir) as publisher:
        for i in range(4):
            publisher.publish([upsert(10**6 + i, np.full(D, i))], {"files": {"a": i}})
    assert roll_back(model_dir, 2) == [4, 3]
    assert segment_numbers(folder) == [1, 2]
    with Publisher(model_dir) as publisher:
        assert publisher.offset == {"files": {"a": 1}}
        assert publisher.publish([upsert(7, np.zeros(D))], {}).segment == 5
    assert read_segment(segment_path(folder, 5)).follows == 2
    assert state_of(model_dir).position_of(10**6 + 2) is None
    assert roll_back(model_dir, 0) == [5, 2, 1]
    assert state_of(model_dir).num_live == 120
    with pytest.raises(InvalidInputError, match=r"rollback-to: expected 0 or .*none.*found 3"):
        roll_back(model_dir, 3)
    with Publisher(model_dir) as publisher:
        assert publisher.publish([upsert(7, np.zeros(D))], {}).segment == 6


@pytest.mark.parametrize("damage", ["missing", "cut", "foreign"])
def test_a_damaged_segment_stops_the_replay(model_dir: Path, original: Path, damage: str) -> None:
    folder = updates_dir(model_dir)
    with Publisher(model_dir) as publisher:
        for i in range(3):
            publisher.publish([upsert(10**6 + i, np.full(D, i))], {})
    path = segment_path(folder, 2)
    if damage == "missing":
        path.unlink()
        message = "expected a segment that follows 1, found one that follows 2"
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-64])
        message = "expected .* bytes"
    else:
        content = path.read_bytes()
        path.write_bytes(_of_another_export(content))
        message = "expected a segment of export"
    with pytest.raises(InvalidFileError, match=message):
        state_of(model_dir)
    with pytest.raises(InvalidFileError, match=message):
        Publisher(model_dir)


def _of_another_export(content: bytes) -> bytes:
    return encode_segment(replace(decode_segment(content, "a"), export_id="f" * 32))


def test_files_are_read_as_they_grow(model_dir: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "items.jsonl", [upsert(10**6 + i, np.full(D, i)) for i in range(25)])
    with path.open("ab") as file:
        file.write(b'{"id": 5, "dele')
    with Publisher(model_dir) as publisher:
        source = open_source(str(path), publisher.offset)
        totals = publish_events(publisher, source, segment_items=10, max_delay=0, once=True)
        assert (totals.segments, totals.events, totals.new) == ([1, 3], 25, 25)
    with path.open("ab") as file:
        file.write(b'te": true}\n' + delete(10**6) + b"\n")
    with Publisher(model_dir) as publisher:
        source = open_source(str(path), publisher.offset)
        totals = publish_events(publisher, source, max_delay=0, once=True)
        assert (totals.segments, totals.events, totals.deleted) == ([4], 2, 1)
    # Nothing is read twice.
    with Publisher(model_dir) as publisher:
        assert publish_events(publisher, open_source(str(path), publisher.offset), once=True).events == 0


def test_a_folder_is_read_file_by_file(model_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    write_lines(folder / "b.jsonl", [delete(10**6)])
    write_lines(folder / "a.jsonl", [upsert(10**6, np.zeros(D)), upsert(10**6 + 1, np.ones(D))])
    write_lines(folder / ".c.jsonl", [b"being written"])
    with Publisher(model_dir) as publisher:
        totals = publish_events(publisher, open_source(str(folder), None), segment_items=1, once=True)
    assert (totals.events, totals.refused) == (3, 0)
    state = state_of(model_dir)
    assert state.position_of(10**6) is None
    assert state.position_of(10**6 + 1) == 121
    write_lines(folder / "c.jsonl", [delete(10**6 + 1)])
    with Publisher(model_dir) as publisher:
        totals = publish_events(publisher, open_source(str(folder), publisher.offset), once=True)
    assert (totals.events, totals.deleted) == (1, 1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.jsonl", "expected a file or a folder of events"),
        ("ftp://host/items", "expected a file, a folder, kafka://"),
        ("kafka://host", "expected kafka://HOST/NAME"),
        ("kafka://host/a/b", "expected kafka://HOST/NAME"),
        ("redis://host/", "expected redis://HOST/NAME"),
    ],
)
def test_bad_sources_are_refused(source: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        open_source(source, None)


def test_an_offset_of_another_source_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", [])
    with pytest.raises(InvalidInputError, match="expected a source of kafka"):
        open_source(str(path), {"kafka": {"0": 3}})
