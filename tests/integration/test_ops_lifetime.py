"""How long an index lives: as long as somebody can still ask it, and not longer."""

from __future__ import annotations

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.saved_model.loader_impl import SavedModelLoader

import nann.ops
from support.graphs import Corpus, random_corpus

NOT_LOADED = "the index is not loaded: run the model's initializer"


def traced_find(index: nann.ops.IndexResource) -> Any:
    """A function that only holds the handle of `index`."""
    find = tf.function(lambda ids: {"positions": nann.ops.ids_to_positions(index, ids)})
    return find.get_concrete_function(tf.TensorSpec([None], tf.int64, name="ids"))


def export(corpus: Corpus, folder: Path) -> Path:
    """A SavedModel that finds positions of ids and rows of positions; its files are in `folder` alone."""
    module = tf.Module()
    module.index = nann.ops.IndexResource(**corpus.write(folder))
    module.find = tf.function(
        lambda ids: {"positions": nann.ops.ids_to_positions(module.index, ids)},
        input_signature=[tf.TensorSpec([None], tf.int64, name="ids")],
    )
    module.count = tf.function(
        lambda: {"entry_points": tf.size(nann.ops.enter_points(module.index))}, input_signature=[]
    )
    signatures = {"find": module.find, "count": module.count}
    tf.saved_model.save(module, str(folder / "model"), signatures=signatures)
    return folder / "model"


def save_inside_another(loaded: Any, path: Path) -> Path:
    """Save a module that holds a loaded export and asks it in a function of its own."""
    outer = tf.Module()
    outer.inner = loaded
    outer.find = tf.function(
        lambda ids: {"positions": loaded.signatures["find"](ids=ids)["positions"]},
        input_signature=[tf.TensorSpec([None], tf.int64, name="ids")],
    )
    tf.saved_model.save(outer, str(path), signatures={"find": outer.find})
    return path


def assert_finds(find: Callable[..., Any], corpus: Corpus) -> None:
    answer = find(ids=tf.constant(corpus.item_ids))["positions"]
    np.testing.assert_array_equal(answer, np.arange(len(corpus.item_ids)))


def mapped(folder: Path) -> list[str]:
    """What this process has mapped of the files in `folder`."""
    gc.collect()
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if f"{folder}/" in line]


class Session:
    """A SavedModel in a TF1 session, as servers run it."""

    def __init__(self, path: Path) -> None:
        self._tf_session = tf.compat.v1.Session(graph=tf.Graph())
        self._loader = SavedModelLoader(str(path))
        self._loader.load_graph(self._tf_session.graph, ["serve"])
        self._signatures = self._loader.get_meta_graph_def_from_tags(["serve"]).signature_def
        self.close = self._tf_session.close

    def initialize(self) -> Session:
        with self._tf_session.graph.as_default():
            self._loader.run_init_ops(self._tf_session, ["serve"])
        return self

    def __call__(self, signature: str, **feeds: Any) -> dict[str, Any]:
        inputs, outputs = self._signatures[signature].inputs, self._signatures[signature].outputs
        return self._tf_session.run(
            {name: tensor.name for name, tensor in outputs.items()},
            {inputs[name].name: value for name, value in feeds.items()},
        )

    def make_find(self) -> Callable[..., Any]:
        """Make `find` with an executor of its own."""
        signature = self._signatures["find"]
        return self._tf_session.make_callable(
            {name: tensor.name for name, tensor in signature.outputs.items()},
            [signature.inputs["ids"].name],
        )

    def find(self, ids: Any) -> dict[str, Any]:
        return self("find", ids=np.asarray(ids))


def test_a_signature_outlives_the_object_that_was_loaded(tmp_path: Path) -> None:
    corpus = random_corpus(1)
    model = export(corpus, tmp_path)
    find = tf.saved_model.load(str(model)).signatures["find"]
    gc.collect()
    assert_finds(find, corpus)


