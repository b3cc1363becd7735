"""Loading an index: damaged files are refused with path, expected and actual; a good one survives moving."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from nann.errors import InvalidInputError
from nann.export._narrow_rows import narrow_rows
from support.graphs import Corpus, random_corpus


def rewrite(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        np.save(folder / name, change(np.load(folder / name)))

    return damage


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1])

    return damage


def set_value(position: int, value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[position] = value
        return array

    return change


VALUES = "index/neighbors_level_0_values.npy"
SPLITS = "index/neighbors_level_1_row_splits.npy"
FILES = ["item_ids.npy", "item_embs.npy", "index/enter_points.npy", VALUES, SPLITS]

DAMAGES = [
    *[pytest.param(truncate(name), rf"{name}: expected .*found", id=f"cut-{name}") for name in FILES],
    *[
        pytest.param(lambda folder, name=name: (folder / name).unlink(), name, id=f"no-{name}")
        for name in FILES
    ],
    pytest.param(
        rewrite(VALUES, set_value(3, 60)), rf"{VALUES}: .*\[0, 60\), found 60 at index 3", id="neighbour"
    ),
    pytest.param(rewrite(VALUES, set_value(0, -1)), rf"{VALUES}: .*found -1 at index 0", id="negative"),
    pytest.param(rewrite(SPLITS, set_value(5, 10**6)), rf"{SPLITS}: .*never decrease", id="offsets"),
    pytest.param(rewrite(SPLITS, lambda a: a[:-1]), rf"{SPLITS}: expected 61 values", id="short-splits"),
    pytest.param(
        rewrite(SPLITS, lambda a: a.astype(np.int32)), rf"{SPLITS}: expected a int64", id="split-dtype"
    ),
    pytest.param(
        rewrite(VALUES, lambda a: a.astype(np.int64)), rf"{VALUES}: expected a int32", id="value-dtype"
    ),
    pytest.param(
        rewrite("item_ids.npy", lambda a: a.astype(np.int32)), "item_ids.npy: expected a int64", id="id-dtype"
    ),
    pytest.param(
        rewrite("item_ids.npy", lambda a: a[:-1]), "expected 60 values|expected every", id="another-N"
    ),
    pytest.param(rewrite("item_ids.npy", lambda a: a * 0), "item_ids.npy.*unique", id="duplicate-ids"),
    pytest.param(
        rewrite("item_embs.npy", lambda a: a[:-1]),
        "item_embs.npy: expected 60 rows.*found 59",
        id="short-table",
    ),
    pytest.param(
        rewrite("item_embs.npy", lambda a: a[0]),
        "item_embs.npy: expected a float32 array of rank 2",
        id="rank",
    ),
    pytest.param(
        rewrite("item_embs.npy", lambda a: np.zeros((60, 72), np.uint8)),
        "item_embs.npy: expected rows of int8 numbers and a scale for each 64 .*, found rows of 72 bytes",
        id="int8-rows",
    ),
    pytest.param(rewrite("item_embs.npy", np.asfortranarray), "item_embs.npy: .*Fortran", id="fortran"),
    pytest.param(
        rewrite("index/enter_points.npy", lambda a: a[:0]), "at least one entry point", id="no-entry"
    ),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[Path], None], message: str) -> None:
    arguments = random_corpus(1).write(tmp_path)
    damage(tmp_path)
    with pytest.raises((tf.errors.OpError, FileNotFoundError, ValueError), match=message):
        nann.ops.IndexResource(**arguments)


def test_another_table_type_is_refused(tmp_path: Path) -> None:
    arguments = random_corpus(1).write(tmp_path)
    np.save(tmp_path / "item_embs.npy", np.zeros((60, 3), np.float64))
    with pytest.raises(InvalidInputError, match=r"item_embs.*expected dtype float32, .*found float64"):
        nann.ops.IndexResource(**arguments)


def test_data_that_is_not_aligned_is_copied(tmp_path: Path) -> None:
    corpus = random_corpus(2)
    arguments = corpus.write(tmp_path)
    path = tmp_path / "item_embs.npy"
    header = np.lib.format.header_data_from_array_1_0(corpus.item_embs)
    text = repr(header).encode()
    with path.open("wb") as file:  # A legal .npy whose data starts at an odd offset.
        file.write(b"\x93NUMPY\x01\x00" + (len(text) + 2 - len(text) % 2).to_bytes(2, "little"))
        file.write(text.ljust(len(text) + 1 - len(text) % 2) + b"\n" + corpus.item_embs.tobytes())
    np.testing.assert_array_equal(np.load(path), corpus.item_embs)
    index = nann.ops.IndexResource(**arguments)
    rows = nann.ops.gather_table_rows(index, tf.range(60), table="item_embs")
    np.testing.assert_array_equal(rows, corpus.item_embs)


def test_int8_rows_are_their_numbers_times_their_scales(tmp_path: Path) -> None:
    corpus = random_corpus(3)
    arguments = corpus.write(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 70)).astype(np.float32) * np.arange(1, 71)
    np.save(tmp_path / "item_embs.npy", narrow_rows(rows, "int8"))
    index = nann.ops.IndexResource(**arguments)
    found = nann.ops.gather_table_rows(index, tf.constant([[5, 0]], tf.int64), table="item_embs").numpy()
    scales = np.repeat(
        np.abs(np.pad(rows, [(0, 0), (0, 58)]).reshape(60, 2, 64)).max(2) / 127, [64, 6], axis=1
    )
    assert (np.abs(found - rows[None, [5, 0]]) <= scales[[5, 0]] * 0.5001).all()
    largest = np.abs(rows[:, :64]).argmax(1)
    np.testing.assert_allclose(found[0, 0, largest[5]], rows[5, largest[5]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_tables_are_widened_to_float32(tmp_path: Path, dtype: str) -> None:
    corpus = random_corpus(3)
    arguments = corpus.write(tmp_path)
    stored = corpus.item_embs.astype(dtype) if dtype != "bfloat16" else None
    if stored is None:
        stored = tf.cast(corpus.item_embs, tf.bfloat16).numpy().view(np.uint16)
    np.save(tmp_path / "item_embs.npy", stored)
    index = nann.ops.IndexResource(**arguments)
    rows = nann.ops.gather_table_rows(index, tf.constant([[5, 0]], tf.int64), table="item_embs")
    np.testing.assert_array_equal(rows, corpus.item_embs[None, [5, 0]])


def exported(corpus: Corpus, folder: Path) -> Path:
    module = tf.Module()
    module.index = nann.ops.IndexResource(**corpus.write(folder))
    module.find = tf.function(
        lambda ids: {"positions": nann.ops.ids_to_positions(module.index, ids)},
        input_signature=[tf.TensorSpec([None], tf.int64, name="ids")],
    )
    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": module.find})
    return folder / "model"


def test_a_saved_model_works_moved_with_its_sources_deleted(tmp_path: Path) -> None:
    corpus = random_corpus(4)
    (tmp_path / "sources").mkdir()
    model = exported(corpus, tmp_path / "sources")
    shutil.move(model, tmp_path / "moved")
    shutil.rmtree(tmp_path / "sources")
    loaded = tf.saved_model.load(str(tmp_path / "moved"))
    answer = loaded.signatures["serving_default"](ids=tf.constant(corpus.item_ids))["positions"]
    np.testing.assert_array_equal(answer, np.arange(60))


def test_two_models_in_one_process_keep_apart_and_go_apart(tmp_path: Path) -> None:
    """Also two loads of the same files: neither sees the other, nor its end."""
    corpora = [random_corpus(5), random_corpus(6)]
    models = []
    for number, corpus in enumerate(corpora):
        folder = tmp_path / str(number)
        folder.mkdir()
        models.append(exported(corpus, folder))
    loads = [tf.saved_model.load(str(path)) for path in [*models, models[0]]]
    loads.pop(0)
    gc.collect()
    for loaded, corpus in zip(loads, [corpora[1], corpora[0]], strict=True):
        answer = loaded.signatures["serving_default"](ids=tf.constant(corpus.item_ids))["positions"]
        np.testing.assert_array_equal(answer, np.arange(60))


def test_an_index_that_was_not_loaded_says_so() -> None:
    ops = nann.ops.load_library()
    handle = ops.nann_index_handle(shared_name="never initialized")
    with pytest.raises(tf.errors.FailedPreconditionError, match="not loaded: run the model's initializer"):
        ops.nann_enter_points(handle)
