"""The attributes of a run, `RUN/attributes.parquet`, as the files that filters read (docs/filters.md)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, MissingDependencyError
from nann.export.items import repeated_ids, some_ids
from nann.ops import AttributeFiles
from nann.run import ATTRIBUTES

_ID = "item_id"
_NEXT_STEP = "docs/filters.md says what the file holds."
# float32 holds every whole number up to here. Larger ones in a float64 column are ids or times, which must
# not be rounded.
_LARGEST_WHOLE = 2**24
_ADVICE = {
    "timestamp": "Store it as int64, such as seconds since 1970",
    "date": "Store it as int64, such as days since 1970",
    "time": "Store it as int64",
    "duration": "Store it as int64",
    "decimal": "Store it as int64, such as cents, or as float32",
    "struct": "Store each field as a column",
    "map": "Store each value as a column",
    "list": "Lists of lists are not read: flatten them",
    "binary": "Store it as a string in UTF-8",
    "null": "All its values are NULL: give it a type, or leave it out",
}


def write_attributes(
    folder: Path,
    run_dir: Path,
    item_ids: npt.NDArray[np.int64],
    *,
    of_part: bool = False,
    always_valid: bool = False,
) -> list[AttributeFiles]:
    """Write `attribute_{name}*.npy` into `folder`, one row for each of `item_ids`, in their order.

    of_part:      the file may have rows of other items: `item_ids` are those of one shard.
    always_valid: write the part `valid` also where no item is NULL. A compaction keeps the graph of the
                  export, which names the files, and its items may be NULL.

    An item without a row is NULL in all attributes. A run without RUN/attributes.parquet has none. Raises
    InvalidFileError for columns that cannot be attributes, for items that the run lacks, and for items with
    several rows.

    Example:
      >>> table = pa.table({"item_id": ids, "price": pa.array([5.0] * 500, pa.float32())})
      >>> pq.write_table(table, "RUN/attributes.parquet")
      >>> [(each.name, each.type) for each in write_attributes(Path("."), Path("RUN"), ids)]
      [('price', 'float32')]
    """
    path = run_dir / ATTRIBUTES
    if not path.exists():
        return []
    parquet = _open(path)
    rows = _rows_of_items(path, _read_ids(path, parquet), item_ids, of_part=of_part)
    writer = _Writer(folder, path, rows, always_valid)
    return [writer.write(field.name, parquet.read(columns=[field.name])) for field in _fields(path, parquet)]


def check_attributes(run_dir: Path, item_ids: npt.NDArray[np.int64]) -> None:
    """Raise what `write_attributes` would raise for names, types and items, without reading the values."""
    path = run_dir / ATTRIBUTES
    if path.exists():
        parquet = _open(path)
        _rows_of_items(path, _read_ids(path, parquet), item_ids, of_part=False)
        for field in _fields(path, parquet):
            _type_of(path, field)


def _open(path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: expected the package pyarrow to read it, found none. Install it with `pip install "
            f"nann[tensorflow]`."
        ) from error
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise InvalidFileError(
            f"{path}: expected a Parquet file, found one that cannot be read ({error}). {_NEXT_STEP}"
        ) from error


def _fields(path: Path, parquet: Any) -> list[Any]:
    """The columns that are attributes."""
    fields = [field for field in parquet.schema_arrow if field.name != _ID]
    names = [_lower(field.name) for field in fields]
    for name in names:
        if not name or "\0" in name or names.count(name) > 1:
            raise InvalidFileError(
                f"{path}: expected column names that differ by more than the case of their letters, found "
                f"{name!r} {names.count(name)} times. Rename it."
            )
    return fields


def _lower(name: str) -> str:
    """The name as filters compare names: they ignore the case of ASCII letters."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def _read_ids(path: Path, parquet: Any) -> npt.NDArray[np.int64]:
    import pyarrow as pa

    index = parquet.schema_arrow.get_field_index(_ID)
    if index < 0:
        raise InvalidFileError(
            f"{path}: expected one column {_ID}, found {', '.join(parquet.schema_arrow.names)}. {_NEXT_STEP}"
        )
    column = parquet.read(columns=[_ID]).column(0)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InvalidFileError(
            f"{path}: expected {_ID} of type int64 without NULL, found {column.type} with "
            f"{column.null_count} of them. {_NEXT_STEP}"
        )
    ids: npt.NDArray[np.int64] = _cast(path, _ID, column, pa.int64()).to_numpy()
    repeated = repeated_ids(ids)
    if repeated.size:
        raise InvalidFileError(
            f"{path}: expected one row per item, found {repeated.size} items with several: "
            f"{some_ids(repeated)}. Keep one; several values of one item are a list."
        )
    return ids


