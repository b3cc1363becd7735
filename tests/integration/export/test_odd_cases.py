"""Odd models and slips of their authors: each ends in an export or in a sentence of ours (tests/zoo)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.odd import OddCase, export_odd, fault_of
from zoo.odd_cases import ODD_CASES
from zoo.today import ODD


def cases() -> list[Any]:
    """All cases; `make test` has those that no export is made of."""
    assert ODD.keys() <= ODD_CASES.keys()
    marked = []
    for name, case in ODD_CASES.items():
        marks = [pytest.mark.slow] if case.expected.accepted else []
        if name in ODD:
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=ODD[name]))
        marked.append(pytest.param(case, id=name, marks=marks))
    return marked


@pytest.mark.parametrize("case", cases())
def test_an_odd_model_has_its_answer(case: OddCase, tmp_path: Path) -> None:
    assert fault_of(case, export_odd(case, tmp_path)) is None
