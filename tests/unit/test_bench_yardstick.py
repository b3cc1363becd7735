"""The yardstick in stock TensorFlow ops is the one that everybody measures against."""

from __future__ import annotations

import hashlib
from pathlib import Path

YARDSTICK = Path(__file__).resolve().parents[2] / "bench" / "peers" / "_stock_tf_nann.py"
SHA256_OF_THE_ORIGINAL = "8a34ef03182b7268567933d95686978ffe3c922a49a6d0ba986b6e51df1f42b4"


def test_the_yardstick_is_taken_over_unchanged() -> None:
    assert hashlib.sha256(YARDSTICK.read_bytes()).hexdigest() == SHA256_OF_THE_ORIGINAL
