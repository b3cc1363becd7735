"""The fused op inside sessions, as TensorFlow Serving runs it: threads, load, memory, cancellation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import cancellation

import nann.ops
from nann.export.index.oracle import beam_search as oracle
from support.graphs import DIM, random_corpus
from support.session_model import save_model

LEVEL_TOPN = np.array([3, 20, 30, 30, 30, 25], np.int32)


class Model:
    """A SavedModel in a session of its own."""

    def __init__(self, path: Path, config: tf.compat.v1.ConfigProto) -> None:
        with tf.Graph().as_default():
            self.session = tf.compat.v1.Session(config=config)
            meta = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(path))
        self._signature = meta.signature_def["serving_default"]

    def make_callable(self, output: str):
        options = config_pb2.CallableOptions()
        options.feed.extend(self._signature.inputs[name].name for name in ("user", "level_topn"))
        options.fetch.append(self._signature.outputs[output].name)
        return self.session._make_callable_from_options(options)

    def __call__(self, user, level_topn=LEVEL_TOPN, *, timeout_millis: int = 0):
        inputs, outputs = self._signature.inputs, self._signature.outputs
        return self.session.run(
            [outputs["top_k"].name, outputs["scores"].name],
            {inputs["user"].name: user, inputs["level_topn"].name: level_topn},
            tf.compat.v1.RunOptions(timeout_in_ms=timeout_millis),
        )


def config(inter: int, intra: int, executor: str = "") -> tf.compat.v1.ConfigProto:
    proto = tf.compat.v1.ConfigProto(
        inter_op_parallelism_threads=inter, intra_op_parallelism_threads=intra, use_per_session_threads=True
    )
    proto.experimental.executor_type = executor
    return proto


def random_users(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-2, 3, (count, 1, DIM)).astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [config(1, 1), config(2, 2), config(8, 4), config(1, 1, "SINGLE_THREADED_EXECUTOR")],
    ids=["1-1", "2-2", "8-4", "single-threaded-executor"],
)
def test_thread_counts_do_not_change_answers(tmp_path: Path, settings) -> None:
    corpus = random_corpus(21, num_items=300, degree=8, sparsity=0.0)
    model = Model(save_model(corpus, tmp_path), settings)
    users = random_users(16)
    with ThreadPoolExecutor(16) as pool:  # More callers at once than threads: nothing may block.
        answers = list(pool.map(model, users))
    for (user,), (ids, scores) in zip(users, answers, strict=True):
        expected = oracle(
            corpus.graph, corpus.item_ids, lambda p, u=user: corpus.item_embs[p] @ u, LEVEL_TOPN
        )
        np.testing.assert_array_equal(ids[0], expected[0])
        np.testing.assert_array_equal(scores[0], expected[1])


@pytest.mark.parametrize("settings", [config(1, 1), config(2, 2)], ids=["1-1", "2-2"])
def test_users_whose_part_is_a_loop_do_not_wait_for_each_other(tmp_path: Path, settings) -> None:
    """As many loops at once as threads, each of which holds one: none may need another thread to go on."""
    corpus = random_corpus(25, num_items=300, degree=8, sparsity=0.0)
    plain = Model(save_model(corpus, tmp_path / "plain"), settings)
    looped = Model(save_model(corpus, tmp_path / "looped", user_steps=20), settings)
    users = random_users(16)[:, 0]
    expected = plain(users)
    for _ in range(10):
        for found, right in zip(looped(users, timeout_millis=60_000), expected, strict=True):
            np.testing.assert_array_equal(found, right)


def test_kernels_outlive_the_callables_of_their_session(tmp_path: Path) -> None:
    """A session frees a released callable's function runtime but keeps kernels: they must not remember it."""
    model = Model(save_model(random_corpus(24), tmp_path), config(2, 2))
    user = np.ones((1, DIM), np.float32)
    expected, _ = model(user)
    for _ in range(20):
        search = model.make_callable("top_k")
        np.testing.assert_array_equal(search(user, LEVEL_TOPN)[0], expected)
        del search


