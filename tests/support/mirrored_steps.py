"""Steps of two replicas, and the same of one process that takes the mean of both batches' gradients."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nann.training import TrainOptions, load_source
from nann.training._features import ItemFeatures, UserFeatures
from nann.training._models import choose_model
from nann.training._optimizer import RowwiseAdamW
from nann.training._step import TrainStep, tensors_of
from nann.training._trainable import values_of
from nann.training._trainer import _make_sampler
from nann.training._workers import Workers

STEPS, RATE = 3, 0.01
# Many more items than the steps touch.
_SOURCE = "synthetic:items=3000,users=40,events=24,seed=1"
_OPTIONS = TrainOptions(batch_size=64, negatives=16, seed=5)


class _Optimizer(RowwiseAdamW):
    """Notes which gradients are of rows."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.trainable_variables, weight_decay=0.1, clip_norm=1.0)

    def apply(self, gradients: Sequence[Any], rate: tf.Tensor) -> None:
        self.of_rows = [isinstance(each, tf.IndexedSlices) for each in gradients]
        super().apply(gradients, rate)


class _Kept:
    """In the place of an optimizer: keeps the gradients."""

    def apply(self, gradients: Sequence[Any], rate: tf.Tensor) -> None:
        self.gradients = list(gradients)


class _Case:
    """A model and its batches. What it ends with: arrays by name."""

    def __init__(self, name: str, sizes: Mapping[str, Any]) -> None:
        self._dataset = load_source(_SOURCE)
        self._options = _OPTIONS.resolved(self._dataset)
        self._chosen = choose_model(name, self._dataset, sizes)

    def _batches(self, model: Any, step: int) -> list[dict[str, Any]]:
        users, items = UserFeatures(self._dataset, model.user_features), ItemFeatures(self._dataset, model)
        sampler = _make_sampler(self._dataset, self._options, model, users.length)
        return [tensors_of(users, items, sampler.batch(2 * step + replica)) for replica in range(2)]

    def mirrored(self) -> dict[str, Any]:
        """Two replicas."""
        workers = Workers("mirrored")
        assert workers.count == 2
        with workers.scope():
            model = self._chosen.create(self._options.seed)
            optimizer = _Optimizer(model)
        step = TrainStep(model, optimizer, self._options, workers)
        losses = [step(self._batches(model, n), rate=RATE, step=n).numpy() for n in range(STEPS)]
        weights, moments = values_of(model.trainable_variables), optimizer.checkpointed()
        table = optimizer.of_rows.index(True)
        ended = {
            "losses": np.array(losses),
            "state": _flat(_not_trained(model)),
            "table": weights[table].numpy(),
            "table moments": moments[f"second {table}"].numpy(),
        }
        for i in range(2):
            ended[f"weights of {i}"] = _flat(each.values[i] for each in weights)
            ended[f"moments of {i}"] = _flat(each.values[i] for each in moments.values())
        return ended

    def alone(self) -> dict[str, Any]:
        """One process, which computes the gradients of one batch after the other."""
        model = self._chosen.create(self._options.seed)
        optimizer, losses = _Optimizer(model), []
        weights, state = values_of(model.trainable_variables), _not_trained(model)
        start = [each.numpy() for each in weights]
        for step in range(STEPS):
            before = [each.numpy() for each in state]
            second, second_loss = self._gradients(model, step, 1)
            # Both replicas begin with the same seeds and batch norms, and the first one's are kept.
            for variable, value in zip(state, before, strict=True):
                variable.assign(value)
            first, first_loss = self._gradients(model, step, 0)
            optimizer.apply(list(map(_mean, first, second)), tf.constant(RATE))
            losses.append((first_loss + second_loss) / 2)
        return {
            "start": np.concatenate([each.ravel() for each in start]),
            "start table": start[optimizer.of_rows.index(True)],
            "losses alone": np.array(losses),
            "weights alone": _flat(weights),
            "moments alone": _flat(optimizer.checkpointed().values()),
            "state alone": _flat(state),
        }

    def _gradients(self, model: Any, step: int, replica: int) -> tuple[list[Any], float]:
        kept: Any = _Kept()
        batch = self._batches(model, step)[replica]
        loss = TrainStep(model, kept, self._options)([batch], rate=RATE, step=2 * step + replica)
        return kept.gradients, float(loss)


def _not_trained(model: Any) -> list[tf.Variable]:
    trained = {id(each) for each in model.trainable_variables}
    return values_of(each for each in model.variables if id(each) not in trained)


def _mean(one: Any, other: Any) -> Any:
    if not isinstance(one, tf.IndexedSlices):
        return None if one is None else (one + other) / 2
    values = tf.concat([one.values, other.values], axis=0) / 2
    return tf.IndexedSlices(values, tf.concat([one.indices, other.indices], axis=0), one.dense_shape)


def _flat(variables: Iterable[Any]) -> Any:
    return np.concatenate([np.zeros(0), *(each.numpy().ravel() for each in variables)])


def main() -> None:
    """OUT, a model, and its sizes as JSON: writes OUT/MODEL.npz."""
    folder, name, sizes = sys.argv[1:]
    tf.config.experimental.enable_op_determinism()
    case = _Case(name, json.loads(sizes))
    mirrored = case.mirrored()
    # Eager steps leave their gradients as numbers.
    tf.config.run_functions_eagerly(True)
    np.savez(Path(folder) / f"{name}.npz", **mirrored, **case.alone())
