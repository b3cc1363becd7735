"""Exports of the benchmarks' scorers over a corpus. They are written anew each time, by the code at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nann.bench.corpus import Corpus, Metric

if TYPE_CHECKING:
    import numpy.typing as npt

# A batch of 256 requests with wide beams needs more work than a server would accept.
_MAX_WORK = 2**30
# The original NANN's beams.
ATTENTION_BEAMS = (100, 200, 200, 200, 200, 200)

Tuned = Mapping[str, Any]
"""Some fields of `nann.export.Tuning`; the others keep their defaults, except that the walk is fixed."""


def export_vectors(
    corpus: Corpus, metric: Metric, *, m: int, ef_construction: int, tuning: Tuned | None = None
) -> Path:
    """An export that scores by inner product or L2, over a graph of the same metric."""
    from nann.bench.models import VectorModel

    model = VectorModel(metric, corpus.spec.dim)
    run = corpus.run(metric, m=m, ef_construction=ef_construction)
    return export(run, model, models=corpus.folder / "models", name=f"vectors-{run.name}", tuning=tuning)


def export_attention(corpus: Corpus, run: Path, *, tuning: Tuned | None = None) -> Path:
    """An export with the reference attention scorer over the graph of `run`."""
    from nann.bench.models import AttentionModel

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
    """Write `models`/NAME-TUNING/1, replacing an earlier one; near items get near positions."""
    from nann.export import ExportOptions, Tuning, export_model
    from nann.ops.index_meta import default_level_topn, read_meta

    tuned = dict(tuning or {})
    name += "".join(f"-{value}" for _, value in sorted(tuned.items()))
    out = models / name / "1"
    # Given beams are not calibrated: the benchmarks send their own.
    beams = default_level_topn(read_meta(run / "index")) if level_topn is None else level_topn
    options = ExportOptions(
        level_topn=[int(beam) for beam in beams],
        max_work=_MAX_WORK,
        tuning=Tuning(**{"walk": "fixed", **tuned}),
        reorder=reorder,
    )
    export_model(run, out, options, model=model, overwrite=True)
    return out


def exported_walk(
    model_dir: Path,
) -> Callable[[Mapping[str, npt.NDArray[Any]]], dict[str, npt.NDArray[Any]]]:
    """`retrieve` of an attention export, loaded by TensorFlow: state [1, L*E] -> outputs by name."""
    import tensorflow as tf

    from nann.ops import load_library

    load_library()
    loaded = tf.saved_model.load(str(model_dir))
    function = loaded.signatures["retrieve"]
    beams = tf.constant([ATTENTION_BEAMS], tf.int32)
    no_ids = tf.constant([[-1]], tf.int64)

    def search(state: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        # `loaded` owns what the function uses.
        assert loaded is not None
        user = tf.constant(state["comm_seq"])
        outputs = function(comm_seq=user, level_topn=beams, exclude_ids=no_ids)
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return search
