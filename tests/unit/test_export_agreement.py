"""When two answers agree (docs/design.md#the-search)."""

from __future__ import annotations

import numpy as np
import pytest

from nann.export._verify import difference, relative_difference

INF = np.inf


def _difference(found: dict[int, float], expected: dict[int, float]) -> str | None:
    text, _ = difference(
        np.array([*found]),
        np.array([*found.values()], np.float32),
        np.array([*expected]),
        np.array([*expected.values()], np.float32),
    )
    return text


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({1: 3.0, 2: 2.0}, {1: 3.0, 2: 2.0}),
        ({1: 3.0, 2: 2.999999}, {2: 3.0, 1: 2.999999}),  # nearly equal scores, the other order
        ({1: 3.0, 2: -INF, -1: -INF}, {1: 3.0, 2: -INF, -1: -INF}),
        ({-1: -INF}, {-1: -INF}),
        ({1: 100.0, 2: 1e-7}, {1: 100.0, 2: 2e-7}),  # relative to the largest score
    ],
)
def test_answers_that_agree(found: dict[int, float], expected: dict[int, float]) -> None:
    assert _difference(found, expected) is None


@pytest.mark.parametrize(
    ("found", "expected", "message"),
    [
        ({1: 3.0, 3: 2.0}, {1: 3.0, 2: 2.0}, "items [3] instead of [2]"),
        ({1: 3.0, -1: -INF}, {1: 3.0, 2: 2.0}, "items [-1] instead of [2]"),
        ({1: 3.0, 2: 2.1}, {1: 3.0, 2: 2.0}, "scores that differ by 3.3e-02"),
        ({2: 2.0, 1: 3.0}, {1: 3.0, 2: 2.0}, "items in another order"),
        ({1: 3.0, 2: 2.0}, {1: 3.0, 2: -INF}, "scores that differ by inf"),
    ],
)
def test_answers_that_do_not(found: dict[int, float], expected: dict[int, float], message: str) -> None:
    text = _difference(found, expected)
    assert text is not None
    assert message in text


def test_an_item_twice_is_no_answer() -> None:
    scores = np.array([3.0, 3.0, 2.0], np.float32)
    text, _ = difference(np.array([1, 1, 2]), scores, np.array([1, 2, 3]), scores)
    assert text is not None


def test_nan_must_be_nan_on_both_sides() -> None:
    nan, one = np.array([np.nan, 1.0], np.float32), np.array([1.0, 1.0], np.float32)
    assert relative_difference(nan, nan) == 0
    assert relative_difference(nan, one) == INF
    assert relative_difference(one, nan) == INF
