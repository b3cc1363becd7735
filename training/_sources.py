"""Where data sets come from: `recbole:ml-100k`, a UserBehavior CSV, a file of sequences, `synthetic:...`."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from nann.errors import InvalidFileError, InvalidInputError, MissingDependencyError
from nann.training._building import dataset_from_events, write_dataset
from nann.training._dataset import Dataset
from nann.training._sequences import sequences_dataset
from nann.training._splits import SplitOptions
from nann.training._synthetic import SyntheticOptions, synthetic_dataset

RECBOLE = "recbole==1.2.1"
BEHAVIOURS = ("pv", "buy", "cart", "fav")

_CSV_COLUMNS = ("user", "item", "category", "behaviour", "timestamp")
_NUMBERS = ("user", "item", "category", "timestamp")


def prepare_data(
    source: str, folder: Path, *, split: SplitOptions | None = None, overwrite: bool = False
) -> Dataset:
    """Read `source` and write it to `folder` in the form that training reads.

    Args:
      source: `recbole:ml-100k`: MovieLens-100K as shipped inside the installed `recbole` package;
        `synthetic:items=N,users=N,...`: see `SyntheticOptions`;
        FILE.csv: a CSV file as Taobao's UserBehavior: user, item, category, behaviour, timestamp, without a
        header;
        FILE.txt, or sequences:FILE of any name: lines `user item item ...`, oldest item first.
      folder: where to write; must not exist, or hold an older data set and `overwrite` be set.
      split: how examples are divided; None leaves one event out for the test and one for validation.

    Raises:
      InvalidInputError, InvalidFileError: `source` or its content is not as described.
      MissingDependencyError: `recbole` is not installed.
    """
    split = split or SplitOptions()
    dataset = load_source(source, split=split)
    write_dataset(dataset, folder, options=asdict(split), overwrite=overwrite)
    return dataset


def load_source(source: str, *, split: SplitOptions | None = None) -> Dataset:
    """Read `source` (as in `prepare_data`) into memory."""
    if split is not None:
        split.check()
    if source.startswith("recbole:"):
        name = source.removeprefix("recbole:")
        if name != "ml-100k":
            raise InvalidInputError(
                f"source {source!r}: expected recbole:ml-100k, found the data set {name!r}."
            )
        return movielens_dataset(
            _recbole_folder() / "dataset_example" / "ml-100k", source=source, split=split
        )
    if source.startswith("synthetic:"):
        return synthetic_dataset(SyntheticOptions.parse(source.removeprefix("synthetic:")), split=split)
    if source.endswith(".csv"):
        return userbehavior_dataset(Path(source), split=split)
    if source.startswith("sequences:") or source.endswith(".txt"):
        return sequences_dataset(Path(source.removeprefix("sequences:")), split)
    raise InvalidInputError(
        f"source {source!r}: expected recbole:ml-100k, FILE.csv or synthetic:items=N,users=N,seed=N; or "
        "FILE.txt or sequences:FILE with lines `user item item ...`."
    )


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


def userbehavior_dataset(path: Path, *, split: SplitOptions | None = None) -> Dataset:
    """Read a CSV file as Taobao's UserBehavior; every behaviour counts as an event."""
    _check_csv(path)
    try:
        table = pd.read_csv(
            path,
            header=None,
            names=list(_CSV_COLUMNS),
            index_col=False,
            dtype={**dict.fromkeys(_NUMBERS, "int64"), "behaviour": "category"},
            on_bad_lines="error",
        )
    except (ValueError, OverflowError) as error:
        raise InvalidFileError(_first_problem(path) or f"{path}: cannot be read: {error}.") from error
    unknown = set(table["behaviour"].cat.categories) - set(BEHAVIOURS)
    if unknown or table["behaviour"].isna().any():
        raise InvalidFileError(_first_problem(path) or f"{path}: unknown behaviours {sorted(unknown)}.")
    return dataset_from_events(table, source=str(path), options=split)


def _check_csv(path: Path) -> None:
    """Raise InvalidFileError for a file that is missing or empty, or has another first line."""
    if not path.is_file():
        raise InvalidFileError(f"{path}: no such file. Give the path of a UserBehavior CSV file.")
    if path.stat().st_size == 0:
        raise InvalidFileError(f"{path}: expected lines `{','.join(_CSV_COLUMNS)}`, found an empty file.")
    if problem := _first_line_problem(path):
        raise InvalidFileError(problem)


def _first_line_problem(path: Path) -> str | None:
    """pandas drops surplus fields in silence when every line has them, so the first line is read apart."""
    return next(_problems(path), None)


def _first_problem(path: Path) -> str | None:
    """Say which line is the first that is not as it should be. Slow; only called once something is wrong."""
    return next(filter(None, _problems(path)), None)


def _problems(path: Path) -> Iterator[str | None]:
    """What is wrong with each line that is not blank (pandas skips blank lines, too)."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.reader(file)
        for fields in reader:
            if fields:
                yield _problem(path, reader.line_num, fields)


def _problem(path: Path, number: int, fields: list[str]) -> str | None:
    where = f"{path}: line {number}: expected"
    found = f"found {','.join(fields)!r}"
    advice = "Correct or remove the line (the file has no header line)."
    if len(fields) != len(_CSV_COLUMNS):
        return f"{where} {len(_CSV_COLUMNS)} columns {','.join(_CSV_COLUMNS)}, {found}. {advice}"
    values = dict(zip(_CSV_COLUMNS, fields, strict=True))
    for column in _NUMBERS:
        text = values[column].strip()
        if not text.removeprefix("-").isdigit() or not -(2**63) <= int(text) < 2**63:
            return f"{where} a whole number of 64 bits in column {column}, {found}. {advice}"
    if values["behaviour"] not in BEHAVIOURS:
        return f"{where} one of {', '.join(BEHAVIOURS)} in column behaviour, {found}. {advice}"
    return None