def test_a_function_outlives_the_index_that_it_was_traced_with(tmp_path: Path) -> None:
    corpus = random_corpus(2)
    find = traced_find(nann.ops.IndexResource(**corpus.write(tmp_path)))
    gc.collect()
    assert_finds(find, corpus)


def test_saving_a_loaded_export_inside_another_module_leaves_both_usable(tmp_path: Path) -> None:
    corpus = random_corpus(3)
    loaded = tf.saved_model.load(str(export(corpus, tmp_path)))
    outer = save_inside_another(loaded, tmp_path / "outer")
    gc.collect()
    assert_finds(loaded.signatures["find"], corpus)
    assert_finds(tf.saved_model.load(str(outer)).signatures["find"], corpus)
    assert_finds(loaded.signatures["find"], corpus)


def test_an_export_inside_another_module_is_served_from_sessions(tmp_path: Path) -> None:
    """Its handle comes out of a function; two of them in two sessions keep apart."""
    corpora = [random_corpus(4), random_corpus(5, num_items=40)]
    sessions = []
    for corpus, name in zip(corpora, "ab", strict=True):
        (tmp_path / name).mkdir()
        loaded = tf.saved_model.load(str(export(corpus, tmp_path / name)))
        sessions.append(Session(save_inside_another(loaded, tmp_path / name / "outer")).initialize())
    for _ in range(3):
        for opened, corpus in zip(sessions, corpora, strict=True):
            assert_finds(opened.find, corpus)


def test_executors_that_start_at_once_share_the_handle_of_a_function(tmp_path: Path) -> None:
    """The handle comes out of a function, so each executor has a kernel of its own that makes or finds it."""
    corpus = random_corpus(17)
    loaded = tf.saved_model.load(str(export(corpus, tmp_path)))
    opened = Session(save_inside_another(loaded, tmp_path / "outer"))
    finds = [opened.make_find() for _ in range(16)]

    def not_loaded(find: Callable[..., Any]) -> str:
        with pytest.raises(tf.errors.FailedPreconditionError) as caught:
            find(corpus.item_ids)
        return str(caught.value)

    with ThreadPoolExecutor(16) as pool:
        assert all(NOT_LOADED in message for message in pool.map(not_loaded, finds))
        opened.initialize()
        for answer in pool.map(lambda find: find(corpus.item_ids), finds):
            np.testing.assert_array_equal(answer["positions"], np.arange(60))


def test_a_session_is_initialised_once_and_asked_a_hundred_times(tmp_path: Path) -> None:
    """With two sets of fetches, for which a session makes two executors that share kernels."""
    corpus = random_corpus(6)
    opened = Session(export(corpus, tmp_path)).initialize()
    for _ in range(100):
        assert_finds(opened.find, corpus)
        assert opened("count") == {"entry_points": 3}


def test_a_saved_model_is_loaded_into_a_graph(tmp_path: Path) -> None:
    """tf.saved_model.load while a graph is built: the session that runs the graph initialises it."""
    corpus = random_corpus(7)
    model = export(corpus, tmp_path)
    with tf.Graph().as_default(), tf.compat.v1.Session() as opened:
        find = tf.saved_model.load(str(model)).signatures["find"]
        positions = find(ids=tf.constant(corpus.item_ids))["positions"]
        opened.run(tf.compat.v1.tables_initializer())
        for _ in range(3):
            np.testing.assert_array_equal(opened.run(positions), np.arange(60))


def test_two_loads_of_one_model_share_no_handle(tmp_path: Path) -> None:
    corpus = random_corpus(8)
    model = export(corpus, tmp_path)
    first, second = (tf.saved_model.load(str(model)) for _ in range(2))
    del first
    gc.collect()
    assert_finds(second.signatures["find"], corpus)


def test_an_index_can_be_asked_inside_a_data_set(tmp_path: Path) -> None:
    corpus = random_corpus(9)
    index = nann.ops.IndexResource(**corpus.write(tmp_path))
    data = tf.data.Dataset.from_tensor_slices(corpus.item_ids).batch(7)
    data = data.map(lambda ids: nann.ops.ids_to_positions(index, ids), num_parallel_calls=2)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in data]), np.arange(60))


