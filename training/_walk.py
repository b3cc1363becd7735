"""The walk of an index with a scorer, for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from nann import ops
from nann.errors import InvalidFileError
from nann.export.index.files import read_index
from nann.files import load_array
from nann.ops import DEFAULT_TILE_ROWS
from nann.ops.index_meta import check_level_topn, default_level_topn
from nann.run import EMBEDDINGS, INDEX

Ids = npt.NDArray[np.int64]


class Walk:
    """The walk inside the custom op, as it is served, over the index and the embeddings of a run."""

    def __init__(self, run_dir: Path, model: Any, *, level_topn: Sequence[int] | None, k: int) -> None:
        """Open the index.

        Args:
          level_topn: beams; None is the index's default. The last is replaced by `k`.

        Raises:
          InvalidFileError: the index is missing, damaged, or of other items.
          InvalidInputError: `level_topn` does not fit the index.
        """
        self.level_topn = _beams(run_dir, level_topn, k)
        embeddings = run_dir / EMBEDDINGS
        self._index = ops.IndexResource(
            index_dir=run_dir / INDEX,
            item_ids=embeddings / "item_ids.npy",
            item_tables={"item_embs": embeddings / "item_embs.npy"},
        )
        self._names = list(model.user_state)
        self._scorer = _frozen_scorer(model, self._names)
        state = [tf.TensorSpec([1, *model.user_state[name].shape], tf.float32) for name in self._names]
        self._search = tf.function(
            self._beam_search, input_signature=[state, tf.TensorSpec([1, None], tf.int64)]
        )

    def search(self, state: dict[str, Any], exclude_ids: Ids) -> tuple[Ids, int]:
        """Return the user's top ids, best first, without padding, and the number of items scored."""
        tensors = [state[name][tf.newaxis] for name in self._names]
        result = self._search(tensors, tf.convert_to_tensor(exclude_ids[np.newaxis]))
        ids = result.ids.numpy()[0]
        return ids[ids >= 0], int(result.items_scored.numpy()[0])

    def _beam_search(self, state: list[tf.Tensor], exclude_ids: tf.Tensor) -> ops.BeamSearchResult:
        return ops.beam_search(
            self._index, state, tf.constant(self.level_topn), exclude_ids, scorer=self._scorer
        )


def _frozen_scorer(model: Any, names: list[str]) -> Any:
    """`model.score` for one tile, its variables turned into constants, as the op wants it."""

    def score(*tensors: tf.Tensor) -> tf.Tensor:
        return model.score(dict(zip(names, tensors[:-1], strict=True)), tensors[-1])

    tile = tf.TensorSpec([DEFAULT_TILE_ROWS, model.embedding_dim], tf.float32)
    states = [tf.TensorSpec(model.user_state[name].shape, tf.float32) for name in names]
    return convert_variables_to_constants_v2(tf.function(score).get_concrete_function(*states, tile))


def _beams(run_dir: Path, level_topn: Sequence[int] | None, k: int) -> tuple[int, ...]:
    graph = read_index(run_dir / INDEX)
    num_items = len(load_array(run_dir / EMBEDDINGS / "item_ids.npy", next_step="Run `nann embed`."))
    if graph.meta.num_items != num_items:
        raise InvalidFileError(
            f"{run_dir / INDEX}: expected an index of the {num_items} embedded items, found one of "
            f"{graph.meta.num_items}. Build it again: `nann index`."
        )
    beams = default_level_topn(graph.meta) if level_topn is None else check_level_topn(level_topn, graph.meta)
    return tuple(check_level_topn([*beams[:-1].tolist(), k], graph.meta).tolist())
