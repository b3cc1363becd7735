"""What an export is made of, read and checked before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._model_checks import check_specs
from nann.export._options import ExportOptions
from nann.export._signatures import check_names
from nann.export.index.files import GraphIndex, check_graph_fits, read_index
from nann.export.index.reorder import reordered_run
from nann.export.items import Items, read_items
from nann.ops.index_meta import check_level_topn, default_level_topn
from nann.progress import OnProgress
from nann.run import RetrievalModel, class_name, guarded, load_model, read_run


@dataclass(frozen=True)
class NamedModel:
    """A model, and what the manifest calls its class: `module:Class`."""

    model: RetrievalModel
    name: str


@dataclass(frozen=True)
class Inputs:
    """A run as it is exported.

    folder: the run, or a temporary one with the same content in another order.
    beams:  the default level_topn, int32 [n].
    """

    folder: Path
    model: NamedModel
    items: Items
    graph: GraphIndex
    beams: npt.NDArray[np.int32]


def named_model(run_dir: Path, model: RetrievalModel | None) -> NamedModel:
    """`model`, or the one that run.json names where there is none."""
    name = read_run(run_dir).model if model is None else class_name(model)
    found = guarded(load_model(run_dir) if model is None else model, check_results=True)
    return NamedModel(cast(RetrievalModel, found), name)


@contextlib.contextmanager
def read_inputs(
    run_dir: Path,
    model: NamedModel,
    options: ExportOptions,
    *,
    beside: Path,
    on_progress: OnProgress,
) -> Iterator[Inputs]:
    """Read the run, in another order where the options say so; its temporary files then lie in `beside`.

    Raises InvalidFileError and InvalidInputError for what is damaged or does not fit together.
    """
    check_specs(model.model)
    check_names(model.model)
    with contextlib.ExitStack() as stack:
        if options.reorder:
            run_dir = stack.enter_context(reordered_run(run_dir, beside, on_progress=on_progress))
        items, graph = read_items(run_dir, on_progress=on_progress), read_index(run_dir / "index")
        check_graph_fits(run_dir / "index", graph, items)
        check_dimension(model.model, items)
        beams = _default_beams(options.level_topn, graph)
        check_work(beams, options.max_work)
        yield Inputs(run_dir, model, items, graph, beams)


def check_work(beams: npt.NDArray[np.int32], max_work: int) -> int:
    """The work of one user's walk; InvalidInputError when it is more than a request may ask for."""
    work = int(beams.sum())
    if max_work < work:
        raise InvalidInputError(
            f"expected max_work of at least {work}, the sum of level_topn, found {max_work}. Raise it, or "
            f"choose narrower beams."
        )
    return work


def check_dimension(model: RetrievalModel, items: Items) -> None:
    """Raise InvalidFileError when the embeddings are not as wide as the model has them."""
    if model.embedding_dim != items.dim:
        raise InvalidFileError(
            f"{items.embs_path}: expected dimension {model.embedding_dim} as the model's, found {items.dim}. "
            f"Write the embeddings of this model."
        )


def _default_beams(level_topn: Sequence[int] | None, graph: GraphIndex) -> npt.NDArray[np.int32]:
    return check_level_topn(default_level_topn(graph.meta) if level_topn is None else level_topn, graph.meta)
