"""What a rewrite of the scorer split makes of a tensor, and that the values stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nann.export.scorer._ir import Tensor, count_uses
from nann.export.scorer._rewrite import Rule
from support.splitting import ops_of, value_of


@dataclass(frozen=True)
class Case:
    """What a rule makes of a tensor.

    ops: of the result, inputs first, without constants; None: the rule leaves the tensor alone.
    """

    rule: Rule
    before: Callable[[], Tensor]
    ops: list[str] | None


def check(case: Case) -> None:
    """The rule does what the case says."""
    before = case.before()
    after = case.rule(before, count_uses([before]))
    if case.ops is None:
        assert after is None or after == before
        return
    assert after is not None
    assert after.shape == before.shape
    assert ops_of(after) == case.ops
    np.testing.assert_allclose(value_of(after), value_of(before), rtol=1e-5, atol=1e-5)
