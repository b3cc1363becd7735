"""Requests that are joined into one run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidFileError
from nann.serving.server import (
    BatchingOptions,
    Code,
    SessionOptions,
    StatusError,
    read_batching_parameters_file,
)
from nann.serving.server._batching import BatchedServable, Batcher

_SECONDS = 60


class _Session:
    """Adds one to x. The first run waits for `go`, so that others gather behind it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.started = threading.Event()
        self.runs: list[dict[str, Any]] = []

    def run(self, feeds: Any, fetches: Any, timeout_ms: int | None) -> list[Any]:
        self.runs.append(dict(feeds))
        self.started.set()
        assert self.go.wait(_SECONDS)
        if (feeds["x"] < 0).any():
            raise StatusError(Code.INVALID_ARGUMENT, "negative")
        return [feeds["x"] + 1 for _ in fetches]


def _gather(batcher: Batcher, session: _Session, inputs: list[Any]) -> list[Any]:
    """Run the first input, and the others while it runs; return the results or the errors."""
    with ThreadPoolExecutor(len(inputs)) as pool:

        def ask(array: Any) -> Any:
            try:
                return batcher.run({"x": array}, ["y"], None)[0].tolist()
            except StatusError as error:
                return error

        first = pool.submit(ask, inputs[0])
        assert session.started.wait(_SECONDS)
        others = [pool.submit(ask, array) for array in inputs[1:]]
        _wait(lambda: sum(len(batch.tasks) for batch in batcher._open.values()) == len(others))
        session.go.set()
        return [future.result(_SECONDS) for future in (first, *others)]


def _wait(condition: Callable[[], bool]) -> None:
    ticks = threading.Event()
    for _ in range(_SECONDS * 100):
        if condition():
            return
        ticks.wait(0.01)
    raise AssertionError("the condition did not come true")


def _batcher(**options: Any) -> tuple[Batcher, _Session]:
    session = _Session()
    return Batcher(session.run, BatchingOptions(num_batch_threads=1, **options)), session


def test_requests_that_wait_are_joined() -> None:
    batcher, session = _batcher()
    found = _gather(batcher, session, [np.zeros((1, 2)), np.ones((2, 2)), np.full((1, 2), 2.0)])
    assert found == [[[1, 1]], [[2, 2], [2, 2]], [[3, 3]]]
    assert [len(run["x"]) for run in session.runs] == [1, 3]


def test_inputs_of_different_widths_are_padded_with_their_first_value() -> None:
    batcher, session = _batcher(pad_variable_length_inputs=True)
    found = _gather(batcher, session, [np.zeros((1, 1)), np.array([[5.0, 6, 7]]), np.array([[8.0], [9]])])
    assert found == [[[1]], [[6, 7, 8]], [[9, 9, 9], [10, 9, 9]]]
    empty, others = _batcher(pad_variable_length_inputs=True)
    for error in _gather(empty, others, [np.zeros((1, 1)), np.zeros((1, 0)), np.ones((1, 2))])[1:]:
        assert "empty tensor" in error.message


def test_inputs_of_different_widths_fail_without_padding() -> None:
    batcher, session = _batcher()
    first, *others = _gather(batcher, session, [np.zeros((1, 1)), np.zeros((1, 2)), np.zeros((1, 3))])
    assert first == [[1]]
    assert all("padding is turned off" in error.message for error in others)


def test_an_error_is_that_of_every_request_in_the_batch() -> None:
    batcher, session = _batcher()
    found = _gather(batcher, session, [np.zeros((1, 1)), np.full((1, 1), -1.0), np.ones((1, 1))])
    assert found[0] == [[1]]
    assert [error.message for error in found[1:]] == ["negative", "negative"]


def test_a_run_is_filled_up_to_an_allowed_size() -> None:
    batcher, session = _batcher(max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert _gather(batcher, session, [np.zeros((1, 1)), np.array([[1.0], [2]]), np.array([[3.0]])])[1:] == [
        [[2], [3]],
        [[4]],
    ]
    assert [run["x"].ravel().tolist() for run in session.runs] == [[0, 0], [1, 2, 3, 1]]


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "Batching Run() must have at least one input tensor"),
        ({"x": np.float32(1)}, "Batching Run() input tensors must have at least one dimension"),
        (
            {"x": np.zeros(2), "y": np.zeros(3)},
            "Batching Run() input tensors must have equal 0th-dimension size",
        ),
        ({"x": np.zeros(5)}, "Task size 5 is larger than maximum input batch size 4"),
    ],
)
def test_inputs_refused(feeds: Any, message: str) -> None:
    batcher, _ = _batcher(max_batch_size=4)
    with pytest.raises(StatusError) as error:
        batcher.run({name: np.asarray(array) for name, array in feeds.items()}, ["y"], None)
    assert (error.value.code, error.value.message) == (Code.INVALID_ARGUMENT, message)


