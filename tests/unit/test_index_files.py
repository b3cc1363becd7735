"""Index files: written whole, read back equal, and refused with a clear message when damaged."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.errors import InvalidFileError, InvalidInputError
from nann.export.index.files import GraphIndex, Level, read_index, write_index
from nann.ops.index_meta import (
    IndexMeta,
    check_level_topn,
    default_hops,
    default_level_topn,
    index_file_names,
)


def _graph() -> GraphIndex:
    meta = IndexMeta(1, 4, 8, "l2", 2, 40, 2, default_hops(2))
    level0 = Level(np.array([1, 2, 0, 3, 3, 1], np.int32), np.array([0, 2, 4, 5, 6], np.int64))
    level1 = Level(np.array([2, 0], np.int32), np.array([0, 1, 1, 2, 2], np.int64))
    return GraphIndex(meta, np.array([2], np.int32), (level0, level1))


def test_round_trip_keeps_every_array(tmp_path: Path) -> None:
    write_index(tmp_path / "index", _graph())
    read = read_index(tmp_path / "index")
    assert read.meta == _graph().meta
    np.testing.assert_array_equal(read.enter_points, [2])
    for found, expected in zip(read.levels, _graph().levels, strict=True):
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.row_splits, expected.row_splits)
    assert sorted(p.name for p in (tmp_path / "index").iterdir()) == sorted(index_file_names(read.meta))
    assert [p.name for p in tmp_path.iterdir()] == ["index"], "a temporary folder was left behind"


def test_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    write_index(tmp_path, _graph())
    assert isinstance(read_index(tmp_path).levels[0].values, np.memmap)


def test_writing_again_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "index"
    write_index(target, _graph())
    (target / "left_over").touch()
    write_index(target, _graph())
    assert not (target / "left_over").exists()


def test_a_bad_graph_is_not_published_and_the_old_one_stays(tmp_path: Path) -> None:
    target = tmp_path / "index"
    write_index(target, _graph())
    bad = dataclasses.replace(_graph(), enter_points=np.array([4], np.int32))
    with pytest.raises(InvalidFileError, match=r"enter_points\.npy: expected positions 0\.\.3, found 4"):
        write_index(target, bad)
    np.testing.assert_array_equal(read_index(target).enter_points, [2])
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_default_beams_are_one_a_hop() -> None:
    assert default_level_topn(_graph().meta).tolist() == [100, 200, 200, 200, 200, 200]
    three = dataclasses.replace(_graph().meta, start_level=3, hops_per_level=default_hops(3))
    assert default_level_topn(three).tolist() == [100] + [200] * 6


def _save(name: str, array: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def _truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-3])

    return damage


def _json(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        document = json.loads((folder / "index.json").read_text())
        (folder / "index.json").write_text(json.dumps({**document, **changes}))

    return damage


def _text(text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / "index.json").write_text(text)

    return damage


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


_FILES = index_file_names(_graph().meta)
_DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    *[(_remove(name), rf"{name}: expected .* found no") for name in _FILES],
    *[(_truncate(name), rf"{name}: expected a whole \.npy file, found \d+ bytes") for name in _FILES[1:]],
    (_truncate("index.json"), r"index\.json: expected a JSON object"),
    (_text("[]"), r"index\.json: expected a JSON object, found list"),
    (_json(format_version=2), r"index\.json: expected format_version 1, found 2"),
    (_json(num_items=0), r"index\.json: expected num_items to be an integer 1\.\."),
    (_json(num_items=True), r"index\.json: expected num_items to be an integer"),
    (_json(num_items=5), r"row_splits\.npy: expected 6 offsets .* found 5"),
    (_json(seed=-1), r"index\.json: expected seed to be an integer 0\.\..* found -1"),
    (_json(num_copies=True), r"index\.json: expected num_copies to be an integer 0\.\..* found True"),
    (_json(chosen_entry_points=1), r"index\.json: expected chosen_entry_points to be true or false, found 1"),
    (_json(dim="8"), r"index\.json: expected dim to be an integer"),
    (_json(metric="cosine"), r"index\.json: expected metric 'l2' or 'ip', found 'cosine'"),
    (_json(hops_per_level=[3]), r"index\.json: expected hops_per_level to be 2 integers"),
    (_json(hops_per_level=[3, 0]), r"index\.json: expected hops_per_level to be 2 integers"),
    (_json(start_level=3, hops_per_level=[3, 1, 1]), r"neighbors_level_2_values\.npy: expected"),
    (_save("enter_points.npy", np.zeros(0, np.int32)), r"enter_points\.npy: expected at least one"),
    (_save("enter_points.npy", np.array([-1], np.int32)), r"enter_points\.npy: .* found -1 at \[0\]"),
    (_save("enter_points.npy", np.array([1, 1], np.int32)), r"enter_points\.npy: .* each entry point once"),
    (_save("enter_points.npy", np.array([1], np.int64)), r"enter_points\.npy: expected int32 .* found int64"),
    (_save("enter_points.npy", np.array([[1]], np.int32)), r"enter_points\.npy: .* shape \[1, 1\]"),
    (
        _save("neighbors_level_0_values.npy", np.array([1, 2, 0, 3, 4, 1], np.int32)),
        r"neighbors_level_0_values\.npy: expected positions 0\.\.3, found 4 at \[4\]",
    ),
    (
        _save("neighbors_level_0_values.npy", np.array([1, 2], np.int32)),
        r"neighbors_level_0_row_splits\.npy: expected offsets from 0 to 2.* found 0 to 6",
    ),
    (
        _save("neighbors_level_0_row_splits.npy", np.array([0, 4, 2, 5, 6], np.int64)),
        r"neighbors_level_0_row_splits\.npy: .* found 4 at \[1\] and 2 at \[2\]",
    ),
    (
        _save("neighbors_level_1_row_splits.npy", np.array([1, 1, 1, 2, 2], np.int64)),
        r"neighbors_level_1_row_splits\.npy: expected offsets from 0 to 2",
    ),
]


@pytest.mark.parametrize(("damage", "message"), _DAMAGES)
def test_a_damaged_index_is_refused(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    write_index(tmp_path / "index", _graph())
    damage(tmp_path / "index")
    with pytest.raises(InvalidFileError, match=message):
        read_index(tmp_path / "index")


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bytes_never_crash_or_point_outside(tmp_path: Path, seed: int) -> None:
    write_index(tmp_path / "index", _graph())
    generator = np.random.default_rng(seed)
    for name in _FILES:
        path = tmp_path / "index" / name
        whole = path.read_bytes()
        data = bytearray(whole)
        for at in generator.integers(0, len(data), 3):
            data[at] = generator.integers(256)
        path.write_bytes(bytes(data))
        try:
            graph = read_index(tmp_path / "index")
        except InvalidFileError:
            pass
        else:
            assert all(0 <= value < graph.meta.num_items for value in graph.levels[0].values)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "level_topn",
    [
        [1] * 5,
        [1] * 7,
        [1, 1, 0, 1, 1, 1],
        [1, 1, -1, 1, 1, 1],
        [1, 1, 65_537, 1, 1, 1],
        [[1] * 6],
        [1.0] * 6,
    ],
)
def test_beams_that_do_not_fit_are_refused(level_topn: Any) -> None:
    with pytest.raises(InvalidInputError, match="level_topn: expected"):
        check_level_topn(level_topn, _graph().meta)
