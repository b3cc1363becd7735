"""An index with segments answers as the oracle does on base and overlay, whatever the walk."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import nann.ops
from nann.export.index.filter_oracle import filtered_search
from nann.ops import AttributeFiles
from support.graphs import DIM
from support.live_case import LiveCase, publish, segment_bytes
from support.live_ops import BEAMS, applied, make_case, search, wait_for, wait_for_segment
from support.proxy_cases import SCORER, TILE_ROWS, numpy_score

WALKS = ("fixed", "adaptive", "proxy", "all")


def walk_options(walk: str, case: LiveCase) -> dict[str, Any]:
    return {
        "expand": 0 if walk == "fixed" else 3,
        "proxy": case.proxy.walk if walk == "proxy" and case.proxy is not None else None,
        "score_all": walk == "all",
    }


def count_threads() -> int:
    return len(os.listdir("/proc/self/task"))


@settings(max_examples=60)
@given(data=st.data())
def test_answers_are_the_oracles_on_base_and_overlay(data: st.DataObject) -> None:
    walk = data.draw(st.sampled_from(WALKS))
    with tempfile.TemporaryDirectory() as folder:
        sizes = st.sampled_from([60, 900])
        case = make_case(
            folder, data.draw(st.integers(0, 2**32)), num_items=data.draw(sizes), proxy=walk == "proxy"
        )
        for _ in range(data.draw(st.integers(1, 3))):
            counts = {name: data.draw(st.integers(0, 9)) for name in ("new", "changed", "deleted")}
            case.add_random_segment(**counts)
        arguments = case.arguments()
        case.publish_all()
        index = nann.ops.IndexResource(**arguments)
        users = case.rng.integers(-2, 3, (2, DIM)).astype(np.float32)
        level_topn = case.rng.integers(1, data.draw(st.sampled_from([12, 90])), 6).astype(np.int32)
        excluded = case.rng.choice(case.item_ids, (2, data.draw(st.integers(0, 3))))
        found = search(index, users, level_topn, excluded, **walk_options(walk, case))
        ids = case.rng.choice(case.item_ids, (2, 5))
        options = {"scorer": SCORER, "tile_rows": TILE_ROWS}
        scores, segments = nann.ops.score_ids(index, [users], ids, **options)

    assert found.applied_segment.numpy().tolist() == [len(case.segments)] * 2
    assert segments.numpy().tolist() == [len(case.segments)] * 2
    state, proxy = case.state(), case.state_proxy()
    live = dict(zip(case.item_ids[~case.deleted], np.flatnonzero(~case.deleted), strict=True))
    for row, user in enumerate(users):
        expected = filtered_search(
            state.graph,
            state.item_ids,
            numpy_score(state, user),
            level_topn,
            excluded[row],
            everything=walk == "all",
            expand=0 if walk == "fixed" else 3,
            proxy=proxy,
            deleted=case.deleted if case.deleted.any() else None,
        )
        np.testing.assert_array_equal(found.ids[row], expected[0])
        np.testing.assert_array_equal(found.scores[row], expected[1])
        assert int(found.items_scored[row]) == expected[2]
        known = np.array([live.get(each, -1) for each in ids[row]])
        wanted = np.where(known < 0, -np.inf, numpy_score(state, user)(known))
        np.testing.assert_array_equal(scores[row], wanted)


def test_one_deletion_costs_the_proxy_walk_what_none_costs(tmp_path: Path) -> None:
    case = make_case(tmp_path, 1, num_items=2000, proxy=True)
    assert case.proxy is not None
    options = {"level_topn": np.array([9, 60, 60, 60, 60, 10], np.int32), **walk_options("proxy", case)}
    index = nann.ops.IndexResource(**case.arguments())
    users = np.array([[1, -2, 1]], np.float32)
    without = search(index, users, **options)
    case.add_random_segment(new=0, changed=0, deleted=1)
    case.publish_all()
    wait_for_segment(index, 1)
    found = search(index, users, **options)
    assert 0.9 <= int(found.items_scored[0]) / int(without.items_scored[0]) <= 1.1


@settings(max_examples=40)
@given(data=st.data())
def test_filters_count_and_find_live_items(data: st.DataObject) -> None:
    walk = data.draw(st.sampled_from(WALKS))
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(
            folder,
            data.draw(st.integers(0, 2**32)),
            num_items=data.draw(st.sampled_from([60, 900, 3000])),
            proxy=walk == "proxy",
        )
        x = case.rng.integers(0, 10, case.item_ids.size)
        np.save(Path(folder) / "x.npy", x)
        attributes = [AttributeFiles("x", "int64", {"values": Path(folder) / "x.npy"})]
        # Many are deleted: a search that counted them would choose another path.
        deleted, new_x = data.draw(st.sampled_from([1, x.size // 3])), case.rng.integers(0, 10, 8)
        case.add_random_segment(new=5, changed=3, deleted=deleted, attributes={"x": new_x})
        arguments = case.arguments()
        case.publish_all()
        index = nann.ops.IndexResource(**arguments, attributes=attributes)
        user = case.rng.integers(-2, 3, (1, DIM)).astype(np.float32)
        level_topn = case.rng.integers(1, 12, 6).astype(np.int32)
        most = data.draw(st.sampled_from([1, 5, 9, 10]))
        text = tf.constant([f"x < {most}" if most < 10 else ""])
        found = search(index, user, level_topn, filters=text, **walk_options(walk, case))
    state, proxy = case.state(), case.state_proxy()
    passes = np.concatenate([x, new_x]) < most
    expected = filtered_search(
        state.graph,
        state.item_ids,
        numpy_score(state, user[0]),
        level_topn,
        passes=passes if most < 10 else None,
        everything=walk == "all",
        expand=0 if walk == "fixed" else 3,
        proxy=proxy,
        deleted=case.deleted,
    )
    np.testing.assert_array_equal(found.ids[0], expected[0])
    np.testing.assert_array_equal(found.scores[0], expected[1])
    assert (int(found.items_scored[0]), bool(found.exact[0])) == expected[2:]
    assert int(found.passing[0]) == (passes & ~case.deleted).sum()


def test_a_segment_is_seen_while_it_serves_and_the_thread_ends_with_the_index(tmp_path: Path) -> None:
    case = make_case(tmp_path, 1)
    arguments = case.arguments()
    gc.collect()  # The threads of what other tests have left end.
    static = nann.ops.IndexResource(**{**arguments, "overlay_capacity": 0})
    assert applied(static) == 0  # TensorFlow has its threads now.
    threads = count_threads()
    index = nann.ops.IndexResource(**arguments)
    assert applied(index) == 0
    assert count_threads() == threads + 1
    for number in range(1, 4):
        case.add_random_segment(new=2, changed=1, deleted=1)
        publish(case.updates, number, case.segments[-1])
        wait_for_segment(index, number)
    del index
    gc.collect()
    assert count_threads() == threads


REFUSED = {
    "cut": lambda content: content[:-1],
    "damaged": lambda content: content[:200] + b"\xff" + content[201:],
    "another version": lambda content: content[:8] + b"\x02" + content[9:],
}


@pytest.mark.parametrize("damage", REFUSED.values(), ids=REFUSED)
def test_a_segment_that_cannot_be_read_stops_the_sequence_until_it_is_mended(
    tmp_path: Path, damage: Callable[[bytes], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    case = make_case(tmp_path, 2)
    for _ in range(3):
        case.add_random_segment(new=2, changed=1, deleted=1)
    publish(case.updates, 1, case.segments[0])
    publish(case.updates, 2, damage(case.segments[1]))
    publish(case.updates, 3, case.segments[2])
    refused = nann.ops.metrics()["/nann/segments_refused"]
    index = nann.ops.IndexResource(**case.arguments())
    assert applied(index) == 1
    assert nann.ops.metrics()["/nann/segments_refused"] == refused + 1
    assert "0000000002.segment: expected" in capfd.readouterr().err
    publish(case.updates, 2, case.segments[1])
    wait_for_segment(index, 3)


def test_foreign_and_missing_segments_and_a_full_overlay_stop_the_sequence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = make_case(tmp_path, 3)
    case.capacity = 6
    for _ in range(3):
        case.add_random_segment(new=2, changed=1, deleted=1)
    foreign = segment_bytes(1, 0, 60, {}, export_id="f" * 32)
    publish(case.updates, 1, foreign)
    index = nann.ops.IndexResource(**case.arguments())
    assert applied(index) == 0
    assert "expected a segment of export 0123456789abcdef" in capfd.readouterr().err
    (case.updates / "0000000001.segment").unlink()
    publish(case.updates, 2, case.segments[1])
    wait_for(lambda: "expected a segment that follows segment 0" in _text(capfd))
    publish(case.updates, 1, case.segments[0])
    wait_for_segment(index, 2)
    publish(case.updates, 3, case.segments[2])
    wait_for(lambda: "expected room for 3 new items behind 66, found 66" in _text(capfd))
    assert applied(index) == 2


_TEXT: dict[int, str] = {}


def _text(capfd: pytest.CaptureFixture[str]) -> str:
    """All that was written to standard error in this test."""
    _TEXT[id(capfd)] = _TEXT.get(id(capfd), "") + capfd.readouterr().err
    return _TEXT[id(capfd)]


def test_a_rollback_builds_a_second_overlay_of_what_is_left(tmp_path: Path) -> None:
    case = make_case(tmp_path, 4)
    for _ in range(3):
        case.add_random_segment(new=2, changed=1, deleted=1)
    case.publish_all()
    index = nann.ops.IndexResource(**case.arguments())
    users = case.rng.integers(-2, 3, (1, DIM)).astype(np.float32)
    assert applied(index) == 3
    before = make_case(tmp_path / "other", 4)
    before.add_random_segment(new=2, changed=1, deleted=1)
    for number in (3, 2):
        (case.updates / f"{number:010}.segment").unlink()
    wait_for_segment(index, 1)
    state = before.state()
    expected = filtered_search(
        state.graph, state.item_ids, numpy_score(state, users[0]), BEAMS, deleted=before.deleted
    )
    np.testing.assert_array_equal(search(index, users).ids[0], expected[0])
    # Numbers are not used again: the next one says what it follows.
    publish(case.updates, 4, segment_bytes(4, 1, state.item_ids.size, {}))
    wait_for_segment(index, 4)


def test_segments_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case(tmp_path, 5)
    case.add_random_segment(new=2, changed=1, deleted=1)
    case.publish_all()
    monkeypatch.setenv("NANN_UPDATES_POLL_MS", "0")
    index = nann.ops.IndexResource(**case.arguments())
    assert applied(index) == 0


def test_metrics_tell_what_overlays_hold(tmp_path: Path) -> None:
    case = make_case(tmp_path, 6)
    case.add_random_segment(new=4, changed=3, deleted=1)
    case.publish_all()
    before = nann.ops.metrics()
    index = nann.ops.IndexResource(**case.arguments())
    after = nann.ops.metrics()
    assert after["/nann/overlay_items"] - before["/nann/overlay_items"] == 7
    assert after["/nann/segments_applied"] - before["/nann/segments_applied"] == 1
    assert after["/nann/segment_lag_ms"] > 0  # published in 1970
    del index


def test_a_request_that_began_before_a_segment_ends_in_its_own_state(tmp_path: Path) -> None:
    """The scorer of the first tile waits until the segment is applied; the answer is the base's."""
    case = make_case(tmp_path, 7)
    index = nann.ops.IndexResource(**case.arguments())
    users = case.rng.integers(-2, 3, (1, DIM)).astype(np.float32)
    base = search(index, users)
    began, go_on = threading.Event(), threading.Event()

    def hold() -> np.float32:
        began.set()
        go_on.wait()
        return np.float32(0)

    def waiting_score(user, items):
        zero = tf.ensure_shape(tf.py_function(hold, [], tf.float32), [])
        return tf.linalg.matvec(items, user) + zero

    signature = [tf.TensorSpec([DIM]), tf.TensorSpec([TILE_ROWS, DIM])]
    scorer = tf.function(waiting_score, input_signature=signature).get_concrete_function()
    answers: list[Any] = []
    request = threading.Thread(
        target=lambda: answers.append(
            nann.ops.beam_search(index, [users], BEAMS, scorer=scorer, tile_rows=TILE_ROWS)
        )
    )
    request.start()
    began.wait()
    case.add_random_segment(new=5, changed=5, deleted=20)
    count_before = nann.ops.metrics()["/nann/segments_applied"]
    publish(case.updates, 1, case.segments[0])
    # A search needs a thread of TensorFlow's, and on one core the scorer holds the only one.
    wait_for(lambda: nann.ops.metrics()["/nann/segments_applied"] == count_before + 1)
    go_on.set()
    request.join()
    np.testing.assert_array_equal(answers[0].ids, base.ids)
    np.testing.assert_array_equal(answers[0].scores, base.scores)
    assert int(answers[0].applied_segment[0]) == 0
