"""Exports of the table's scorers over a corpus; written anew each time, so that they are of this code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nann.bench._corpus import Corpus, Metric

# A batch of 256 with wide beams is more than a server would take.
_MAX_WORK = 2**30
ATTENTION_BEAMS = (100, 200, 200, 200, 200, 200)

Tuned = Mapping[str, Any]
"""Some fields of `nann.export.Tuning`; the others have its defaults."""


def export_vectors(
    corpus: Corpus, metric: Metric, *, m: int, ef_construction: int, tuning: Tuned | None = None
) -> Path:
    """An export that scores by inner product or L2, over a graph of the same."""
    from nann.bench._models import VectorModel

    model = VectorModel(metric, corpus.spec.dim)
    run = corpus.run(metric, m=m, ef_construction=ef_construction)
    return export(run, model, models=corpus.folder / "models", name=f"vectors-{run.name}", tuning=tuning)


def export_attention(corpus: Corpus, run: Path, *, tuning: Tuned | None = None) -> Path:
    """An export with the reference attention scorer over the graph of `run`."""
    from nann.bench._models import AttentionModel

    return export(
        run,
        AttentionModel(corpus.spec.dim),
        models=corpus.folder / "models",
        name=f"attention-{run.name}",
        level_topn=ATTENTION_BEAMS,
        tuning=tuning,
    )


def export(
    run: Path,
    model: Any,
    *,
    models: Path,
    name: str,
    level_topn: Sequence[int] | None = None,
    tuning: Tuned | None = None,
    reorder: bool = True,
) -> Path:
    """Export to models/NAME-TUNING/1, over what is there; near items get near positions."""
    from nann.export import ExportOptions, Tuning, export_model

    tuned = dict(tuning or {})
    name += "".join(f"-{value}" for _, value in sorted(tuned.items()))
    out = models / name / "1"
    options = ExportOptions(
        level_topn=level_topn, max_work=_MAX_WORK, tuning=Tuning(**tuned), reorder=reorder
    )
    export_model(run, out, options, model=model, overwrite=True)
    return out


def scorer_of(model_dir: Path) -> str:
    """Who runs an export's scorer, and in what precision, for the figures of a row."""
    from nann.export.manifest import read_manifest

    scorer = read_manifest(model_dir)["scorer"]
    precision = scorer["precision"]
    name = precision["precision"] if isinstance(precision, dict) else precision
    return f"{scorer['executor']}, {name}"
