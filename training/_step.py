"""One training step: scores of examples against sampled items, their loss, and the update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nann.training._features import ItemFeatures, UserFeatures
from nann.training._layers import next_seed
from nann.training._losses import Loss, corrected, divergence, loss_of_examples
from nann.training._optimizer import RowwiseAdamW
from nann.training._options import TrainOptions
from nann.training._sampling import Batch
from nann.training._trainable import (
    Scored,
    Sequential,
    embedded_items,
    score_examples,
    training_mode,
    values_of,
)
from nann.training._workers import Workers

Tensors = Mapping[str, Any]
# The number of the random stream of a step's noise; layers take those below.
_NOISE = 10_000


def tensors_of(users: UserFeatures, item_side: ItemFeatures, batch: Batch) -> dict[str, Any]:
    """A batch as the step takes it: features of histories and items are looked up here, not in the graph."""
    features = users.of(batch.users, batch.cuts, batch.history)
    read = ("users", "cuts", "history")
    return {
        "features": {name: tf.constant(values) for name, values in features.items()},
        "items": item_side.of(np.concatenate([batch.targets, batch.negatives])),
        **{name: tf.constant(v) for name, v in vars(batch).items() if name not in read},
    }


class TrainStep:
    """Loss, gradients and update of a model, traced once.

    model: what `score_examples` takes.
    workers: whose gradients and losses are averaged; None: this process alone.
    """

    def __init__(
        self, model: Any, optimizer: RowwiseAdamW, options: TrainOptions, workers: Workers | None = None
    ) -> None:
        self._workers = workers or Workers("one")
        self._model = model
        self._optimizer = optimizer
        self._options = options
        self._variables = values_of(model.trainable_variables)
        self._traced: Any = None

    def __call__(self, batches: Sequence[Tensors], *, rate: float, step: int) -> tf.Tensor:
        """Update the model by a batch of each replica of this process; returns the mean loss, float32 []."""
        if self._traced is None:
            self._traced = self._trace(batches[0])
        numbers = [step * self._workers.count + replica for replica in self._workers.own]
        seeds = [tf.constant([self._options.seed, number], tf.int64) for number in numbers]
        return self._traced(batches, tf.constant(rate, tf.float32), seeds)

    def _trace(self, batch: Tensors) -> Any:
        # Of open sizes from the start: each step has other numbers of sequences and examples.
        specs = {name: tf.nest.map_structure(_open, each) for name, each in batch.items()}
        if not isinstance(self._model, Sequential):
            specs["features"] = {
                name: tf.TensorSpec([None, *spec.shape], spec.dtype)
                for name, spec in self._model.user_features.items()
            }
        replicas = len(self._workers.own)
        signature = [
            [specs] * replicas,
            tf.TensorSpec([], tf.float32),
            [tf.TensorSpec([2], tf.int64)] * replicas,
        ]

        def step(batches: Sequence[Tensors], rate: tf.Tensor, seeds: Sequence[tf.Tensor]) -> tf.Tensor:
            inputs = [(batch, rate, seed) for batch, seed in zip(batches, seeds, strict=True)]
            return self._workers.run(self._step, inputs)

        return tf.function(step, input_signature=signature, autograph=False)

    def _step(self, batch: Tensors, rate: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        with training_mode(self._model), tf.GradientTape() as tape:
            embs = embedded_items(self._model, batch["items"])
            loss = self._loss(batch, self._noisy(embs, seed), seed)
        *gradients, loss = self._workers.mean([*tape.gradient(loss, self._variables), loss])
        self._optimizer.apply(gradients, rate)
        return loss

    def _loss(self, batch: Tensors, embs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        options = self._options
        if options.adv_eps == 0:
            return self._loss_of_scores(batch, self._scored(batch, embs, seed))
        with tf.GradientTape() as inner:
            inner.watch(embs)
            scored = self._scored(batch, embs, seed)
            loss = self._loss_of_scores(batch, scored)
        # The fast gradient sign method (arXiv 1412.6572): the step that raises the loss most, for all
        # coordinates of the same length.
        direction = tf.sign(tf.stop_gradient(tf.convert_to_tensor(inner.gradient(loss, embs))))
        length = tf.stop_gradient(tf.sqrt(tf.reduce_mean(tf.square(embs), axis=1, keepdims=True)))
        perturbed = self._scored(batch, embs + options.adv_eps * length * direction, seed)
        apart = [
            _mean(divergence(self._logits(batch, one), self._logits(batch, other)), _weights(batch, one))
            for one, other in zip(scored, perturbed, strict=True)
        ]
        return loss + options.adv_weight * tf.add_n(apart)

    def _scored(self, batch: Tensors, embs: tf.Tensor, seed: tf.Tensor) -> list[Scored]:
        examples = tf.shape(batch["targets"])[0]
        own = embs[:examples]
        shared = own if self._options.loss == "in_batch" else embs[examples:]
        return list(
            score_examples(
                self._model,
                batch["features"],
                batch["places"],
                own,
                shared,
                dropout=float(self._options.dropout or 0.0),
                seed=seed,
            )
        )

    def _loss_of_scores(self, batch: Tensors, scored: list[Scored]) -> tf.Tensor:
        kind: Loss = "bce" if self._options.loss == "bce" else "softmax"
        return tf.add_n(
            [_mean(loss_of_examples(kind, self._logits(batch, one)), _weights(batch, one)) for one in scored]
        )

    def _logits(self, batch: Tensors, scored: Scored) -> tf.Tensor:
        own, own_counts = batch["targets"], batch["target_log_counts"]
        if self._options.loss == "in_batch":
            others, counts = own, own_counts
            # An example that is padding is nobody's negative.
            counts = tf.where(batch["weights"] > 0, counts, tf.float32.max)
        else:
            others, counts = batch["negatives"], batch["negative_log_counts"]
        if scored.examples is not None:
            own, own_counts = tf.gather(own, scored.examples), tf.gather(own_counts, scored.examples)
        if scored.shared is not None:
            others, counts = tf.gather(others, scored.shared), tf.gather(counts, scored.shared)
        return corrected(scored.scores, own[:, tf.newaxis] == others, own_counts, counts)

    def _noisy(self, embs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        if self._options.item_noise == 0:
            return embs
        scale = self._options.item_noise * tf.stop_gradient(tf.math.reduce_std(embs, axis=0))
        return embs + scale * tf.random.stateless_normal(tf.shape(embs), seed=next_seed(seed, _NOISE))


def _open(tensor: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None] * tensor.shape.rank, tensor.dtype)


def _weights(batch: Tensors, scored: Scored) -> tf.Tensor:
    weights = batch["weights"]
    return weights if scored.examples is None else tf.gather(weights, scored.examples)


def _mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)
