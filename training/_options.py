"""How to train, and what suits a data set where nothing else is asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from nann.training._checks import check_options
from nann.training._dataset import Dataset

# Users with this many events are dense data, as in MovieLens.
_MANY_EVENTS = 40
_BATCH, _NEGATIVES = 512, 2048
# Steps after which the sets that the defaults were chosen on learn no more, and bounds of the epochs.
_STEPS, _EPOCHS = 4096, (3, 16)

Loss = Literal["softmax", "bce", "in_batch"]
Schedule = Literal["constant", "linear", "cosine"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainOptions:
    """How to train. 0 or None where an option says so: chosen by the size and kind of the data.

    Attributes:
      epochs: the most passes over all training events; 0: by the data.
      batch_size: examples per step, each the prediction of one event; 0: by the data.
      negatives: S, items drawn per step, shared by the whole batch; 0: by the data. As many as there are
        items, or more: the softmax is over all items.
      loss: "softmax" (sampled softmax), "bce" (binary cross-entropy of the own item and the sampled ones),
        both with log-expected-count correction; "in_batch": softmax over the batch's own items.
      learning_rate: the highest of Adam's.
      schedule: how it falls after a rise in the first 5 % of the steps.
      weight_decay: decoupled, on all matrices.
      clip_norm: the largest norm of a step's gradients; 0: no limit.
      dropout: share of values that are dropped; None: by the data.
      item_noise: standard deviation of noise on item embeddings in training, as a share of their own.
      popularity_power: negatives are drawn with probability ~ (1 + popularity) ** popularity_power.
      adv_eps: length of the adversarial step on item embeddings, as a share of their own length; 0: none.
      adv_weight: weight of the divergence of clean and perturbed scores in the loss.
      patience: epochs without a better validation recall after which training ends; 0: never.
      keep: how many of the last checkpoints are kept, besides the best.
      seed: of the weights, the order of the examples, the negatives, dropout and noise.
      checkpoint_steps: steps between two checkpoints (there is one at the end of each epoch, too); 0: 1000.
      precision: "bfloat16" computes what TensorFlow holds to be safe in bfloat16; weights stay float32.
      deterministic: operations whose result does not depend on the order in which threads end.
    """

    epochs: int = 0
    batch_size: int = 0
    negatives: int = 0
    loss: Loss = "softmax"
    learning_rate: float = 2e-3
    schedule: Schedule = "cosine"
    weight_decay: float = 1e-4
    clip_norm: float = 5.0
    dropout: float | None = None
    item_noise: float = 0.0
    popularity_power: float = 0.0
    adv_eps: float = 0.0
    adv_weight: float = 1.0
    patience: int = 10
    keep: int = 2
    seed: int = 0
    checkpoint_steps: int = 0
    precision: Precision = "float32"
    deterministic: bool = False

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        expectations = {
            "epochs of 0 and above": self.epochs >= 0,
            "batch_size of 0 and above": self.batch_size >= 0,
            "negatives of 0 and above": self.negatives >= 0,
            "loss softmax, bce or in_batch": self.loss in ("softmax", "bce", "in_batch"),
            "schedule constant, linear or cosine": self.schedule in ("constant", "linear", "cosine"),
            "precision float32 or bfloat16": self.precision in ("float32", "bfloat16"),
            "checkpoint_steps of 0 and above": self.checkpoint_steps >= 0,
            "a positive, finite learning_rate": 0 < self.learning_rate < float("inf"),
            "weight_decay of 0 and above": self.weight_decay >= 0,
            "clip_norm of 0 and above": self.clip_norm >= 0,
            "dropout in [0, 1)": self.dropout is None or 0 <= self.dropout < 1,
            "item_noise of 0 and above": self.item_noise >= 0,
            "popularity_power in [0, 1]": 0 <= self.popularity_power <= 1,
            "adv_eps of 0 and above": self.adv_eps >= 0,
            "adv_weight of 0 and above": self.adv_weight >= 0,
            "patience of 0 and above": self.patience >= 0,
            "keep of 1 and above": self.keep >= 1,
            "seed of 0 and above": self.seed >= 0,
        }
        check_options("training options", expectations, self)

    def resolved(self, dataset: Dataset) -> TrainOptions:
        """The same with every 0 and None replaced by what suits `dataset`."""
        chosen = _suiting(dataset)
        unset = {"dropout": self.dropout is None}
        return replace(
            self, **{name: v for name, v in chosen.items() if unset.get(name, getattr(self, name) == 0)}
        )


def _suiting(dataset: Dataset) -> dict[str, Any]:
    """Values by the size and the density of the data."""
    examples = dataset.num_train_examples
    sparse = float(np.median(dataset.lengths)) < _MANY_EVENTS
    return {
        "epochs": int(np.clip(_STEPS * _BATCH // max(1, examples), *_EPOCHS)),
        "batch_size": _BATCH,
        "negatives": _NEGATIVES,
        # Short histories say little: without much dropout the tower learns them by heart.
        "dropout": 0.5 if sparse else 0.2,
        "checkpoint_steps": 1000,
    }