def _rows_of_items(
    path: Path, ids: npt.NDArray[np.int64], item_ids: npt.NDArray[np.int64], *, of_part: bool
) -> npt.NDArray[np.int64]:
    """The row of each item, -1 where it has none."""
    if not of_part and (unknown := np.setdiff1d(ids, item_ids)).size:
        raise InvalidFileError(
            f"{path}: expected items of RUN/embeddings/item_ids.npy, found {unknown.size} others: "
            f"{some_ids(unknown)}. Leave them out, or write their embeddings."
        )
    if ids.size == 0:
        return np.full(item_ids.size, -1)
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids[order], item_ids), ids.size - 1)
    rows: npt.NDArray[np.int64] = np.where(ids[order][place] == item_ids, order[place], -1)
    return rows


def _cast(path: Path, name: str, column: Any, target: Any) -> Any:
    import pyarrow as pa

    try:
        return column.cast(target)
    except pa.ArrowException as error:
        raise InvalidFileError(
            f"{path}: column {name}: expected values that {target} holds, found others ({error})."
        ) from error


def _type_of(path: Path, field: Any) -> tuple[str, Any]:
    """The type as filters name it, and pyarrow's type that the column is cast to."""
    import pyarrow as pa

    kind = field.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    element = kind.value_type if is_list or pa.types.is_dictionary(kind) else kind
    name, target = _scalar_type(element)
    if target is None:
        shown = str(kind)
        advice = next((text for word, text in _ADVICE.items() if word in str(element)), "Store another type")
        raise InvalidFileError(
            f"{path}: column {field.name}: expected int64, float32, bool, string or a list of these, found "
            f"{shown}. {advice}. {_NEXT_STEP}"
        )
    return (f"list<{name}>", pa.large_list(target)) if is_list else (name, target)


def _scalar_type(kind: Any) -> tuple[str, Any]:
    import pyarrow as pa

    if pa.types.is_integer(kind):
        return "int64", pa.int64()
    if pa.types.is_floating(kind):
        return "float32", pa.float64() if kind == pa.float64() else pa.float32()
    if pa.types.is_boolean(kind):
        return "bool", pa.bool_()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return "string", pa.large_string()
    return "", None


