"""Members as SavedModels: run.json names the folder in RUN, and their export needs no Python of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from zoo.attention import DIN
from zoo.base import Tensors
from zoo.features import StringLookups
from zoo.plain import E, EinsumScorer, L
from zoo.sequences import GRU4Rec

FOLDER = "saved_model"


class EinsumFunctions(EinsumScorer):
    """Three functions `embed_user`, `embed_item`, `score` of a tf.Module."""

    saved_model = FOLDER

    def save(self, run_dir: Path) -> None:
        tf.saved_model.save(self, str(run_dir / FOLDER))


class EinsumSignatures(EinsumScorer):
    """Three signatures, as other tools write them: flat names in and out."""

    saved_model = FOLDER

    def save(self, run_dir: Path) -> None:
        plain = tf.Module()
        plain.variables_of_model = self.variables
        tf.saved_model.save(plain, str(run_dir / FOLDER), signatures=self.signatures())

    def signatures(self) -> dict[str, Any]:
        """`embed_user`, `embed_item` and `score` with named tensors."""
        ids = tf.TensorSpec([None], tf.int64, "item_ids")
        users = tf.TensorSpec([None, L], tf.int64, "item_ids")
        state = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in self.user_state.items()}
        item_embs = tf.TensorSpec([None, E], tf.float32, "item_embs")

        @tf.function
        def embed_user(item_ids: tf.Tensor) -> Tensors:
            return self.embed_user({"item_ids": item_ids})

        @tf.function
        def embed_item(item_ids: tf.Tensor) -> Tensors:
            return {"item_embs": self.embed_item({"item_ids": item_ids})}

        @tf.function
        def score(item_embs: tf.Tensor, **user_state: tf.Tensor) -> Tensors:
            return {"scores": self.score(user_state, item_embs)}

        return {
            "embed_user": embed_user.get_concrete_function(item_ids=users),
            "embed_item": embed_item.get_concrete_function(item_ids=ids),
            "score": score.get_concrete_function(item_embs=item_embs, **state),
        }


class KerasArchive:
    """Keras networks written by keras.export.ExportArchive, with an endpoint for each function."""

    saved_model = FOLDER

    def save(self: Any, run_dir: Path) -> None:
        archive = keras.export.ExportArchive()
        for network in (self.user_net, self.item_net, self.pair_net):
            archive.track(network)
        state = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in self.user_state.items()}
        features = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype, name)
            for name, spec in self.user_features.items()
        }
        ids = {"item_ids": tf.TensorSpec([None], tf.int64, "item_ids")}
        item_embs = tf.TensorSpec([None, self.embedding_dim], tf.float32, "item_embs")
        archive.add_endpoint("embed_user", self.embed_user, input_signature=[features])
        archive.add_endpoint("embed_item", self.embed_item, input_signature=[ids])
        archive.add_endpoint("score", self.score, input_signature=[state, item_embs])
        archive.write_out(str(run_dir / FOLDER), verbose=False)


class DINArchive(KerasArchive, DIN):
    """DIN, a functional network."""


class GRU4RecArchive(KerasArchive, GRU4Rec):
    """GRU4Rec: a loop in `embed_user`."""


class StringLookupsArchive(KerasArchive, StringLookups):
    """String lookups: tables in `embed_user`, initialised by the SavedModel."""
