"""MovieLens-100K, from the files inside the wheel `recbole`."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pandas as pd

from nann.errors import InvalidFileError, InvalidInputError, MissingDependencyError
from nann.training._building import dataset_from_events
from nann.training._dataset import Dataset
from nann.training._splits import SplitOptions

RECBOLE = "recbole==1.2.1"


def recbole_dataset(source: str, split: SplitOptions) -> Dataset:
    """The data set that `source`, `recbole:ml-100k`, names.

    Raises:
      InvalidInputError: another name.
      MissingDependencyError: `recbole` is not installed.
    """
    name = source.removeprefix("recbole:")
    if name != "ml-100k":
        raise InvalidInputError(f"source {source!r}: expected recbole:ml-100k, found the data set {name!r}.")
    folder = _recbole_folder() / "dataset_example" / "ml-100k"
    return movielens_dataset(folder, source=source, split=split)


def _recbole_folder() -> Path:
    # The package is found, never imported: importing it needs torch.
    spec = importlib.util.find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError(
            "source recbole:ml-100k: expected the Python package recbole, found none. "
            f"Install it without its dependencies: `pip install --no-deps {RECBOLE}`."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def movielens_dataset(folder: Path, *, source: str, split: SplitOptions | None = None) -> Dataset:
    """Read RecBole's `ml-100k.inter` and `ml-100k.item`; an item's category is its first genre."""
    columns = {"user": "user_id:token", "item": "item_id:token", "timestamp": "timestamp:float"}
    events = _read_recbole(folder / "ml-100k.inter", tuple(columns.values()))
    items = _read_recbole(
        folder / "ml-100k.item", ("item_id:token", "movie_title:token_seq", "class:token_seq")
    )
    first_genre = items["class:token_seq"].fillna("unknown").str.split().str[0].fillna("unknown")
    genres = {genre: number for number, genre in enumerate(sorted(first_genre.unique()), start=1)}
    item_ids = _as_ids(items["item_id:token"], folder / "ml-100k.item")
    titles = items["movie_title:token_seq"].fillna("")
    return dataset_from_events(
        pd.DataFrame(
            {name: _as_ids(events[each], folder / "ml-100k.inter") for name, each in columns.items()}
        ),
        source=source,
        item_categories=pd.DataFrame({"item": item_ids, "category": first_genre.map(genres)}),
        titles={int(item): str(title) for item, title in zip(item_ids, titles, strict=True) if title},
        options=split,
    )


def _read_recbole(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise InvalidFileError(
            f"{path}: no such file. Install the data: `pip install --no-deps --force-reinstall {RECBOLE}`."
        )
    # Titles contain quotation marks that mean nothing to the format.
    table = pd.read_csv(path, sep="\t", dtype=str, quoting=csv.QUOTE_NONE)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InvalidFileError(
            f"{path}: expected columns {', '.join(columns)}; found {', '.join(table.columns)}. "
            f"Install the data of `{RECBOLE}`."
        )
    return table


def _as_ids(column: pd.Series[str], path: Path) -> pd.Series[int]:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = numbers.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise InvalidFileError(
            f"{path}: line {row + 2}: expected a number in column {column.name}, found {column.iloc[row]!r}."
        )
    return numbers.astype("int64")
