"""The index as a TensorFlow resource whose files travel with a SavedModel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.files import load_array
from nann.ops._library import load_library
from nann.ops.attribute_files import PARTS, AttributeFiles
from nann.ops.index_meta import ENTER_POINTS, INDEX_JSON, read_meta, row_splits_name, values_name

_TYPES = {
    "float32": tf.float32,
    "float16": tf.float16,
    "uint16": tf.bfloat16,
    "uint8": tf.int8,
    "int64": tf.int64,
}


class IndexResource(tf.saved_model.experimental.TrackableResource):
    """A memory-mapped, validated index: the first argument of the ops of this package.

    index_dir:   folder with index.json, entry points and neighbour lists, as `nann index` writes it.
    item_ids:    .npy file, int64 [N].
    item_tables: name -> .npy file, float32 | float16 | uint16 (bfloat16) [N, width], or
                 uint8 [N, bytes of a row] (int8 numbers and their scales).
    user_tables: name -> .npy file, the same types [rows, width], or int64 [rows] for a vocabulary, ascending.
    attributes:  the attributes that filters read (docs/filters.md), N rows each.
    id_order:    .npy file, int32 [N], positions in the order of their ids; computed at load when absent.
    prefault:    read every page at load, so that no request waits for the disk.
    overlay_capacity: number of new items that segments may add (docs/live.md); 0 reads no segments. The
                 segments of a SavedModel lie beside its version folder.
    export_id:   32 hexadecimal digits, which its segments carry too.

    Every file is a `tf.saved_model.Asset`. All of them are checked, to the last offset, when the resource is
    made and whenever a SavedModel that holds it is loaded: a damaged file raises
    tf.errors.InvalidArgumentError with path, expected and actual. Searches are thread-safe.

    Example:
      >>> index = IndexResource(
      ...     index_dir="RUN/index",
      ...     item_ids="RUN/embeddings/item_ids.npy",
      ...     item_tables={"item_embs": "RUN/embeddings/item_embs.npy"},
      ...     user_tables={"item_ids": "RUN/vocabulary/item_ids.npy"},
      ... )
      >>> index.meta.num_items, index.meta.dim
      (500, 8)
    """

    def __init__(
        self,
        *,
        index_dir: str | Path,
        item_ids: str | Path,
        item_tables: Mapping[str, str | Path],
        user_tables: Mapping[str, str | Path] | None = None,
        attributes: Sequence[AttributeFiles] = (),
        id_order: str | Path | None = None,
        prefault: bool = False,
        overlay_capacity: int = 0,
        export_id: str = "",
    ) -> None:
        super().__init__()
        self._ops = load_library()
        index_dir = Path(index_dir)
        self.meta = read_meta(index_dir)
        levels = range(self.meta.start_level)
        self._prefault = prefault
        self._overlay_capacity, self._export_id = overlay_capacity, export_id
        self._item_table_names, self._item_table_types = _names_and_types(item_tables)
        self._user_table_names, self._user_table_types = _names_and_types(user_tables or {})
        self._item_ids = self._asset("item_ids", item_ids)
        self._id_order = self._asset("id_order", id_order) if id_order is not None else None
        self._enter_points = self._asset("enter_points", index_dir / ENTER_POINTS)
        self._neighbors = [self._asset(f"values_{n}", index_dir / values_name(n)) for n in levels]
        self._row_splits = [self._asset(f"splits_{n}", index_dir / row_splits_name(n)) for n in levels]
        self._item_tables = [self._asset(f"item_{name}", path) for name, path in item_tables.items()]
        self._user_tables = [self._asset(f"user_{name}", path) for name, path in (user_tables or {}).items()]
        self._attributes = attributes
        self._attribute_paths = [
            [
                self._asset(f"attribute_{i}_{part}", path) if (path := each.files.get(part)) else None
                for part in PARTS
            ]
            for i, each in enumerate(attributes)
        ]
        # The walk does not read it, but without it nothing else could read the index.
        self._asset("index_json", index_dir / INDEX_JSON)
        if tf.executing_eagerly():
            self._initialize()

    def _asset(self, name: str, path: str | Path) -> tf.saved_model.Asset:
        # A resource does not track its attributes, and TensorFlow exports tracked assets only.
        return self._track_trackable(tf.saved_model.Asset(str(path)), name)

    def _create_resource(self) -> tf.Tensor:
        # A graph's initializer and signatures run in separate calls and must get the same handle. Eager
        # kernels are cached and shared by all callers, so each of their runs must give a new one.
        if tf.executing_eagerly():
            return self._ops.nann_anonymous_index()
        return self._ops.nann_index_handle()

    def _initialize(self) -> None:
        self._ops.nann_index_initialize(
            self.resource_handle,
            self._item_ids.asset_path,
            self._id_order.asset_path if self._id_order is not None else "",
            self._enter_points.asset_path,
            _paths(self._neighbors),
            _paths(self._row_splits),
            _paths(self._item_tables),
            _paths(self._user_tables),
            [tf.stack([_part_paths(parts) for parts in self._attribute_paths])] if self._attributes else [],
            hops_per_level=list(self.meta.hops_per_level),
            item_table_names=self._item_table_names,
            item_table_types=self._item_table_types,
            user_table_names=self._user_table_names,
            user_table_types=self._user_table_types,
            attribute_names=[each.name for each in self._attributes],
            attribute_types=[each.type for each in self._attributes],
            prefault=self._prefault,
            overlay_capacity=self._overlay_capacity,
            export_id=self._export_id,
        )


def _paths(assets: list[tf.saved_model.Asset]) -> tf.Tensor:
    if not assets:
        return tf.zeros([0], tf.string)
    return tf.stack([asset.asset_path for asset in assets])


def _part_paths(parts: Sequence[tf.saved_model.Asset | None]) -> tf.Tensor:
    return tf.stack([tf.constant("") if part is None else part.asset_path for part in parts])


def _names_and_types(tables: Mapping[str, str | Path]) -> tuple[list[str], list[tf.DType]]:
    types = []
    for name, path in tables.items():
        dtype = str(load_array(path, next_step="Write the table again.").dtype)
        if dtype not in _TYPES:
            raise InvalidInputError(
                f"table {name} ({path}): expected dtype {', '.join(_TYPES)} (uint16 holds bfloat16, "
                f"uint8 rows of int8), found {dtype}. Convert the array."
            )
        types.append(_TYPES[dtype])
    return list(tables), types
