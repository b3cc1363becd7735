"""A function in a process of its own."""

from __future__ import annotations

import os

import pytest

from nann.bench.new_process import in_new_process
from nann.errors import InvalidInputError
from nann.progress import OnProgress


def _square(number: int, on_progress: OnProgress) -> tuple[int, int]:
    on_progress("squaring", 1, 1)
    return number * number, os.getpid()


def _refuse(number: int, on_progress: OnProgress) -> int:
    raise InvalidInputError(f"number: expected none, found {number}")


def _threads_twice(first: int, second: int, on_progress: OnProgress) -> None:
    from nann.bench.targets import limit_threads

    limit_threads(first)
    limit_threads(first)
    limit_threads(second)


def test_result_and_process() -> None:
    squared, process = in_new_process(_square, 7, on_progress=lambda *_: None)
    assert squared == 49
    assert process != os.getpid()


def test_errors_arrive() -> None:
    with pytest.raises(InvalidInputError, match="found 3"):
        in_new_process(_refuse, 3, on_progress=lambda *_: None)


def test_threads_of_a_process_are_chosen_once() -> None:
    pytest.importorskip("tensorflow")
    with pytest.raises(InvalidInputError, match=r"expected 2, but TensorFlow .* with 1 "):
        in_new_process(_threads_twice, 1, 2, on_progress=lambda *_: None)