def attribute_parts(column: Any, rows: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an attribute with the values `column[rows]`, by their part; `valid` is always there.

    column: pyarrow.ChunkedArray of a type that attributes have.

    Example:
      >>> attribute_parts(pa.chunked_array([pa.array([5, 6], pa.int64())]), np.array([1]))
      {'values': array([6]), 'valid': array([1], dtype=uint64)}
    """
    import pyarrow as pa

    return _Writer(Path(), Path(), rows, always_valid=True).arrays("", pa.table({"": column}))[1]


class _Writer:
    """Writes the columns of one table, row `rows[p]` at position p; NULL where that is -1."""

    def __init__(
        self, folder: Path, path: Path, rows: npt.NDArray[np.int64], always_valid: bool = False
    ) -> None:
        self._folder, self._path, self._rows, self._always_valid = folder, path, rows, always_valid
        self._taken: set[str] = set()

    def write(self, name: str, table: Any) -> AttributeFiles:
        kind, arrays = self.arrays(name, table)
        return AttributeFiles(name, kind, self._save(name, arrays))

    def arrays(self, name: str, table: Any) -> tuple[str, dict[str, npt.NDArray[Any]]]:
        """The type of a column of the table, and its parts."""
        import pyarrow as pa

        kind, target = _type_of(self._path, table.schema.field(name))
        taken = _cast(self._path, name, table.column(name), target).take(
            pa.array(self._rows, mask=self._rows < 0)
        )
        column = taken.combine_chunks() if taken.num_chunks != 1 else taken.chunk(0)
        arrays: dict[str, npt.NDArray[Any]] = {}
        if kind.startswith("list<"):
            # flatten() leaves out what lies under a NULL; offsets are made from the lengths that remain.
            lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
            arrays["offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            values = column.flatten()
            arrays |= {"element_valid": _valid_bits(values)} if values.null_count else {}
        else:
            values = column
        arrays |= self._values(name, values)
        arrays |= {"valid": _valid_bits(column)} if column.null_count or self._always_valid else {}
        return kind, arrays

    def _values(self, name: str, values: Any) -> dict[str, npt.NDArray[Any]]:
        import pyarrow as pa

        if pa.types.is_large_string(values.type):
            return _dictionary(values)
        if values.type == pa.float64():
            return {"values": self._narrowed(name, values.fill_null(0.0).to_numpy(zero_copy_only=False))}
        filled = values.fill_null(False if values.type == pa.bool_() else 0)
        return {"values": filled.to_numpy(zero_copy_only=False)}

    def _narrowed(self, name: str, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        finite = values[np.isfinite(values)]
        wide = finite[(np.abs(finite) > _LARGEST_WHOLE) & (finite.astype(np.float32) != finite)]
        if wide.size:
            raise InvalidFileError(
                f"{self._path}: column {name}: expected values that float32 holds, found {wide.size} beyond "
                f"2^24 that it would round, such as {wide[0]!r}. Store ids and times as int64, with NULL "
                f"where there is none, or round the column to float32 yourself."
            )
        return values.astype(np.float32)

    def _save(self, name: str, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, Path]:
        plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)
        stem, number = plain, 1
        while stem.lower() in self._taken:
            number += 1
            stem = f"{plain}_{number}"
        self._taken.add(stem.lower())
        files = {}
        for part, array in arrays.items():
            # The dot keeps parts apart from other attributes: no stem has one.
            suffix = "" if part == "values" else f".{part}"
            files[part] = self._folder / f"attribute_{stem}{suffix}.npy"
            np.save(files[part], array)
        return files


def _valid_bits(values: Any) -> npt.NDArray[np.uint64]:
    return valid_bits(values.is_valid().to_numpy(zero_copy_only=False))


def valid_bits(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """One bit per value, set where it is not NULL, in whole words."""
    packed = np.packbits(valid, bitorder="little")
    padded = np.zeros(-(-valid.size // 64) * 8, np.uint8)
    padded[: packed.size] = packed
    return padded.view("<u8")


def _dictionary(values: Any) -> dict[str, npt.NDArray[Any]]:
    """The codes of strings, and the distinct strings in the order of their bytes."""
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = values.dictionary_encode()
    distinct = encoded.dictionary.cast(pa.large_binary())
    order = pc.sort_indices(distinct).to_numpy(zero_copy_only=False)
    code = np.empty(order.size + 1, np.int32)
    code[order] = np.arange(order.size)
    code[-1] = -1  # of NULL
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    ordered = distinct.take(pa.array(order))
    lengths = pc.binary_length(ordered).to_numpy(zero_copy_only=False)
    return {
        "values": code[codes],
        "dictionary": np.frombuffer(b"".join(ordered.to_pylist()), np.uint8),
        "dictionary_offsets": np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    }


def describe_attributes(attributes: Sequence[AttributeFiles]) -> dict[str, Any]:
    """The manifest's entry: name -> type and files."""
    return {
        each.name: {
            "type": each.type,
            "files": {part: f"assets/{path.name}" for part, path in each.files.items()},
        }
        for each in attributes
    }


def attributes_of_manifest(model_dir: Path, manifest: dict[str, Any]) -> list[AttributeFiles]:
    """The attributes of an export; none in exports from before there were any."""
    return [
        AttributeFiles(name, entry["type"], {part: model_dir / file for part, file in entry["files"].items()})
        for name, entry in manifest.get("attributes", {}).items()
    ]
