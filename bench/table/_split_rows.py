"""Row on the scorer split: split scorers give the scores of the unsplit ones."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nann.bench.corpus import CorpusSpec, make_corpus
from nann.bench.models import AttentionModel, ModelWithoutUsers, VectorModel
from nann.bench.workloads import Check, Outcome, TableOptions
from nann.errors import InvalidInputError, VerificationError
from nann.progress import OnProgress

# The random scorers read embeddings of 8 values.
_ITEMS, _DIM = 3000, 8
_RANDOM, _MOST_OPERATIONS = 100, 60
# The order of float32 sums may change this much, relative to the largest score.
_TOLERANCE = 1e-5
_GRAPH = {"m": 8, "ef_construction": 40}


def split_equality(options: TableOptions, on_progress: OnProgress) -> Outcome:
    """Export each scorer split; the export compares its answers with those of the unsplit model."""
    from nann.export import ExportOptions, Tuning, export_model

    corpus = make_corpus(options.work, CorpusSpec(_ITEMS, dim=_DIM, queries=16, seed=options.seed))
    run = corpus.run(**_GRAPH)
    count = _RANDOM if options.scale >= 1.0 else max(3, round(_RANDOM * options.scale))
    models: dict[str, Any] = {
        "the reference attention": AttentionModel(_DIM),
        "inner product": VectorModel("ip", _DIM),
        "L2": VectorModel("l2", _DIM),
        **{f"random scorer {seed}": _Repeatable(seed) for seed in range(count)},
    }
    worst, failed = 0.0, []
    for done, (name, model) in enumerate(models.items()):
        on_progress("scorers", done, len(models))
        try:
            exported = export_model(
                run,
                corpus.folder / "models" / "split" / "1",
                ExportOptions(tuning=Tuning(walk="fixed")),
                model=model,
                overwrite=True,
            )
            worst = max(worst, exported["verified"]["largest_relative_difference"])
        except VerificationError:
            failed.append(name)
    on_progress("scorers", len(models), len(models))
    return Outcome(
        [
            Check("scorers equal to the unsplit ones", 1 - len(failed) / len(models), 1.0, unit="%"),
            Check("largest difference, of the largest score", worst, _TOLERANCE, at_least=False, unit=""),
        ],
        {"scorers": len(models), "not equal": ", ".join(failed) or "none"},
    )


class _Repeatable(ModelWithoutUsers):
    """A random scorer that is the same at every trace. The tests of the repository have the generator."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        first = self._draw()
        self.user_state = first.user_state
        self.embedding_dim = first.embedding_dim

    def score(self, user_state: Any, item_embs: Any) -> Any:
        return self._draw().score(user_state, item_embs)

    def _draw(self) -> Any:
        generator = np.random.default_rng(self._seed)
        operations = int(generator.integers(1, _MOST_OPERATIONS + 1))
        return _random_model()(lambda choices: int(generator.integers(choices)), operations=operations)


def _random_model() -> Any:
    tests = Path(__file__).resolve().parents[2] / "tests"
    if not (tests / "support" / "random_scorer.py").exists():
        raise InvalidInputError(
            f"{tests}: expected the tests of this repository, whose random scorers this row measures, found "
            "none. Run it from a clone of the repository."
        )
    if str(tests) not in sys.path:
        sys.path.append(str(tests))
    return importlib.import_module("support.random_scorer").RandomModel
