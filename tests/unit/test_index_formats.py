"""Index files of every format version that was ever written are kept here and load for ever."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from nann.export.index.oracle import beam_search

VERSIONS = sorted((Path(__file__).parents[1] / "data").glob("index_v*"))


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_an_index_of_this_version_answers_as_recorded(folder: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())
    item_embs = np.load(folder / "item_embs.npy")
    user = np.array(expected["user"], np.float32)
    walked = beam_search(
        nann.export.read_index(folder / "index"),
        np.load(folder / "item_ids.npy"),
        lambda positions: item_embs[positions] @ user,
        expected["level_topn"],
    )
    index = nann.ops.IndexResource(
        index_dir=folder / "index",
        item_ids=folder / "item_ids.npy",
        item_tables={"item_embs": folder / "item_embs.npy"},
    )
    scorer = tf.function(
        lambda user, items: tf.linalg.matvec(items, user),
        input_signature=[tf.TensorSpec(user.shape), tf.TensorSpec([128, item_embs.shape[1]])],
    ).get_concrete_function()
    fused = nann.ops.beam_search(index, [user[None]], tf.constant(expected["level_topn"]), scorer=scorer)
    for ids, scores, items_scored in [walked, (fused.ids[0], fused.scores[0], int(fused.items_scored[0]))]:
        np.testing.assert_array_equal(ids, expected["ids"])
        np.testing.assert_array_equal(scores, expected["scores"])
        assert items_scored == expected["items_scored"]


def test_the_current_version_is_kept() -> None:
    from nann.ops.index_meta import FORMAT_VERSION

    assert f"index_v{FORMAT_VERSION}" in [folder.name for folder in VERSIONS]
