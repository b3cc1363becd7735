"""Attributes of live items: servers filter by them, compaction writes them, and `nann items` shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError
from nann.live import Publisher, open_base, read_segment, segment_path, updates_dir, write_segment
from nann.live.attribute_values import attribute_values
from nann.live.compact import compact
from nann.ops import load_library
from support.command import run_json
from support.live import BEAMS, delete, state_of, upsert, write_export
from support.live_ops import wait_for
from support.tiny_model import E, L
from support.tiny_run import write_run

D, N = 8, 150
TYPES = {
    "stock": pa.int64(),
    "price": pa.float32(),
    "fresh": pa.bool_(),
    "brand": pa.string(),
    "tags": pa.list_(pa.string()),
    "sizes": pa.list_(pa.int64()),
}
Values = dict[str, Any]


def random_values(random: np.random.Generator, *, words: str, none: float) -> Values:
    """Values of an item; each of them is missing with probability `none`."""
    values = {
        "stock": int(random.integers(0, 9)),
        "price": float(random.integers(0, 100)),
        "fresh": bool(random.random() < 0.5),
        "brand": str(random.choice(list(words))),
        "tags": [str(each) for each in random.choice(list(words), random.integers(0, 4))],
        "sizes": [int(each) for each in random.integers(0, 9, random.integers(0, 4))],
    }
    return {name: value for name, value in values.items() if random.random() >= none}


def of_base(item_id: int) -> Values:
    """No item of the base lacks a price; one tag in some of the base's lists is null."""
    values = random_values(np.random.default_rng(item_id), words="abc", none=0.2)
    if item_id % 7 == 0:
        values["tags"] = ["a", None]
    return {"price": 5.0, **values}


def write_run_with_attributes(folder: Path, **options: Any) -> Path:
    write_run(folder, **options)
    ids = np.load(folder / "embeddings/item_ids.npy").tolist()
    columns = {
        name: pa.array([of_base(item).get(name) for item in ids], kind) for name, kind in TYPES.items()
    }
    pq.write_table(pa.table({"item_id": ids, **columns}), folder / "attributes.parquet")
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return write_export(folder, items=N, walk="proxy", write=write_run_with_attributes)


@pytest.fixture
def model_dir(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "nann" / "1"))


def changed_ids(base_ids: npt.NDArray[np.int64], number: int) -> tuple[list[int], int]:
    """What segment `number` inserts and changes, and what it deletes. The next one changes its third item."""
    new = [10**6 + 2 * number + i for i in range(3)]
    return [*new, int(base_ids[2 * number])], int(base_ids[2 * number + 1])


def values_of(number: int) -> list[Values]:
    random = np.random.default_rng(number)
    return [random_values(random, words="bcdxy", none=0.3) for _ in range(4)]


def publish_changes(model_dir: Path, segments: range) -> None:
    with Publisher(model_dir) as publisher:
        base_ids = np.asarray(publisher.state.base.ids)
        for number in segments:
            ids, gone = changed_ids(base_ids, number)
            embs = np.random.default_rng(number).normal(size=(4, D))
            rows = zip(ids, embs, values_of(number), strict=True)
            events = [upsert(item, emb, attributes=values) for item, emb, values in rows]
            assert publisher.publish([*events, delete(gone)], {"files": {}}).refused == ()


def items_of(model_dir: Path) -> dict[int, Values]:
    """The attributes of the live items as the publisher holds them."""
    state = state_of(model_dir)
    columns = {name: attribute_values(state, name).take(state.live).to_pylist() for name in TYPES}
    return {
        item: {name: columns[name][row] for name in TYPES}
        for row, item in enumerate(state.ids(state.live).tolist())
    }


def expected_items(model_dir: Path, segments: range) -> dict[int, Values]:
    """The same, from what was exported and published."""
    base_ids = np.asarray(open_base(model_dir).ids)
    items = {item: of_base(item) for item in base_ids.tolist()}
    for number in segments:
        ids, gone = changed_ids(base_ids, number)
        items.update(zip(ids, values_of(number), strict=True))
        del items[gone]
    return {item: {name: values.get(name) for name in TYPES} for item, values in items.items()}


FILTERS: dict[str, Callable[[Values], bool]] = {
    "price < 30 AND fresh": lambda v: v["price"] is not None and v["price"] < 30 and v["fresh"] is True,
    "brand IN ('a', 'x')": lambda v: v["brand"] in ("a", "x"),
    "brand IS NULL": lambda v: v["brand"] is None,
    "price IS NULL": lambda v: v["price"] is None,
    "'y' = ANY(tags)": lambda v: "y" in (v["tags"] or []),
    "3 = ANY(sizes) OR stock = 4": lambda v: 3 in (v["sizes"] or []) or v["stock"] == 4,
    "stock >= 0": lambda v: v["stock"] is not None,
}


