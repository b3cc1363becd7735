"""The yardstick in stock TensorFlow ops is the one that everybody measures against."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "baselines" / "stock_tf_nann.py"


@pytest.mark.skipif(
    not SHARED.exists(), reason=f"the original of the yardstick is not beside this tree: {SHARED}"
)
def test_the_yardstick_is_taken_over_unchanged() -> None:
    assert (ROOT / "bench" / "_stock_tf_nann.py").read_bytes() == SHARED.read_bytes()
