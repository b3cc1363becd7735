"""What an export keeps for items that are inserted later: how the rows of its item tables are computed.

`write_item_side` writes `assets.extra/nann_item`, which no server reads; `ItemSide` reads it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidFileError
from nann.export._embed_item import EMBEDDING, link_item_vocabularies, trace_embed_item
from nann.export._model_specs import plain_names
from nann.export._narrow_rows import NARROW, narrow_rows
from nann.export._users import rows_of
from nann.export.decomposition import decomposition_file, load_decomposition
from nann.export.index.files import GraphIndex, Level, write_index
from nann.export.item_rows import ItemRows
from nann.export.proxy_samples import FEATURES
from nann.export.scorer import ITEM_ROWS, SCORER_TABLE, Scorer
from nann.files import without_patterns
from nann.ops import IndexResource, load_library, score_items
from nann.ops.index_meta import FORMAT_VERSION, IndexMeta
from nann.run import VOCABULARY, RetrievalModel
from nann.run.as_written import as_written

Array = npt.NDArray[Any]
ITEM_SIDE = "assets.extra/nann_item"
_PROGRAM = "scorer_program"
_EMBS = "item_embs"


def write_item_side(model_dir: Path, scorer: Scorer, model: RetrievalModel, run_dir: Path) -> None:
    """Write what computes rows of items into the export `model_dir`: functions of `scorer` and of `model`."""
    module = tf.Module()
    module.scorer = _callable(scorer.function)
    if scorer.user_function is not None:
        module.user_function = _callable(scorer.user_function)
    if scorer.item_function is not None:
        module.item_function = _callable(scorer.item_function)
    embed_item = trace_embed_item(model)
    if embed_item is not None:
        module.embed_item, module.resources = embed_item.function, embed_item.resources
    folder = model_dir / ITEM_SIDE
    folder.mkdir(parents=True, exist_ok=True)
    link_item_vocabularies(folder / VOCABULARY, run_dir, model)
    tf.saved_model.save(
        module, str(folder), options=tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    )
    (folder / _PROGRAM).write_bytes(scorer.program)


class ItemSide:
    """Computes the rows of an export's item tables for new items.

    Raises InvalidFileError for an export that was written without its item side.

    Example:
      >>> side = ItemSide(Path("MODELS/nann/1"), read_manifest(Path("MODELS/nann/1")))
      >>> {name: rows.shape for name, rows in side.rows(np.zeros([2, 8], np.float32), {}).items()}
      {'item_embs': (2, 8), 'scorer': (2, 16)}
    """

    def __init__(self, model_dir: Path, manifest: Mapping[str, Any]) -> None:
        load_library()
        folder = model_dir / ITEM_SIDE
        self._folder = folder
        if not (folder / "saved_model.pb").exists():
            raise InvalidFileError(
                f"{folder}: expected the functions of the item side, found none. Export again with "
                f"this version."
            )
        with without_patterns(folder) as path:
            self._module = tf.saved_model.load(str(path))
        self._tables: list[str] = list(manifest["tables"]["item"])
        self._scorer: Mapping[str, Any] = manifest["scorer"]
        self._program = (folder / _PROGRAM).read_bytes()
        self._decomposition = None
        if FEATURES in self._tables:
            self._decomposition, self._users = load_decomposition(decomposition_file(model_dir))

    def embed(self, features: Mapping[str, Array]) -> tuple[npt.NDArray[np.float32], dict[str, Array]]:
        """Embeddings float32 [n, D] and item state [n, ...] of n items with these features, [n, ...] each.

        The features are those of the manifest. Integers with a vocabulary are given as ids.
        """
        function, inputs = self._module.embed_item, {}
        for name, plain in plain_names(features).items():
            values, path = features[name], self._folder / VOCABULARY / f"{name}.npy"
            known = path.exists()
            inputs[plain] = tf.constant(rows_of(values, np.load(path, mmap_mode="r")) if known else values)
        found = {name: tensor.numpy() for name, tensor in function(**inputs).items()}
        state = {name.removeprefix("state/"): values for name, values in found.items() if name != EMBEDDING}
        return found[EMBEDDING], state

    def rows(self, embs: Array, state: Mapping[str, Array]) -> dict[str, Array]:
        """The rows of n items in every item table of the export, [n, width] each, in the tables' types.

        embs:  [n, D], in the type of the table item_embs.
        state: item state by name, [n, ...].
        """
        read = ItemRows(embs, state)[:] if state else np.asarray(embs, np.float32)
        rows: dict[str, Array] = {_EMBS: embs}
        for table in self._tables:
            if table == ITEM_ROWS:
                rows[table] = read
            elif table == SCORER_TABLE:
                rows[table] = self._of_item_function(read)
        for table in self._tables:
            source, _, precision = table.rpartition("_")
            if precision in NARROW and source in rows:
                rows[table] = narrow_rows(rows[source], precision)
        if self._decomposition is not None:
            rows[FEATURES] = self._decomposition.rows(self._scores(rows))
        missing = set(self._tables) - set(rows)
        if missing:
            raise InvalidFileError(
                f"{self._folder}: expected item tables that can be computed, found {sorted(missing)}. Export "
                f"again with this version."
            )
        return {table: rows[table] for table in self._tables}

    def _of_item_function(self, read: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The item function in its tiles, as the export has run it."""
        tile_rows = self._scorer["tile_rows"]
        tiles = []
        with as_written():
            for start in range(0, len(read), tile_rows):
                tile = np.zeros((tile_rows, read.shape[1]), np.float32)
                tile[: len(read) - start] = read[start : start + tile_rows]
                tiles.append(self._module.item_function(tile).numpy())
        return np.concatenate(tiles)[: len(read)]

    def _scores(self, rows: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        """Scores of the items for the decomposition's users, [n, users]: through an index of these items."""
        count = len(rows[_EMBS])
        names = self._scorer["item_tables"]
        with tempfile.TemporaryDirectory(prefix="nann-items-") as name:
            folder = Path(name)
            _write_graph_without_links(folder / "index", count, rows[_EMBS].shape[1])
            np.save(folder / "ids.npy", np.arange(count))
            for table in names:
                np.save(folder / f"{table}.npy", rows[table])
            index = IndexResource(
                index_dir=folder / "index",
                item_ids=folder / "ids.npy",
                item_tables={table: folder / f"{table}.npy" for table in names},
            )
            users = list(self._users.values())
            positions = np.broadcast_to(np.arange(count, dtype=np.int32), (len(users[0]), count))
            user_function = getattr(self._module, "user_function", None)
            scores = score_items(
                index,
                users,
                positions,
                scorer=_concrete(self._module.scorer),
                user_functions=[] if user_function is None else [_concrete(user_function)],
                item_tables=names,
                tile_rows=self._scorer["tile_rows"],
                program=self._program,
            )
            found: npt.NDArray[np.float32] = scores.numpy().T
            return found


def _callable(function: Any) -> Any:
    """A ConcreteFunction of a frozen graph as a function that TensorFlow can save by its attribute."""
    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in function.inputs]
    return tf.function(lambda *tensors: function(*tensors), input_signature=specs, autograph=False)


def _concrete(function: Any) -> Any:
    (concrete,) = function.concrete_functions
    return concrete


def _write_graph_without_links(folder: Path, items: int, dim: int) -> None:
    meta = IndexMeta(FORMAT_VERSION, items, dim, "l2", 0, 0, 1, (1,))
    level = Level(np.zeros(0, np.int32), np.zeros(items + 1, np.int64))
    write_index(folder, GraphIndex(meta, np.zeros(1, np.int32), (level,)))