def answers(exported: Any, text: str) -> tuple[set[int], int, int]:
    """All items that a filter finds, how many pass, and the segment of the answer."""
    found = exported.signatures["retrieve_where"](
        comm_seq=tf.ones([1, L * E]),
        level_topn=tf.constant([[*BEAMS[:-1], 2 * N]]),
        exclude_ids=tf.constant([[-1]], tf.int64),
        filter=tf.constant([text]),
    )
    ids = found["top_k"].numpy()[0]
    return set(ids[ids >= 0].tolist()), int(found["passing"][0]), int(found["applied_segment"][0])


def expect_filters(exported: Any, items: dict[int, Values], segment: int) -> None:
    for text, passes in FILTERS.items():
        wanted = {item for item, values in items.items() if passes(values)}
        assert answers(exported, text) == (wanted, len(wanted), segment), text
    assert answers(exported, "")[1] == len(items)


def test_filters_see_new_and_changed_items_and_no_former_ones(model_dir: Path) -> None:
    load_library()
    exported = tf.saved_model.load(str(model_dir))
    expect_filters(exported, items_of(model_dir), 0)
    # The filters are known to the server now, and each segment changes what passes them.
    for begin, end in ((0, 1), (1, 2), (2, 9)):
        publish_changes(model_dir, range(begin, end))
        wait_for(lambda end=end: answers(exported, "price < 30")[2] == end)
        items = items_of(model_dir)
        assert items == expected_items(model_dir, range(end))
        expect_filters(exported, items, end)
    # A server that is started now replays the segments.
    expect_filters(tf.saved_model.load(str(model_dir)), items, 9)


def test_compaction_keeps_the_attributes(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nann.live.compact as module

    publish_changes(model_dir, range(5))
    verify = module.verify_model

    def publish_meanwhile(staged: Path, **options: Any) -> Any:
        publish_changes(model_dir, range(5, 8))
        return verify(staged, **options)

    monkeypatch.setattr(module, "verify_model", publish_meanwhile)
    out = model_dir.with_name("2")
    assert compact(model_dir, out)["carried"] == 3
    items = items_of(out)
    assert items == expected_items(model_dir, range(8))
    load_library()
    expect_filters(tf.saved_model.load(str(out)), items, 8)


def test_an_export_without_bits_for_null_is_compacted_only_without_null(model_dir: Path) -> None:
    """As exports of an earlier version are, of an attribute that every item had."""
    path = model_dir / "assets.extra/nann_manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["attributes"]["price"]["files"]["valid"]
    path.write_text(json.dumps(manifest))
    with Publisher(model_dir) as publisher:
        publisher.publish([upsert(1, np.ones(D), attributes={"brand": "x"})], {"files": {}})
    with pytest.raises(
        InvalidInputError, match="can have NULL in the attribute price, found one of an earlier"
    ):
        compact(model_dir, model_dir.with_name("2"))


def test_an_item_is_shown_with_its_attributes(model_dir: Path) -> None:
    values = {"price": 2.5, "brand": "é", "tags": []}
    with Publisher(model_dir) as publisher:
        publisher.publish([upsert(1, np.ones(D), attributes=values)], {"files": {}})
    shown = run_json("items", "--model", model_dir, "--id", "1")
    assert shown["attributes"] == {**dict.fromkeys(TYPES), **values}


DAMAGES: dict[str, tuple[npt.NDArray[Any] | None, str]] = {
    "brand/string_splits": (np.array([0, 9], np.int64), "brand/values with 9 values"),
    "price/values": (np.zeros(2, np.float32), "price/values with 1 values"),
    "fresh/values": (np.array([2], np.uint8), "fresh/values of 0 or 1"),
    "stock/values": (np.zeros(1, np.float32), "stock/values as <i8"),
    "sizes/row_splits": (None, "sizes/row_splits with 2 ascending offsets"),
    "price/nulls": (np.array([0, 1], np.uint8), "price/nulls with 1 values of 0 or 1"),
    "color/values": (np.zeros(1, np.int64), "columns of this export, found attribute/color/values"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_columns_that_do_not_fit_stop_the_replay(model_dir: Path, name: str) -> None:
    values = random_values(np.random.default_rng(0), words="b", none=0.0)
    with Publisher(model_dir) as publisher:
        publisher.publish([upsert(1, np.ones(D), attributes=values)], {"files": {}})
    path = segment_path(updates_dir(model_dir), 1)
    segment = read_segment(path)
    damage, message = DAMAGES[name]
    columns = {**segment.columns, f"attribute/{name}": damage}
    whole = {key: column for key, column in columns.items() if column is not None}
    path.unlink()
    write_segment(updates_dir(model_dir), type(segment)(**{**vars(segment), "columns": whole}))
    with pytest.raises(InvalidFileError, match=message):
        state_of(model_dir)
