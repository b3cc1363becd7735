"""A model of one fused search, as slow as a test needs it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

import nann.ops
from nann.export.constants import freeze
from support.graphs import DIM, Corpus


def save_model(corpus: Corpus, folder: Path, *, slow_steps: int = 0, user_steps: int = 0) -> Path:
    """Export a dot-product model; `slow_steps` matrix products make a tile slow, scores the same.

    With `user_steps` the user's part is a loop of so many steps, that changes nothing.
    """
    module = tf.Module()
    module.index = nann.ops.IndexResource(**corpus.write(folder))

    def score(user, items):
        scores = tf.linalg.matvec(items, user)
        if slow_steps:
            matrix = tf.zeros([256, 256])
            for _ in tf.range(slow_steps):
                matrix = tf.linalg.matmul(matrix, matrix)
            scores += matrix[0, 0]
        return scores

    scorer = tf.function(
        score, input_signature=[tf.TensorSpec([DIM]), tf.TensorSpec([16, DIM])]
    ).get_concrete_function()

    def loop(user):
        for _ in tf.range(user_steps):
            user = user + 0.0 * tf.reduce_sum(user)
        return user

    user_function = freeze(
        tf.function(loop, input_signature=[tf.TensorSpec([DIM])]).get_concrete_function(), what="user"
    )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, DIM], name="user"),
            tf.TensorSpec([None], tf.int32, name="level_topn"),
        ]
    )
    def serve(user, level_topn):
        found = nann.ops.beam_search(
            module.index,
            [user],
            level_topn,
            scorer=scorer,
            tile_rows=16,
            user_functions=[user_function] if user_steps else [],
        )
        return {"top_k": found.ids, "scores": found.scores}

    tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": serve})
    return folder / "model"