LOAD_SCRIPT = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import tensorflow as tf

library, path, users_path = sys.argv[1:]
tf.load_op_library(library)
assert not any(name.split(".")[0] == "nann" for name in sys.modules)
users = np.load(users_path)
session = tf.compat.v1.Session(graph=tf.Graph())
with session.graph.as_default():
    meta = tf.compat.v1.saved_model.loader.load(session, ["serve"], path)
signature = meta.signature_def["serving_default"]
fetches = [signature.outputs[name].name for name in ("top_k", "scores")]
feeds = [signature.inputs[name].name for name in ("user", "level_topn")]
search = session.make_callable(fetches, feeds)
topn = np.array([3, 20, 30, 30, 30, 25], np.int32)

def rss_anon():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1])

with ThreadPoolExecutor(32) as pool:
    run = lambda user: search(user, topn)
    list(pool.map(run, np.concatenate([users] * 2)))
    warm = rss_anon()
    concurrent = list(pool.map(run, users))
    loaded = rss_anon()
sequential = [run(user) for user in users]
same = all(np.array_equal(a, b) for x, y in zip(concurrent, sequential) for a, b in zip(x, y))
print(json.dumps({"same": same, "warm_kb": warm, "loaded_kb": loaded, "searches": len(users)}))
"""


def test_a_thousand_concurrent_searches(tmp_path: Path) -> None:
    """From 32 threads: the answers of sequential ones, and no memory beyond the level after warm-up.

    The process imports nothing of nann: only the op library, as a C++ server would.
    """
    path = save_model(random_corpus(22, num_items=5000, degree=8, sparsity=0.0), tmp_path)
    np.save(tmp_path / "users.npy", random_users(1000))
    command = [
        sys.executable,
        "-c",
        LOAD_SCRIPT,
        str(nann.ops.library_path()),
        str(path),
        str(tmp_path / "users.npy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["searches"] == 1000
    assert report["same"]
    assert report["loaded_kb"] <= 1.05 * report["warm_kb"], report


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = random_corpus(23, num_items=3000, degree=12, sparsity=0.0)
    return save_model(corpus, tmp_path_factory.mktemp("slow"), slow_steps=100)


WIDE = np.array([3, 500, 2000, 2000, 2000, 100], np.int32)


def test_an_expired_request_stops_within_a_tile(slow_model: Path) -> None:
    model = Model(slow_model, config(2, 2))
    users = np.ones((20, DIM), np.float32)  # 121 slow tiles each: far beyond the deadline below.
    before = nann.ops.metrics()
    with pytest.raises(tf.errors.DeadlineExceededError):
        model(users, WIDE, timeout_millis=200)
    # A session returns when its kernels have: nothing runs on behind the caller's back.
    after = nann.ops.metrics()
    assert after["/nann/tiles"] - before["/nann/tiles"] < 121
    assert after["/nann/searches"] == before["/nann/searches"]
    model(np.ones((1, DIM), np.float32), timeout_millis=60_000)  # The model still answers.


def test_a_cancelled_request_stops_within_a_tile(slow_model: Path) -> None:
    signature = tf.saved_model.load(str(slow_model)).signatures["serving_default"]
    manager = cancellation.CancellationManager()
    search = manager.get_cancelable_function(signature)
    before = nann.ops.metrics()["/nann/tiles"]
    caught: list[BaseException] = []

    def run() -> None:
        try:
            search(user=tf.ones([20, DIM]), level_topn=tf.constant(WIDE))
        except tf.errors.CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while thread.is_alive() and nann.ops.metrics()["/nann/tiles"] == before:
        threading.Event().wait(0.001)  # The op counts tiles but has nobody to tell.
    manager.start_cancel()
    cancelled = nann.ops.metrics()["/nann/tiles"]
    thread.join()
    assert caught
    lanes = os.cpu_count() or 1  # Each may have looked at the cancellation just before it came.
    assert nann.ops.metrics()["/nann/tiles"] - cancelled <= lanes
