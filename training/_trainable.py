"""What a model offers to be trained, beyond what an export needs of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from nann.run import item_features_of
from nann.training._features import item_specs
from nann.training._layers import next_seed

# Bytes of the pairs of user state and item of one step of a network over pairs, and the shared items that
# each example is compared with at least.
_PAIR_BYTES, _LEAST_SHARED = 2**28, 64
# The number of the step's random stream that draws them; layers and the step itself have others.
_PAIRS = 20_000


class Scored(NamedTuple):
    """Scores of some of a step's examples for their own item and some of the shared items.

    Attributes:
      scores: float32 [m, 1 + s]: the example's own item first, then the shared items.
      examples: int32 [m], which of the step's M examples these are; None: all.
      shared: int32 [s], which of the S shared items these are; None: all.
    """

    scores: tf.Tensor
    examples: tf.Tensor | None = None
    shared: tf.Tensor | None = None


@runtime_checkable
class Sequential(Protocol):
    """A model that is trained on the states after all events of a sequence at once."""

    def score_prefixes(
        self,
        features: Mapping[str, tf.Tensor],
        places: tf.Tensor,
        own: tf.Tensor,
        shared: tf.Tensor,
        *,
        dropout: float,
        seed: tf.Tensor,
    ) -> Sequence[Scored]:
        """Score M examples that lie in R sequences.

        Args:
          features: the user features [R, L] of sequences; L may be less than at serving.
          places: int32 [M], the position of each example's newest event in the flattened sequences. Nothing
            of the example's score may depend on later events.
          own: float32 [M, D], the embedding of the item that followed.
          shared: float32 [S, D], embeddings that all examples are compared with.
          dropout: share of values to drop.
          seed: int64 [2], a function of the step.

        Returns:
          one or several scorings; the losses of all are added.
        """


def score_examples(
    model: Any,
    features: Mapping[str, tf.Tensor],
    places: tf.Tensor,
    own: tf.Tensor,
    shared: tf.Tensor,
    *,
    dropout: float,
    seed: tf.Tensor,
) -> Sequence[Scored]:
    """`score_prefixes` of any model: one example per sequence, whose newest event is the last."""
    if isinstance(model, Sequential):
        return model.score_prefixes(features, places, own, shared, dropout=dropout, seed=seed)
    if isinstance(model, ScoresPairs):
        return [_scored_pairs(model, model.embed_user(features), own, shared, seed)]
    return [Scored(score_each(model, model.embed_user(features), own, shared, training=True))]


@runtime_checkable
class ScoresPairs(Protocol):
    """A model of networks over pairs of user and item, as ranking models are (`nann.export.from_keras`)."""

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
        """Features [B, ...] -> state [B, ...]."""

    def training_mode(self) -> AbstractContextManager[None]:
        """Within, dropout drops and batch norms learn."""

    def score_pairs(self, user_state: Mapping[str, tf.Tensor], item_embs: tf.Tensor) -> tf.Tensor:
        """State [B, ...] and item embeddings [B, D] of B pairs -> [B]."""


def _scored_pairs(
    model: ScoresPairs, state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, seed: tf.Tensor
) -> Scored:
    """Scores of as many random examples and shared items as fit into `_PAIR_BYTES`."""
    width = sum(int(np.prod(each.shape[1:])) for each in (*state.values(), own))
    pairs = max(_PAIR_BYTES // (4 * width), _LEAST_SHARED)
    examples = _some(tf.shape(own)[0], max(1, pairs // _LEAST_SHARED), seed, 0)
    count = tf.shape(examples)[0]
    chosen = _some(tf.shape(shared)[0], pairs // count - 1, seed, 1)
    items = tf.concat(
        [
            tf.gather(own, examples)[:, tf.newaxis],
            tf.repeat(tf.gather(shared, chosen)[tf.newaxis], count, axis=0),
        ],
        axis=1,
    )
    each = 1 + tf.shape(chosen)[0]
    users = {name: tf.repeat(tf.gather(value, examples), each, axis=0) for name, value in state.items()}
    scores = model.score_pairs(users, tf.reshape(items, [-1, own.shape[-1]]))
    return Scored(tf.reshape(scores, [count, each]), examples, chosen)


def _some(count: tf.Tensor, most: Any, seed: tf.Tensor, number: int) -> tf.Tensor:
    """int32 [min(count, most)]: different numbers below `count`, in a random order."""
    order = tf.random.stateless_uniform([count], next_seed(seed, _PAIRS + number))
    return tf.argsort(order)[:most]


def score_each(
    model: Any, user_state: Mapping[str, tf.Tensor], own: tf.Tensor, shared: tf.Tensor, *, training: bool
) -> tf.Tensor:
    """Scores float32 [B, 1 + S] of B users for their own item [B, D] and the shared items [S, D].

    A model may have a faster function of this name.
    """
    if hasattr(model, "score_each"):
        scores: tf.Tensor = model.score_each(user_state, own, shared, training=training)
        return scores

    def of_user(user: tuple[Mapping[str, tf.Tensor], tf.Tensor]) -> tf.Tensor:
        state, item = user
        return model.score(state, tf.concat([item[tf.newaxis], shared], axis=0))

    if isinstance(model, ScoresPairs):  # whose pairs of all users at once would take gigabytes
        return tf.map_fn(of_user, (dict(user_state), own), fn_output_signature=tf.float32)
    return tf.vectorized_map(of_user, (dict(user_state), own))


def training_mode(model: Any) -> AbstractContextManager[None]:
    """Within, networks run as in training; a class of one's own says for itself how it does."""
    return model.training_mode() if isinstance(model, ScoresPairs) else nullcontext()


def embedded_items(model: Any, features: Mapping[str, Any]) -> tf.Tensor:
    """Item embeddings [n, D]; a model with item state also returns that, which training does not read."""
    embedded = model.embed_item(features)
    return embedded[0] if isinstance(embedded, tuple) else embedded


def values_of(variables: Iterable[Any]) -> list[tf.Variable]:
    """The TensorFlow variables of Keras variables; those of a tf.Module are such already."""
    return [each if isinstance(each, tf.Variable) else each.value for each in variables]


def checkpointed(variables: Iterable[Any]) -> dict[str, tf.Variable]:
    """Variables by number, in the form that tf.train.Checkpoint follows.

    It does not see into the lists of layers of a Keras 3 model: given the model itself it leaves out their
    variables, in silence. Paths are no names to find them by: Keras counts the layers of a process that have
    no name of their own.
    """
    return {f"{number}": value for number, value in enumerate(values_of(variables))}


def built(model: Any, rows: Iterable[str] = ()) -> Any:
    """`model`, after its functions were called once, so that it has all its variables.

    rows: the item features that it has tables for.
    """

    def zeros(specs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
        return {
            name: tf.zeros([1, *(1 if size is None else size for size in spec.shape)], spec.dtype)
            for name, spec in specs.items()
        }

    state = model.embed_user(zeros(model.user_features))
    embs = tf.zeros([1, model.embedding_dim])
    model.score({name: tensor[0] for name, tensor in state.items()}, embs)
    model.embed_item(zeros(item_features_of(model) or item_specs(model.user_features, rows)))
    return model
