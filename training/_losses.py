"""Losses of an example's own item against sampled items, and the adversarial term."""

from __future__ import annotations

from typing import Literal

import tensorflow as tf

Loss = Literal["softmax", "bce"]
_ACCIDENTAL_HIT = -1e9


def corrected(
    scores: tf.Tensor, hits: tf.Tensor, target_log_counts: tf.Tensor, negative_log_counts: tf.Tensor
) -> tf.Tensor:
    """Scores [M, 1 + S] with the log-expected-count correction; hits: bool [M, S].

    From each score the log of the number of times that the sampler is expected to draw the item is
    subtracted, so that the score itself comes to estimate the log-probability under the full softmax (up to
    a constant of the user), or its log-odds with the binary loss, whatever the sampler draws: Bengio and
    Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic language model",
    IEEE Transactions on Neural Networks 19(4), 2008; TensorFlow's "What is candidate sampling". A negative
    that is the target itself ("accidental hit") is left out.
    """
    own = scores[:, :1] - target_log_counts[:, tf.newaxis]
    others = scores[:, 1:] - negative_log_counts + tf.cast(hits, scores.dtype) * _ACCIDENTAL_HIT
    return tf.concat([own, others], axis=1)


def loss_of_examples(kind: Loss, logits: tf.Tensor) -> tf.Tensor:
    """Corrected scores [M, 1 + S], the example's own item first -> loss [M]."""
    if kind == "softmax":
        return tf.reduce_logsumexp(logits, axis=1) - logits[:, 0]
    # Softplus is the cross-entropy of a logit with label 0, and of its negative with label 1.
    return tf.nn.softplus(-logits[:, 0]) + tf.reduce_sum(tf.nn.softplus(logits[:, 1:]), axis=1)


def divergence(clean: tf.Tensor, perturbed: tf.Tensor) -> tf.Tensor:
    """KL(clean || perturbed) of the distributions that two scores [M, 1 + S] give: float32 [M]."""
    log_clean, log_perturbed = tf.nn.log_softmax(clean), tf.nn.log_softmax(perturbed)
    return tf.reduce_sum(tf.exp(log_clean) * (log_clean - log_perturbed), axis=1)
