"""Odd models and ordinary slips: what they are made of, and whether the answer to an export is right.

An answer is an export, or an error of ours that names the function or file, says what was expected and
ends with the next step. A bare exception of TensorFlow or Python is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import tensorflow as tf

from nann.errors import NannError
from nann.export import ExportOptions, build_index, export_model

N, L, E = 200, 6, 8
Tensors = Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """The kind of answer.

    accepted: the export may succeed.
    refused:  it may be refused, in a message that has each of `words` (regular expressions).
    """

    accepted: bool
    refused: bool
    words: tuple[str, ...] = ()


ACCEPTED = Expected(accepted=True, refused=False)


def refused(*words: str) -> Expected:
    """Refused in a message with each of these expressions: the function or file, and what it is about."""
    return Expected(accepted=False, refused=True, words=words)


def answered(*words: str) -> Expected:
    """Either is a right answer; a refusal has these words."""
    return Expected(accepted=True, refused=True, words=words)


class Tiny:
    """A model without oddity: the sum of the user's events times the item. Cases change one thing of it."""

    user_features: ClassVar[Any] = {"item_ids": tf.TensorSpec([L], tf.int64)}
    user_state: ClassVar[Any] = {"user": tf.TensorSpec([E], tf.float32)}
    embedding_dim: ClassVar[Any] = E
    options: ClassVar[dict[str, Any]] = {}  # of ExportOptions
    vocabularies: ClassVar[tuple[str, ...]] = ("item_ids",)
    source: ClassVar[str | None] = None  # of a module odd_model beside run.json, which names odd_model:Model

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.table = tf.Variable(random.normal(size=(N + 1, E)).astype(np.float32), name="table")
        self.build()

    def build(self) -> None:
        """Make further layers."""

    def embed_user(self, features: Tensors) -> Any:
        return {"user": self.total(features["item_ids"])}

    def embed_item(self, features: Tensors) -> Any:
        return tf.gather(self.table, features["item_ids"])

    def score(self, user_state: Tensors, item_embs: Any) -> Any:
        return self.dot(user_state, item_embs)

    def total(self, rows: Any) -> Any:
        """The sum of the events' vectors, [B, E]."""
        return tf.reduce_sum(tf.gather(self.table, rows), axis=1)

    @staticmethod
    def dot(user_state: Tensors, item_embs: Any) -> Any:
        """[n] products."""
        return tf.linalg.matvec(item_embs, user_state["user"])

    @classmethod
    def prepare(cls, run: Path) -> None:
        """Change the run before it is exported."""


@dataclass(frozen=True)
class OddCase:
    """A model, and the kind of answer that its export must end in."""

    model: type[Tiny]
    expected: Expected


ODD_CASES: dict[str, OddCase] = {}
Model = TypeVar("Model", bound=type[Tiny])


def odd(expected: Expected) -> Callable[[Model], Model]:
    """Registers a case by the name of its class."""

    def register(model: Model) -> Model:
        assert model.__name__ not in ODD_CASES
        ODD_CASES[model.__name__] = OddCase(model, expected)
        return model

    return register


def write_odd_run(case: OddCase, run: Path) -> None:
    """A run of `N` items with an index, changed as the case wants it."""
    random = np.random.default_rng(1)
    for folder in ("embeddings", "vocabulary"):
        (run / folder).mkdir(parents=True)
    ids = np.arange(1, N + 1, dtype=np.int64)
    np.save(run / "embeddings/item_ids.npy", ids)
    np.save(run / "embeddings/item_embs.npy", random.normal(size=(N, E)).astype(np.float32))
    for name in case.model.vocabularies:
        np.save(run / f"vocabulary/{name}.npy", ids)
    (run / "run.json").write_text(json.dumps({"format": 1, "model": "odd_model:Model"}))
    if case.model.source is not None:
        (run / "odd_model.py").write_text(case.model.source)
    build_index(run, m=4)
    case.model.prepare(run)


def export_odd(case: OddCase, folder: Path) -> Exception | None:
    """Export the case; the error that it ended in, None where it was accepted."""
    write_odd_run(case, folder / "run")
    options = ExportOptions(level_topn=(10, 20, 20, 20, 20, 10), **case.model.options)
    try:
        model = case.model() if case.model.source is None else None
        export_model(folder / "run", folder / "models/1", options, model=model)
    except Exception as error:  # Whether it is one of ours is the question.
        return error
    return None


def fault_of(case: OddCase, error: Exception | None) -> str | None:
    """What is wrong with an answer, None where it is as expected."""
    expected = case.expected
    if error is None:
        return None if expected.accepted else "accepted"
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if not isinstance(error, NannError):
        return f"bare {text}"
    if not expected.refused:
        return f"refused: {text}"
    missing = [word for word in expected.words if not re.search(word, str(error), re.IGNORECASE)]
    if missing:
        return f"no word of {missing}: {text}"
    if re.search(r"nann (train|embed)", str(error)):
        return f"names a command that is not for this model: {text}"
    # The next step is a sentence of its own, the last.
    return None if re.search(r"\. [A-Z].*\.$", text) else f"no next step: {text}"
