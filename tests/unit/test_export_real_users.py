"""Models whose `embed_user` takes real users alone: strings that are dates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export import ExportOptions, build_index, export_model
from nann.export._open_lengths import equal_lengths

D, ITEMS = 4, 200


class Dates:
    """The year of a date of sign-up, which must be a date."""

    user_features = {"signup": tf.TensorSpec([], tf.string)}  # noqa: RUF012
    user_state = {"user": tf.TensorSpec([D], tf.float32)}  # noqa: RUF012
    embedding_dim = D

    def embed_user(self, features: Any) -> Any:
        year = tf.strings.to_number(tf.strings.substr(features["signup"], 0, 4))
        return {"user": tf.sin(year[:, tf.newaxis] * tf.range(1.0, D + 1))}

    def embed_item(self, features: Any) -> Any:
        raise NotImplementedError

    def score(self, user_state: Any, item_embs: Any) -> Any:
        return tf.linalg.matvec(tf.nn.relu(item_embs), user_state["user"])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "RUN"
    (folder / "embeddings").mkdir(parents=True)
    np.save(folder / "embeddings/item_ids.npy", np.arange(ITEMS, dtype=np.int64))
    embs = np.random.default_rng(0).normal(size=(ITEMS, D)).astype(np.float32)
    np.save(folder / "embeddings/item_embs.npy", embs)
    build_index(folder)
    return folder


def test_users_of_a_file_suffice(run: Path, tmp_path: Path) -> None:
    dates = np.array([f"{year}-05-01" for year in range(1980, 2020)])
    np.savez(run / "requests.npz", signup=dates)
    model: Any = Dates()
    found = export_model(run, tmp_path / "MODELS/1", ExportOptions(), model=model)
    assert "retrieve_by_ids" in found["verified"]["signatures"]


def test_without_them_the_message_says_who_was_asked_for(run: Path, tmp_path: Path) -> None:
    model: Any = Dates()
    with pytest.raises(InvalidInputError, match=r"embed_user: .*Users are made up where none are given"):
        export_model(run, tmp_path / "MODELS/1", ExportOptions(), model=model)


class DatedClicks(Dates):
    """Clicks and their weights go together; the date of sign-up must be one."""

    user_features = {  # noqa: RUF012
        **Dates.user_features,
        "clicks": tf.TensorSpec([None], tf.int64),
        "weights": tf.TensorSpec([None], tf.float32),
    }

    def embed_user(self, features: Any) -> Any:
        user = super().embed_user(features)["user"]
        clicks = tf.cast(features["clicks"], tf.float32) * features["weights"]
        return {"user": user + tf.reduce_sum(clicks, axis=1, keepdims=True)}


def test_features_that_go_together_are_found_by_the_values_of_a_known_user() -> None:
    model: Any = DatedClicks()
    known = {"signup": np.array(["2019-05-01"], object)}
    assert equal_lengths(model, lambda: known) == [("clicks", "weights")]
