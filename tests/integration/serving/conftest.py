"""Servers as real processes on free ports, and small models with the signatures of an export."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_READY_SECONDS = 120
_EVENT_SECONDS = 120
ITEMS = 40
WIDTH = 6


class ServerProcess:
    """`nann serve` with flags of the test's choice; its log can be waited for."""

    grpc: str
    rest: str

    def __init__(self, *flags: str, as_json: bool = True) -> None:
        command = [sys.executable, "-c", "from nann.cli import main; main()", "serve"]
        ports = ["--host", "localhost", "--port", "0", "--rest_api_port", "0"]
        self._process = subprocess.Popen(
            [*command, *ports, *(["--json"] if as_json else []), *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self.log: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def wait_ready(self) -> ServerProcess:
        """Wait for the line that gives the addresses."""
        assert self._process.stdout is not None
        timer = threading.Timer(_READY_SECONDS, self._process.kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        assert line, "the server ended before it was ready:\n" + "".join(self.log)
        if line.startswith("{"):
            ready = json.loads(line)
            self.grpc, self.rest = ready["grpc"], ready["rest"]
        else:
            found = re.fullmatch(
                r"Serving (\S+) \(versions from (.*)\): gRPC on (\S+), REST on (\S+)\n", line
            )
            assert found is not None, line
            self.grpc, self.rest = found[3], found[4]
        return self

    def metrics(self) -> str:
        """The page of metrics, of a server that shows one."""
        url = f"http://{self.rest}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=_EVENT_SECONDS) as response:
            return str(response.read().decode())

    def wait_for_log(self, text: str) -> str:
        """Wait for a line, from here on, that holds `text`."""
        while True:
            line = self._lines.get(timeout=_EVENT_SECONDS)
            assert line is not None, f"the server ended without a log line {text!r}:\n" + "".join(self.log)
            if text in line:
                return line

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self._process.wait()

    def suspend(self) -> None:
        """Have it hang: its connections stay open, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait(self) -> int:
        """Return the exit code."""
        return self._process.wait(_EVENT_SECONDS)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., ServerProcess]]:
    """Start `nann serve` with the flags given; all are ended with the session."""
    started: list[ServerProcess] = []

    def start(*flags: str, as_json: bool = True) -> ServerProcess:
        started.append(ServerProcess(*flags, as_json=as_json))
        return started[-1]

    yield start
    for server in started:
        server.close()


def _item_table() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(-4, 5, (ITEMS, WIDTH)).astype(np.float32)


@pytest.fixture(scope="session")
def item_table() -> np.ndarray[Any, Any]:
    return _item_table()


@pytest.fixture(scope="session")
def best() -> Callable[..., tuple[Any, Any]]:
    """What the small model answers: (comm_seq, k, bonus) -> ids and scores."""
    return _best


def _best(comm_seq: Any, k: int, bonus: float = 0.0) -> tuple[Any, Any]:
    """Ids are 1000 + row, ties by the smaller id."""
    scores = np.asarray(comm_seq, np.float32) @ _item_table().T + bonus
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return rows + 1000, np.take_along_axis(scores, rows, 1)


def _save_small_model(folder: Path, bonus: float) -> None:
    """Write a model with the signatures of an export, made of stock ops.

    Its signature `hold` writes to the named pipe `started` and then runs until the file `go` exists, so
    that a test can have a request under way for as long as it likes.
    """
    import tensorflow as tf

    f16, f32, i32, i64, text = tf.float16, tf.float32, tf.int32, tf.int64, tf.string

    def spec(shape: list[int | None], dtype: tf.DType, name: str) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype, name)

    class SmallModel(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.items = tf.Variable(_item_table())
            self.bonus = tf.Variable(bonus)

        def scores(self, comm_seq: Any) -> Any:
            return tf.linalg.matmul(tf.cast(comm_seq, f32), self.items, transpose_b=True) + self.bonus

        @tf.function(input_signature=[spec([None, WIDTH], f16, "comm_seq"), spec([None], i32, "level_topn")])
        def serving_default(self, comm_seq: Any, level_topn: Any) -> Any:
            found = tf.math.top_k(self.scores(comm_seq), level_topn[-1])
            return {"top_k": tf.cast(found.indices, i64) + 1000, "scores": found.values}

        @tf.function(
            input_signature=[
                spec([None, WIDTH], f32, "comm_seq"),
                spec([None, None], i32, "level_topn"),
                spec([None, None], i64, "exclude_ids"),
            ]
        )
        def retrieve(self, comm_seq: Any, level_topn: Any, exclude_ids: Any) -> Any:
            ids = tf.range(ITEMS, dtype=i64) + 1000
            is_excluded = tf.reduce_any(ids[None, :, None] == exclude_ids[:, None, :], axis=2)
            scores = tf.where(is_excluded, -np.inf, self.scores(comm_seq))
            found = tf.math.top_k(scores, tf.reduce_max(level_topn[:, -1]))
            is_item = found.values > -np.inf
            return {
                "top_k": tf.where(is_item, tf.cast(found.indices, i64) + 1000, np.int64(-1)),
                "scores": found.values,
                "items_scored": tf.fill([tf.shape(comm_seq)[0]], ITEMS),
            }

        @tf.function(
            input_signature=[
                spec([None, 3], i64, "item_ids"),
                spec([None, 3], i64, "cate_ids"),
                spec([None, None], i32, "level_topn"),
                spec([None, None], i64, "exclude_ids"),
            ]
        )
        def retrieve_by_ids(self, item_ids: Any, cate_ids: Any, level_topn: Any, exclude_ids: Any) -> Any:
            return self.retrieve(tf.cast(tf.concat([item_ids, cate_ids], 1), f32), level_topn, exclude_ids)

        @tf.function(
            input_signature=[spec([None, WIDTH], f32, "comm_seq"), spec([None, None], i64, "item_ids")]
        )
        def score(self, comm_seq: Any, item_ids: Any) -> Any:
            rows = item_ids - 1000
            is_known = (rows >= 0) & (rows < ITEMS)
            scores = tf.gather(self.scores(comm_seq), tf.where(is_known, rows, 0), batch_dims=1)
            return {"scores": tf.where(is_known, scores, -np.inf)}

        @tf.function(input_signature=[spec([], text, "started"), spec([], text, "go")])
        def hold(self, started: Any, go: Any) -> Any:
            with tf.control_dependencies([tf.io.write_file(started, "started")]):
                turns = tf.while_loop(
                    lambda turn: tf.size(tf.io.matching_files(go)) == 0,
                    lambda turn: [turn + 1],
                    [tf.constant(0)],
                )
            return {"turns": turns[0]}

    model = SmallModel()
    names = ("serving_default", "retrieve", "retrieve_by_ids", "score", "hold")
    tf.saved_model.save(model, str(folder), signatures={name: getattr(model, name) for name in names})


@pytest.fixture(scope="session")
def small_models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two SavedModels that differ by 100 in every score."""
    folder = tmp_path_factory.mktemp("small_models")
    _save_small_model(folder / "plain", 0.0)
    _save_small_model(folder / "plus_100", 100.0)
    return folder / "plain", folder / "plus_100"


@pytest.fixture(scope="session")
def export_base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base path with a real export, version 1, whose items have titles."""
    from nann.export import ExportOptions, Tuning, export_model
    from support.tiny_run import write_run

    folder = tmp_path_factory.mktemp("exported")
    run = write_run(folder / "run")
    ids = np.load(run / "embeddings/item_ids.npy").tolist()
    (run / "titles.json").write_text(json.dumps({str(item): f"Film <b>{item}</b>" for item in ids}))
    options = ExportOptions(table_bytes=0, tuning=Tuning(walk="fixed"))
    export_model(run, folder / "models" / "nann" / "1", options)
    return folder / "models" / "nann"


@pytest.fixture(scope="session")
def publish() -> Callable[[Path, Path, int], Path]:
    return _publish


class Hold:
    """A request that is under way until it is released."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._started = folder / "started"
        self._go = folder / "go"
        os.mkfifo(self._started)
        self.inputs = {"started": str(self._started), "go": str(self._go)}

    def wait_started(self) -> None:
        """Wait until the model runs it: reading the pipe ends when the model has written to it."""
        assert self._started.read_text() == "started"

    def release(self) -> None:
        self._go.touch()


@pytest.fixture
def hold() -> type[Hold]:
    return Hold


def _publish(model: Path, base_path: Path, version: int) -> Path:
    """Copy a SavedModel into place as an exporter does: beside, then renamed."""
    base_path.mkdir(parents=True, exist_ok=True)
    beside = base_path / f".{version}.tmp"
    shutil.copytree(model, beside)
    return beside.rename(base_path / str(version))


@pytest.fixture(scope="session")
def running(
    serve: Callable[..., ServerProcess],
    small_models: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> ServerProcess:
    """One server with the plain small model as `nann`, version 1, for tests that change nothing."""
    base_path = tmp_path_factory.mktemp("running") / "nann"
    _publish(small_models[0], base_path, 1)
    return serve("--model_name", "nann", "--model_base_path", str(base_path)).wait_ready()
