"""Exports of the zoo (tests/zoo): the scores are the model's, and the native executor runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import nann.export
from zoo import ZOO, item_side, write_run
from zoo.outcome import USERS, Outcome, outcome_of
from zoo.saved import FOLDER
from zoo.today import BY_TENSORFLOW, REFUSED

OutcomeOf = Callable[[str], Outcome]


def members(known: Mapping[str, str]) -> list[Any]:
    """All members; `known` are those that fail today, and why. `make test` has the quick ones."""
    assert known.keys() <= ZOO.keys()
    marked = []
    for name, factory in ZOO.items():
        marks = [] if factory.quick else [pytest.mark.slow]
        if name in known:
            marks.append(pytest.mark.xfail(strict=True, raises=AssertionError, reason=known[name]))
        marked.append(pytest.param(name, marks=marks))
    return marked


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> OutcomeOf:
    """The outcome of a member, which is exported once."""
    made: dict[str, Outcome] = {}

    def of(name: str) -> Outcome:
        if name not in made:
            made[name] = outcome_of(name, tmp_path_factory.mktemp(name))
        return made[name]

    return of


@pytest.mark.parametrize("name", members(REFUSED))
def test_an_export_scores_as_the_model(name: str, outcome: OutcomeOf) -> None:
    found = outcome(name)
    assert found.refusal is None
    assert found.by_ids_refusal is None
    assert found.difference <= ZOO[name].tolerance
    assert found.by_ids <= ZOO[name].tolerance


@pytest.mark.parametrize("name", members({**REFUSED, **BY_TENSORFLOW}))
def test_the_native_executor_runs_it(name: str, outcome: OutcomeOf) -> None:
    found = outcome(name)
    assert found.executor == "native", found.executor_reason or found.refusal


# Functional and subclassed networks; encoders, lookups and narrow numbers.
_NETWORKS = ("two_tower", "din", "din_subclassed", "sasrec", "string_lookups", "mixed_float16")


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in members({}) if each.values[0] in _NETWORKS])
def test_three_networks_are_a_model(name: str, tmp_path: Path) -> None:
    def from_keras(member: Any) -> Any:
        return nann.export.from_keras(user=member.user_net, item=member.item_net, scorer=member.pair_net)

    found = outcome_of(name, tmp_path, export_as=from_keras)
    assert found.refusal is None
    assert max(found.difference, found.by_ids) <= ZOO[name].tolerance


@pytest.mark.parametrize("name", members({}))
def test_scores_tell_items_apart(name: str) -> None:
    """Else an export could not be told from a wrong one."""
    scores = np.stack(list(some_scores(ZOO[name]())))
    assert np.isfinite(scores).all()
    largest = np.abs(scores).max()
    assert 0.05 < largest < 100
    assert (scores.std(axis=1) > 0.01 * largest).all()
    assert np.abs(scores[1:] - scores[:-1]).max() > 0.01 * largest  # and users


def some_scores(model: Any) -> Iterator[Any]:
    """Scores of some items for each of some users."""
    embs, columns = item_side(model)
    features = model.rows(model.draw(np.random.default_rng(1), USERS))
    state = model.embed_user({name: tf.constant(features[name]) for name in model.user_features})
    items = [tf.constant(embs[:200])]
    if columns:
        items.append({name: tf.constant(values[:200]) for name, values in columns.items()})
    for user in range(USERS):
        one = {name: values[user] for name, values in state.items()}
        if getattr(model, "batch_score", False):
            one = {name: tf.repeat(value[tf.newaxis], 200, axis=0) for name, value in one.items()}
        yield np.asarray(model.score(one, *items), np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, each in ZOO.items() if hasattr(each.model, "saved_model")])
def test_saved_models_hold_their_functions(name: str, tmp_path: Path) -> None:
    """What REFUSED says of them lies at us."""
    model = write_run(name, tmp_path)
    saved = tf.saved_model.load(str(tmp_path / FOLDER))
    features = model.rows(model.draw(np.random.default_rng(1), 3))
    features = {name: tf.constant(values) for name, values in features.items()}
    items = tf.constant(np.load(tmp_path / "embeddings/item_embs.npy")[:100])
    expected = model.score({name: value[0] for name, value in model.embed_user(features).items()}, items)
    if saved.signatures:
        state = saved.signatures["embed_user"](**features)
        one = {name: value[0] for name, value in state.items()}
        (found,) = saved.signatures["score"](**one, item_embs=items).values()  # Keras names it output_0.
    else:
        one = {name: value[0] for name, value in saved.embed_user(features).items()}
        found = saved.score(one, items)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
