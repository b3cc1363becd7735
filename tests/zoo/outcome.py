"""What an export does with a member of the zoo: refused or accepted, who runs it, how near its scores are."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from keras.src.models.functional import Functional  # Keras exports it under no public name

from nann.errors import NannError
from nann.export import ExportOptions, build_index, export_model
from nann.export._verify import relative_difference
from nann.export.loaded import LoadedModel, loaded
from zoo import ZOO, factory_of, item_side, write_run
from zoo.base import ITEM_IDS, Arrays
from zoo.handed import is_handed

USERS, ITEMS = 4, 500
_M = 8
_BEAMS = (20, 40, 40, 40, 40, 40)  # Of the export: narrow, for speed.


@dataclass(frozen=True)
class Outcome:
    """Of one member.

    kind:            what it is, the first line of its documentation.
    form:            as what it is exported.
    tolerance:       how near its scores must be.
    refusal:         the error of the export with its type's name; None: accepted.
    by_ids_refusal:  why `retrieve_by_ids` does not answer features as callers send them; None: it does.
    executor_reason: why TensorFlow runs the scorer.
    split_reason:    why the scorer was left whole.
    flops_per_item:  before and after the split; {} without one.
    difference:      of `score` from the model's own, relative to the largest.
    by_ids:          the same of what `retrieve_by_ids` finds.
    seconds:         for index and export.
    """

    name: str
    kind: str
    form: str
    tolerance: float
    refusal: str | None = None
    by_ids_refusal: str | None = None
    executor: str | None = None
    executor_reason: str | None = None
    split_reason: str | None = None
    flops_per_item: Mapping[str, int] | None = None
    user_flops: int = 0
    difference: float = float("inf")
    by_ids: float = float("inf")
    seconds: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def outcome_of(name: str, folder: Path, *, export_as: Callable[[Any], Any] | None = None) -> Outcome:
    """Write, index, export and ask the member `name` in `folder`.

    export_as: makes of the member the model that is exported; None: run.json names it.
    """
    keras.backend.clear_session()
    model = write_run(name, folder / "run")
    if is_handed(name):  # run.json cannot name the class
        export_as = export_as or (lambda model: model)
    described_as = name.rpartition(":")[2], _kind(model), _form(model), factory_of(name).tolerance
    start = time.monotonic()
    build_index(folder / "run", m=_M)
    try:
        exported_as = None if export_as is None else export_as(model)
        options = ExportOptions(level_topn=_BEAMS)
        result = export_model(folder / "run", folder / "models/1", options, model=exported_as)
    except Exception as error:  # A bare one is an outcome too.
        return Outcome(*described_as, refusal=described(error))
    seconds = time.monotonic() - start
    split = result["split"]
    with loaded(folder / "models/1") as exported:
        asked = Asked(model, exported)
        by_ids, by_ids_refusal = float("inf"), None
        difference = asked.difference_of_score()
        try:
            by_ids = asked.difference_by_ids()
        except (KeyError, NannError, tf.errors.OpError) as error:
            by_ids_refusal = described(error)
    return Outcome(
        *described_as,
        by_ids_refusal=by_ids_refusal,
        executor=result["executor"],
        executor_reason=result["executor_reason"],
        split_reason=split["reason"],
        flops_per_item=split["flops_per_item"],
        user_flops=split["user_flops"],
        difference=difference,
        by_ids=by_ids,
        seconds=round(seconds, 1),
    )


def _kind(model: Any) -> str:
    return str(type(model).__doc__).partition("\n")[0].rstrip(".")


def _form(model: Any) -> str:
    if hasattr(model, "saved_model"):
        return "SavedModel"
    networks = [getattr(model, name) for name in ("user_net", "pair_net") if hasattr(model, name)]
    if not networks:
        return "TensorFlow"
    functional = all(isinstance(network, keras.Sequential | Functional) for network in networks)
    return "functional" if functional else "subclassed"


def described(error: Exception) -> str:
    """The type and the text of an error on one line; a type of TensorFlow's or Python's own is bare."""
    kind = type(error).__name__ if isinstance(error, NannError) else f"bare {type(error).__name__}"
    return f"{kind}: {' '.join(str(error).split())}"


class Asked:
    """An export and the model that it was made of, asked the same."""

    def __init__(self, model: Any, exported: LoadedModel) -> None:
        self._model, self._exported = model, exported
        self._random = np.random.default_rng(17)
        self._features = model.draw(self._random, USERS)
        rows = {name: v for name, v in model.rows(self._features).items() if name in model.user_features}
        state = model.embed_user({name: tf.constant(values) for name, values in rows.items()})
        self._state = {name: tf.cast(state[name], spec.dtype) for name, spec in model.user_state.items()}
        embs, columns = item_side(model)
        self._items = {"item_embs": embs, **columns}

    def difference_of_score(self) -> float:
        """The largest over some users, for `ITEMS` items each."""
        positions = self._random.choice(len(ITEM_IDS), ITEMS, replace=False)
        inputs = {**self._flat_state(), "item_ids": np.tile(ITEM_IDS[positions], (USERS, 1))}
        found = self._exported.run("score", inputs)["scores"]
        expected = [self._scores(user, positions) for user in range(USERS)]
        return max(relative_difference(*pair) for pair in zip(found, expected, strict=True))

    def difference_by_ids(self) -> float:
        """The largest over some users, for the items that the export finds for their features."""
        beams = np.tile(np.asarray(_BEAMS, np.int32), (USERS, 1))
        nothing = np.zeros((USERS, 0), np.int64)
        inputs = {**self._features, "level_topn": beams, "exclude_ids": nothing}
        found = self._exported.run("retrieve_by_ids", inputs)
        worst = 0.0
        for user in range(USERS):
            ids = found["top_k"][user]
            assert np.unique(ids).size == ids.size
            expected = self._scores(user, np.searchsorted(ITEM_IDS, ids))
            worst = max(worst, relative_difference(found["scores"][user], expected))
        return worst

    def _flat_state(self) -> Arrays:
        """The state as the signatures take it."""
        flat = {}
        for name, value in self._state.items():
            value = tf.cast(value, tf.float32) if value.dtype.is_floating else value
            flat[name] = value.numpy().reshape(USERS, -1)
        return flat

    def _scores(self, user: int, positions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The model's own scores of some items, by its own batch code."""
        state = {name: value[user] for name, value in self._state.items()}
        if getattr(self._model, "batch_score", False):
            state = {name: tf.repeat(v[tf.newaxis], len(positions), 0) for name, v in state.items()}
        items = {name: tf.constant(values[positions]) for name, values in self._items.items()}
        arguments = [state, items.pop("item_embs"), *([items] if items else [])]
        return np.asarray(tf.cast(self._model.score(*arguments), tf.float32))


def main() -> None:
    """`PYTHONPATH=tests python -m zoo.outcome FOLDER [NAME ...]`: one JSON object per member; default all."""
    folder, *names = sys.argv[1:]
    for name in names or ZOO:
        print(outcome_of(name, Path(folder) / name.rpartition(":")[2]).to_json(), flush=True)


if __name__ == "__main__":
    main()
