"""The inputs of an export, read and checked before anything is written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._built import build_by_calls
from nann.export._model_specs import check_model_specs
from nann.export._options import ExportOptions
from nann.export.index.files import GraphIndex, check_graph_fits, read_index
from nann.export.index.reorder import reordered_run
from nann.export.items import Items, items_of_model, read_items
from nann.ops.index_meta import check_level_topn, default_level_topn
from nann.progress import OnProgress
from nann.run import (
    RetrievalModel,
    check_given_model,
    class_name,
    guarded,
    item_state_of,
    load_model,
    read_run,
)


@dataclass(frozen=True)
class NamedModel:
    """A model, and the `module:Class` that the manifest records for it."""

    model: RetrievalModel
    name: str


@dataclass(frozen=True)
class Inputs:
    """A run that can be exported.

    folder: the run's folder, or a temporary run with the same items in another order.
    beams:  the default level_topn, int32 [n].
    """

    folder: Path
    model: NamedModel
    items: Items
    graph: GraphIndex
    beams: npt.NDArray[np.int32]


def named_model(run_dir: Path, model: RetrievalModel | None) -> NamedModel:
    """`model` with its name; None is the model that run.json names.

    Raises InvalidInputError for a `model` that is none, InvalidFileError for what run.json names.
    """
    if model is not None:
        check_given_model(model)
    name = read_run(run_dir).model if model is None else class_name(model)
    found = guarded(load_model(run_dir) if model is None else model, check_results=True)
    _check_eager()
    return NamedModel(cast(RetrievalModel, found), name)


def _check_eager() -> None:
    """Raise InvalidInputError in a process that was made one of TensorFlow 1, as deepmatch advises."""
    if not tf.executing_eagerly():
        raise InvalidInputError(
            "model: expected TensorFlow with eager execution, found it disabled "
            "(tf.compat.v1.disable_eager_execution or disable_v2_behavior). Save the networks' weights where "
            "they were trained (network.save_weights), and build and export them in a process without it."
        )


@contextlib.contextmanager
def read_inputs(
    run_dir: Path,
    model: NamedModel,
    options: ExportOptions,
    *,
    beside: Path,
    on_progress: OnProgress,
) -> Iterator[Inputs]:
    """Read the run and check that its parts fit together.

    beside: folder for the temporary run that `options.reorder` takes; it is deleted when the block ends.

    Raises InvalidFileError for damaged files, InvalidInputError for a model or beams that do not fit.
    """
    check_model_specs(model.model)
    build_by_calls(model.model)
    with contextlib.ExitStack() as stack:
        if options.reorder:
            run_dir = stack.enter_context(reordered_run(run_dir, beside, on_progress=on_progress))
        items, graph = read_items(run_dir, on_progress=on_progress), read_index(run_dir / "index")
        check_graph_fits(run_dir / "index", graph, items)
        check_dimension(model.model, items)
        items = items_of_model(items, item_state_of(model.model))
        beams = _default_beams(options.level_topn, graph)
        check_work(beams, options.max_work)
        yield Inputs(run_dir, model, items, graph, beams)


def check_work(beams: npt.NDArray[np.int32], max_work: int) -> int:
    """The sum of `beams`; InvalidInputError when a request with them would exceed `max_work`."""
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
            f"Write the item embeddings of this model."
        )


def _default_beams(level_topn: Sequence[int] | None, graph: GraphIndex) -> npt.NDArray[np.int32]:
    return check_level_topn(default_level_topn(graph.meta) if level_topn is None else level_topn, graph.meta)
