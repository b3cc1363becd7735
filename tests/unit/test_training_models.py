"""The shipped models: what training scores is what is exported."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.training import MixtureOfLogits, ReferenceModel, TwoTower
from nann.training._trainable import score_each

ROWS = {"item_ids": 31, "cate_ids": 5}
L, D = 12, 16


def _created(model_class: Any, seed: int = 0) -> Any:
    return model_class.create(ROWS, seed=seed, sequence_length=L, width=D)


@pytest.fixture(scope="module", params=[ReferenceModel, TwoTower, MixtureOfLogits])
def model(request: pytest.FixtureRequest) -> Any:
    return _created(request.param)


def _features(*users: list[int]) -> dict[str, tf.Tensor]:
    """Histories, oldest first, padded at the front."""
    rows = np.array([[0] * (L - len(events)) + events for events in users])
    return {"item_ids": tf.constant(rows), "cate_ids": tf.constant(np.where(rows > 0, rows % 4 + 1, 0))}


def _items(model: Any, rows: list[int]) -> tf.Tensor:
    cates = [row % 4 + 1 for row in rows]
    return model.embed_item({"item_ids": tf.constant(rows), "cate_ids": tf.constant(cates)})


def _scores(model: Any, features: dict[str, tf.Tensor], user: int, items: tf.Tensor) -> Any:
    state = model.embed_user(features)
    return model.score({name: tensor[user] for name, tensor in state.items()}, items).numpy()


def test_item_embeddings_have_one_length(model: Any) -> None:
    lengths = np.linalg.norm(_items(model, list(range(1, 31))).numpy(), axis=1)
    np.testing.assert_allclose(lengths, np.sqrt(D), rtol=1e-4)


def test_many_users_are_scored_as_one_after_another(model: Any) -> None:
    features = _features([3, 4, 5], [9, 2])
    own, shared = _items(model, [7, 8]), _items(model, [1, 2, 3, 30])
    found = score_each(model, model.embed_user(features), own, shared, training=False).numpy()
    for user in range(2):
        items = tf.concat([own[user : user + 1], shared], axis=0)
        np.testing.assert_allclose(found[user], _scores(model, features, user, items), rtol=1e-4, atol=1e-4)


def test_a_model_without_score_each_is_scored_alike() -> None:
    model = _created(TwoTower)
    features, own, shared = _features([3, 4, 5], [9, 2]), _items(model, [7, 8]), _items(model, [1, 2, 3])

    class Plain:
        score = staticmethod(model.score)

    state = model.embed_user(features)
    np.testing.assert_allclose(
        score_each(Plain(), state, own, shared, training=True),
        score_each(model, state, own, shared, training=True),
        rtol=1e-4,
        atol=1e-4,
    )


def _product_of_prefixes(model: Any, features: dict[str, tf.Tensor], places: list[int], items: Any) -> Any:
    own, shared = items[: len(places)], items[len(places) :]
    seed = tf.constant([0, 0], tf.int64)
    return model.score_prefixes(features, tf.constant(places), own, shared, dropout=0.0, seed=seed)[0].scores


def test_a_sequence_is_scored_at_its_end_as_at_serving(model: Any) -> None:
    """Of the attention model, the product; its network is trained on the scores of `score_each`."""
    features = _features([3, 4, 5], [9, 2])
    items = _items(model, [7, 8, 1, 2, 3])
    found = _product_of_prefixes(model, features, [L - 1, 2 * L - 1], items).numpy()
    for user in range(2):
        mine = tf.concat([items[user : user + 1], items[2:]], axis=0)
        expected = _scores(model, features, user, mine)
        if isinstance(model, ReferenceModel):
            state = model.embed_user(features)["comm_seq"][user]
            expected = tf.linalg.matvec(mine, model.user_side(state).vector).numpy()
        np.testing.assert_allclose(found[user], expected, rtol=1e-4, atol=1e-4)


def test_no_prefix_sees_later_events(model: Any) -> None:
    items = _items(model, [7, 1, 2, 3])
    place = [L - 3]
    first, other = (
        _product_of_prefixes(model, _features([3, 4, 5, *later]), place, items) for later in ([6, 7], [8, 9])
    )
    np.testing.assert_allclose(first, other, rtol=1e-5, atol=1e-5)
    earlier = _product_of_prefixes(model, _features([2, 4, 5, 6, 7]), place, items)
    assert np.abs(earlier - first).max() > 1e-3


def test_a_user_without_events_has_a_state_of_zeros(model: Any) -> None:
    state = model.embed_user(_features([], [3]))
    for tensor in state.values():
        assert not tensor[0].numpy().any()
        assert tensor[1].numpy().any()


def test_dropout_is_a_function_of_its_seed(model: Any) -> None:
    features, items = _features([3, 4, 5], [9, 2]), _items(model, [7, 1, 2, 3])

    def scores(step: int) -> Any:
        seed = tf.constant([0, step], tf.int64)
        return model.score_prefixes(
            features, tf.constant([L - 1]), items[:1], items[1:], dropout=0.5, seed=seed
        )

    assert np.array_equal(scores(1)[0].scores, scores(1)[0].scores)
    assert not np.array_equal(scores(1)[0].scores, scores(2)[0].scores)
