"""A model whose score falls off smoothly around the user's events, so that a walk finds the best of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from support.tiny_model import TinyModel


class SmoothModel(TinyModel):
    """The score is how near an item is to the events: no dot product has so many hills."""

    @classmethod
    def from_run(cls, run_dir: Path) -> SmoothModel:
        return cls()

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        events = user_state["comm_seq"]
        distances = tf.reduce_sum(tf.square(item_embs[:, tf.newaxis] - events), axis=-1)
        return tf.reduce_logsumexp(-distances / 4.0, axis=1)
