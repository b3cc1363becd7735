"""The asset files of an export: linked from the run where the file system allows it, else copied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError
from nann.export._inputs import Inputs
from nann.export._user_side import table_chunks, unused_name
from nann.export.attributes import write_attributes
from nann.export.items import CHUNK_ROWS
from nann.files import describe_array, link_array, link_or_copy, load_array, write_array_in_chunks
from nann.ops import AttributeFiles
from nann.ops.index_meta import INDEX_JSON, index_file_names
from nann.run import TITLES, VOCABULARY, RetrievalModel

ITEM_IDS = "item_ids.npy"
ITEM_EMBS = "item_embs.npy"
ITEM_ID_ORDER = "item_id_order.npy"


@dataclass
class Assets:
    """The files in the assets folder, by the names of their tables in the index."""

    folder: Path
    item_tables: dict[str, Path] = field(default_factory=dict)
    user_tables: dict[str, Path] = field(default_factory=dict)
    item_state: dict[str, Path] = field(default_factory=dict)  # no op reads these: `nann verify` does
    vocabularies: dict[str, str] = field(default_factory=dict)  # feature -> user table
    attributes: list[AttributeFiles] = field(default_factory=list)

    def open_item_tables(self) -> dict[str, npt.NDArray[Any]]:
        """The item tables, mapped."""
        return {name: np.load(path, mmap_mode="r") for name, path in self.item_tables.items()}

    def open_vocabularies(self) -> dict[str, npt.NDArray[np.int64]]:
        """The vocabulary of each feature that has one, mapped."""
        return {
            feature: np.load(self.user_tables[table], mmap_mode="r")
            for feature, table in self.vocabularies.items()
        }


def gather_assets(
    folder: Path,
    inputs: Inputs,
    tables: Mapping[str, Any],
    *,
    of_part: bool = False,
    is_live: bool = False,
) -> Assets:
    """Fill `folder` with corpus, index, vocabularies and attributes of RUN and the model's user tables.

    tables:  name -> the variable or tensor [rows, width] that becomes a user table.
    of_part: the items are those of one shard, and the attributes those of all.
    is_live: segments may change the items.

    Raises InvalidFileError when a vocabulary is missing or damaged, or attributes do not fit the items.
    """
    run_dir, items = inputs.folder, inputs.items
    index_dir = run_dir / "index"
    folder.mkdir(parents=True)
    assets = Assets(folder)
    for name in index_file_names(inputs.graph.meta):
        link = link_or_copy if name == INDEX_JSON else link_array
        link(index_dir / name, folder / name)
    link_array(items.ids_path, folder / ITEM_IDS)
    link_array(items.embs_path, folder / ITEM_EMBS)
    for name in items.state:
        file = f"item_state_{unused_name(name, assets.item_state)}.npy"
        assets.item_state[name] = folder / file
        link_array(items.embs_path.with_name(f"item_state_{name}.npy"), folder / file)
    assets.item_tables["item_embs"] = folder / ITEM_EMBS
    assets.attributes = write_attributes(folder, run_dir, items.ids, of_part=of_part, always_valid=is_live)
    np.save(folder / ITEM_ID_ORDER, np.argsort(items.ids).astype(np.int32))
    for feature, source in vocabulary_files(inputs.folder, inputs.model.model).items():
        check_vocabulary(source)
        table = unused_name(f"{feature}_vocabulary", {**assets.user_tables, **tables})
        assets.vocabularies[feature] = table
        assets.user_tables[table] = user_table_file(folder, table)
        link_array(source, assets.user_tables[table])
    for table, source in tables.items():
        assets.user_tables[table] = user_table_file(folder, table)
        _write_table(assets.user_tables[table], source)
    return assets


def link_titles(model_dir: Path, run_dir: Path) -> None:
    """Make RUN's titles, if it has any, a part of the export. The console of `nann serve` shows them."""
    if (run_dir / TITLES).exists():
        (model_dir / "assets.extra").mkdir(exist_ok=True)
        link_or_copy(run_dir / TITLES, model_dir / "assets.extra" / TITLES)


def item_table_file(folder: Path, table: str) -> Path:
    """The file of an item table that the export makes."""
    return folder / f"item_table_{table}.npy"


def user_table_file(folder: Path, table: str) -> Path:
    """The file of a table that is looked up by row."""
    return folder / f"user_table_{table}.npy"


def vocabulary_files(run_dir: Path, model: RetrievalModel) -> dict[str, Path]:
    """The user features that arrive as rows: those of an integer type for which RUN has a vocabulary."""
    files = {
        name: run_dir / VOCABULARY / f"{name}.npy"
        for name, spec in model.user_features.items()
        if spec.dtype.is_integer
    }
    return {name: path for name, path in files.items() if path.exists()}


def check_vocabulary(path: Path) -> None:
    next_step = "Write the vocabulary that the model was trained with; docs/your-model.md says what it holds."
    ids: npt.NDArray[Any] = load_array(path, next_step=next_step)
    if ids.dtype != np.int64 or ids.ndim != 1:
        raise InvalidFileError(f"{path}: expected int64 [V], found {describe_array(ids)}. {next_step}")
    if ids.size == 0:
        raise InvalidFileError(
            f"{path}: expected at least one id, found an empty vocabulary. {next_step} Without the file the "
            f"values of the feature pass as they are."
        )
    if (ids[1:] <= ids[:-1]).any():
        at = int(np.flatnonzero(ids[1:] <= ids[:-1])[0])
        raise InvalidFileError(
            f"{path}: expected ids in ascending order, each once, found {int(ids[at])} at [{at}] and "
            f"{int(ids[at + 1])} after it. {next_step}"
        )
    if (ids == 0).any():
        raise InvalidFileError(
            f"{path}: expected no id 0, which requests send for a missing value, found one. {next_step}"
        )


def _write_table(path: Path, source: Any) -> None:
    """Write a variable as .npy, a chunk at a time."""
    dtype = np.float16 if source.dtype.base_dtype.name == "float16" else np.float32
    shape = tuple(source.shape.as_list())
    write_array_in_chunks(path, table_chunks(source, CHUNK_ROWS), dtype=dtype, shape=shape)
