"""The item side of a model in an export: item features become embedding and item state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export._model_specs import plain_names
from nann.export._user_side import resources_of
from nann.files import link_or_copy
from nann.run import VOCABULARY, RetrievalModel, guarded, item_features_of, item_state_of

EMBEDDING = "embedding"  # of the outputs, beside item state by its name


@dataclass(frozen=True)
class EmbedItem:
    """`embed_item` as a function of named tensors, and what it reads that a SavedModel must track."""

    function: Any
    resources: list[Any]


def trace_embed_item(model: RetrievalModel) -> EmbedItem | None:
    """Trace `model.embed_item` with the features that the model declares; None where it declares none.

    Raises InvalidInputError for features that are no TensorSpec, and what the model's own code makes of it.
    """
    features = item_features_of(model)
    if not features:
        return None
    for name, spec in features.items():
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.is_fully_defined():
            raise InvalidInputError(
                f"item_features {name}: expected tf.TensorSpec of one item, of fixed shape, found {spec!r}. "
                f"Name its sizes."
            )
    checked, plain = guarded(model, check_results=True), plain_names(features)
    state = item_state_of(model)

    def embed_item(**tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        result = checked.embed_item({name: tensors[plain[name]] for name in features})
        embs, values = result if state else (result, {})
        return {
            EMBEDDING: tf.cast(embs, tf.float32),
            **{f"state/{name}": tf.cast(values[name], spec.dtype) for name, spec in state.items()},
        }

    specs = {
        plain[name]: tf.TensorSpec([None, *spec.shape], spec.dtype, plain[name])
        for name, spec in features.items()
    }
    traced = tf.function(embed_item, autograph=False).get_concrete_function(**specs)
    return EmbedItem(traced, resources_of(traced, what="embed_item"))


def link_item_vocabularies(folder: Path, run_dir: Path, model: RetrievalModel) -> None:
    """Link the vocabularies of integer item features into `folder`."""
    for name, spec in item_features_of(model).items():
        source = run_dir / VOCABULARY / f"{name}.npy"
        if cast(Any, spec).dtype.is_integer and source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            link_or_copy(source, folder / source.name)