def test_no_rows_are_run_alone_and_too_many_batches_are_refused() -> None:
    batcher, session = _batcher(max_batch_size=1, max_enqueued_batches=1)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(batcher.run, {"x": np.zeros((1, 1))}, ["y"], None)
        assert session.started.wait(_SECONDS)
        waiting = pool.submit(batcher.run, {"x": np.ones((1, 1))}, ["y"], None)
        _wait(lambda: batcher._waiting == 1)
        with pytest.raises(StatusError, match=r"UNAVAILABLE.*queue.*is full"):
            batcher.run({"x": np.ones((1, 1))}, ["y"], None)
        session.go.set()
        assert [future.result(_SECONDS)[0].tolist() for future in (running, waiting)] == [[[1]], [[2]]]
    assert batcher.run({"x": np.zeros((0, 1))}, ["y"], None)[0].shape == (0, 1)


def test_a_request_whose_time_is_over_does_not_wait_for_its_batch() -> None:
    batcher, session = _batcher()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.run, {"x": np.zeros((1, 1))}, ["y"], None)
        assert session.started.wait(_SECONDS)
        leader = pool.submit(batcher.run, {"x": np.zeros((1, 1))}, ["y"], None)
        _wait(lambda: bool(batcher._open))
        with pytest.raises(StatusError, match="DEADLINE_EXCEEDED: Timed out"):
            batcher.run({"x": np.zeros((1, 1))}, ["y"], 20)
        session.go.set()
        assert first.result(_SECONDS)[0].tolist() == leader.result(_SECONDS)[0].tolist() == [[1]]


def test_a_batch_that_nobody_has_time_for_is_not_run() -> None:
    batcher, session = _batcher()
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(batcher.run, {"x": np.zeros((1, 1))}, ["y"], None)
        assert session.started.wait(_SECONDS)
        late = pool.submit(batcher.run, {"x": np.zeros((1, 1))}, ["y"], 1)
        _wait(lambda: bool(batcher._open) and all(b.tasks[0].is_over() for b in batcher._open.values()))
        session.go.set()
        with pytest.raises(StatusError, match=r"RESOURCE_EXHAUSTED: Run.. timeout exceeded while waiting in"):
            late.result(_SECONDS)
        assert first.result(_SECONDS)[0].tolist() == [[1]]
    assert len(session.runs) == 1


def test_only_runs_of_whole_signatures_are_joined(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": x + 1, "z": x}, input_signature=[tf.TensorSpec(None, tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path), signatures=module.f)
    servable = BatchedServable(tmp_path, SessionOptions(), BatchingOptions())
    signature = servable.signatures["serving_default"]
    feeds = {signature.inputs["x"].name: np.array(1, np.float32)}
    both = [signature.outputs[alias].name for alias in ("y", "z")]
    with pytest.raises(StatusError, match="at least one dimension"):
        servable.run(feeds, both, timeout_ms=None)
    assert servable.run(feeds, both[:1], timeout_ms=None) == [2]
    servable.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "expected a text BatchingParameters"),
        ("max_batch_size { value: 0 }", "max_batch_size: expected at least 1, got 0"),
        ("max_batch_size { value: 4 } allowed_batch_sizes: 2", "the last of which is max_batch_size = 4"),
    ],
)
def test_parameter_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "batching.config"
    file.write_text(text)
    with pytest.raises(InvalidFileError, match=message):
        read_batching_parameters_file(file)
    file.write_text(
        "max_batch_size { value: 8 } num_batch_threads { value: 3 } pad_variable_length_inputs: true"
    )
    assert read_batching_parameters_file(file) == BatchingOptions(
        max_batch_size=8, num_batch_threads=3, pad_variable_length_inputs=True
    )