def test_initialising_again_reads_the_files_again(tmp_path: Path) -> None:
    corpus = random_corpus(10)
    model = export(corpus, tmp_path)
    opened = Session(model).initialize()
    ids = model / "assets" / "item_ids.npy"
    ids.unlink()  # What is mapped stays as it is; another file takes the name.
    np.save(ids, corpus.item_ids + 1000)
    assert_finds(opened.find, corpus)
    opened.initialize()
    np.testing.assert_array_equal(opened.find(corpus.item_ids + 1000)["positions"], np.arange(60))
    assert set(opened.find(corpus.item_ids)["positions"]) == {-1}


def test_a_failed_initialisation_leaves_the_index_that_was_there(tmp_path: Path) -> None:
    corpus = random_corpus(11)
    model = export(corpus, tmp_path)
    opened = Session(model).initialize()
    (model / "assets" / "item_ids.npy").unlink()
    with pytest.raises(tf.errors.NotFoundError, match=r"item_ids\.npy: cannot be read"):
        opened.initialize()
    assert_finds(opened.find, corpus)


def test_a_session_that_was_not_initialised_says_so(tmp_path: Path) -> None:
    corpus = random_corpus(12)
    opened = Session(export(corpus, tmp_path))
    with pytest.raises(tf.errors.FailedPreconditionError, match=NOT_LOADED):
        opened.find(corpus.item_ids)
    assert_finds(opened.initialize().find, corpus)


def test_a_handle_of_something_else_is_refused() -> None:
    ops = nann.ops.load_library()
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), -1)
    for handle in (table.resource_handle, tf.Variable(1.0).handle):
        with pytest.raises(tf.errors.InvalidArgumentError, match="index: expected a handle from Nann>"):
            ops.nann_enter_points(handle)


def test_no_handle_at_all_is_refused() -> None:
    ops = nann.ops.load_library()

    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)], autograph=False)
    def entry_points(count):
        handles = tf.stack([ops.nann_index_handle()])[:count]
        handles = tf.raw_ops.PlaceholderWithDefault(input=handles, shape=tf.TensorShape(None))
        return ops.nann_enter_points(handles)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"expected a handle from .*shape: \[0\]"):
        entry_points(0)


def test_files_stay_mapped_as_long_as_somebody_can_ask(tmp_path: Path) -> None:
    corpus = random_corpus(13)
    find = traced_find(nann.ops.IndexResource(**corpus.write(tmp_path)))
    assert mapped(tmp_path)
    assert_finds(find, corpus)
    del find
    assert not mapped(tmp_path)


def test_files_of_a_loaded_export_go_with_its_last_function(tmp_path: Path) -> None:
    corpus = random_corpus(14)
    model = export(corpus, tmp_path)
    for _ in range(3):
        loaded = tf.saved_model.load(str(model))
        find = loaded.signatures["find"]
        del loaded
        assert mapped(model)
        assert_finds(find, corpus)
        del find
        assert not mapped(model)


def test_files_of_an_export_inside_another_module_go_with_it(tmp_path: Path) -> None:
    corpus = random_corpus(15)
    loaded = tf.saved_model.load(str(export(corpus, tmp_path)))
    outer = save_inside_another(loaded, tmp_path / "outer")
    del loaded
    assert not mapped(tmp_path)
    again = tf.saved_model.load(str(outer))
    assert mapped(outer)
    assert_finds(again.signatures["find"], corpus)
    del again
    assert not mapped(outer)


def test_files_go_with_the_session(tmp_path: Path) -> None:
    corpus = random_corpus(16)
    model = export(corpus, tmp_path)
    first, second = Session(model).initialize(), Session(model).initialize()
    both = len(mapped(model))
    first.close()
    del first
    assert len(mapped(model)) == both / 2
    assert_finds(second.find, corpus)
    second.close()
    del second
    assert not mapped(model)
