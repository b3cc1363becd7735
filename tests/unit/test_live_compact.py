"""Compaction: base and segments become a base, and what is published meanwhile is carried over."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.manifest import read_manifest
from nann.live import Publisher, open_base, segment_numbers, updates_dir
from nann.live.compact import compact
from nann.ops import load_library
from support.live import delete, items_of, upsert, write_export
from support.tiny_model import E, L

D = 8


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    return write_export(folder, items=150, walk="proxy", precision="int8", accuracy=0.5)


@pytest.fixture
def model_dir(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "nann" / "1"))


def change(publisher: Publisher, number: int) -> None:
    """Three new items, one of them changed the next time, and two deleted ones."""
    random = np.random.default_rng(number)
    ids = publisher.state.base.ids[2 * number : 2 * number + 2].tolist()
    new = [upsert(10**6 + 2 * number + i, random.normal(size=D)) for i in range(3)]
    publisher.publish([*new, *map(delete, ids)], {"files": {"a": number}})


def test_the_new_version_has_the_items_and_the_offset(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        for number in range(5):
            change(publisher, number)
    before = items_of(model_dir)
    out = model_dir.with_name("2")
    result = compact(model_dir, out)
    assert (result["num_items"], result["segment"], result["carried"]) == (len(before), 5, 0)
    assert items_of(out) == before
    base = open_base(out)
    assert base.export_id != open_base(model_dir).export_id
    assert read_manifest(out)["index"]["num_items"] == len(before) == base.graph.meta.num_items
    with Publisher(out) as publisher:
        assert (publisher.offset, publisher.state.applied) == ({"files": {"a": 4}}, 5)
        assert publisher.state.room == base.capacity
        assert publisher.publish([upsert(3, np.zeros(D))], {}).segment == 6
    # What does not depend on the items is the same file.
    for name in ("variables/variables.index", "assets.extra/nann_item/saved_model.pb"):
        assert os.path.samefile(out / name, model_dir / name)


def test_servers_of_both_versions_score_alike(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        change(publisher, 0)
    out = model_dir.with_name("2")
    compact(model_dir, out)
    with Publisher(out) as publisher:
        publisher.publish([upsert(5, np.ones(D))], {})
    load_library()
    scores, applied = [], []
    for version in (model_dir, out):
        exported = tf.saved_model.load(str(version))
        ids = tf.constant([[10**6, 10**6 + 2, 5]], tf.int64)
        answer = exported.signatures["score"](comm_seq=tf.ones([1, L * E]), item_ids=ids)
        scores.append(answer["scores"].numpy()[0])
        applied.append(answer["applied_segment"].numpy().tolist())
    np.testing.assert_allclose(scores[0][:2], scores[1][:2], rtol=1e-5)
    assert np.isfinite(scores[1]).all()
    assert np.isneginf(scores[0][2])
    assert applied == [[1], [2]]


def test_segments_that_come_meanwhile_are_carried_over(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nann.live.compact as module

    publisher = Publisher(model_dir)
    for number in range(3):
        change(publisher, number)
    verify = module.verify_model

    def publish_meanwhile(staged: Path, **options: Any) -> Any:
        for number in range(3, 6):
            change(publisher, number)
        return verify(staged, **options)

    monkeypatch.setattr(module, "verify_model", publish_meanwhile)
    out = model_dir.with_name("2")
    assert compact(model_dir, out)["carried"] == 3
    publisher.close()
    assert segment_numbers(updates_dir(out)) == [3, 4, 5, 6]
    assert items_of(out) == items_of(model_dir)
    with Publisher(out) as second:
        assert second.offset == {"files": {"a": 5}}
        change(second, 7)


def test_nothing_is_left_of_a_compaction_that_fails(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("nann.live.compact._carry_over", fail)
    with pytest.raises(OSError, match="no space"):
        compact(model_dir, model_dir.with_name("2"))
    assert sorted(path.name for path in model_dir.parent.iterdir()) == ["1"]


def test_places_that_are_taken_are_refused(model_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected no such folder"):
        compact(model_dir, model_dir)
    with pytest.raises(InvalidInputError, match="expected a version folder beside"):
        compact(model_dir, tmp_path / "other" / "2")


def test_what_a_killed_compaction_has_left_is_replaced(model_dir: Path) -> None:
    with Publisher(model_dir) as publisher:
        change(publisher, 0)
    out = model_dir.with_name("2")
    shutil.copytree(updates_dir(model_dir), updates_dir(out))
    shutil.copytree(model_dir, model_dir.with_name(".2.writing-0"))
    compact(model_dir, out)
    assert items_of(out) == items_of(model_dir)
