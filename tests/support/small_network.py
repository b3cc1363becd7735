"""Sizes of the attention model for tests: it is traced and trained in a fraction of the default's time."""

from __future__ import annotations

# As `train` takes them, and as the command line does. The network has a fifteenth of the default's weights.
SIZES = {"blocks": 1, "attention_dim": 16, "mlp": (32, 16)}
ARGUMENTS = ("--blocks", "1", "--attention-dim", "16", "--mlp", "32,16")
