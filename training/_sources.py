"""Where data sets come from: files of events, `recbole:ml-100k`, `synthetic:...`."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import check_replaceable
from nann.progress import OnProgress, ignore_progress
from nann.training._building import write_dataset
from nann.training._dataset import META, Dataset, read_dataset
from nann.training._recbole import recbole_dataset
from nann.training._sparse import SparseOptions, sparse_dataset
from nann.training._splits import SplitOptions
from nann.training._synthetic import SyntheticOptions, synthetic_dataset

if TYPE_CHECKING:
    from nann.training.ingest import EventFiles

_SEQUENCES = "sequences:"
# In a folder, files of other names (_SUCCESS, .crc) are no data.
_ENDINGS = {".csv": "text", ".csv.gz": "text", ".parquet": "parquet", ".txt": "sequences"}
_EXPECTED = (
    "expected recbole:ml-100k, FILE.csv or synthetic:items=N,users=N,seed=N; FILE.csv.gz, FILE.parquet or a "
    "folder of these; FILE.txt or sequences:FILE with lines `user item item ...`."
)


@dataclass(frozen=True)
class PrepareOptions:
    """How to prepare a data set.

    Attributes:
      split: how examples are divided.
      max_length: events of a history, recorded for the trainer; the original's.
      schema: a schema file for columns beyond UserBehavior's five (docs/data.md); None reads these five.
      strict: the first malformed row of a file is an error; otherwise such rows are left out and counted.
      tfrecords: also write the examples as this many shards of TFRecords, as the original has them; 0 writes
        none. They take minutes per million examples, and training does not read them.
    """

    split: SplitOptions = field(default_factory=SplitOptions)
    max_length: int = 50
    schema: Path | None = None
    strict: bool = False
    tfrecords: int = 0

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        self.split.check()
        if self.max_length < 1 or self.tfrecords < 0:
            raise InvalidInputError(
                f"expected max_length of 1 and above and tfrecords of 0 and above, found {self}."
            )

    def to_json(self) -> dict[str, Any]:
        """As `meta.json` records them."""
        return {**asdict(self), "schema": None if self.schema is None else str(self.schema)}


def prepare_data(
    source: str | Sequence[str],
    folder: Path,
    options: PrepareOptions | None = None,
    *,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> Dataset:
    """Read `source` and write it to `folder` in the form that training reads.

    Files of events are read in bounded memory; a run that was killed is continued by the next one.

    Args:
      source: `recbole:ml-100k`: MovieLens-100K as shipped inside the installed `recbole` package;
        `synthetic:items=N,users=N,...`: see `SyntheticOptions`;
        `synthetic-sparse:items=N,users=N,...`: see `SparseOptions`;
        otherwise one or several files, folders or patterns such as `part-*.csv`:
        FILE.csv or FILE.csv.gz: as Taobao's UserBehavior: user, item, category, behaviour, timestamp, without
        a header;
        FILE.parquet with columns of these names;
        FILE.txt, or sequences:FILE of any name: lines `user item item ...`, oldest item first.
      folder: where to write; must not exist, or hold an older data set and `overwrite` be set.

    Raises:
      InvalidInputError, InvalidFileError: `source` or its content is not as described.
      MissingDependencyError: `recbole` is not installed.

    Example: `prepare_data("UserBehavior.csv", Path("DATA")).num_items`.
    """
    options = options or PrepareOptions()
    options.check()
    check_replaceable(folder, overwrite=overwrite, marker=META)
    sources = [source] if isinstance(source, str) else list(source)
    notes: dict[str, Any] = {"options": options.to_json(), "max_length": options.max_length}
    generated = _generated(sources, options.split)
    if generated is not None:
        _write(generated, folder, options, notes, overwrite=overwrite)
        return read_dataset(folder)
    from nann.training.ingest import prepared_events

    files = event_files(sources, options)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.parent / f".{folder.name}.preparing"
    with prepared_events(files, work, options.split, on_progress or ignore_progress) as prepared:
        notes |= {"rows": prepared.rows, "bad_rows": prepared.bad}
        _write(prepared.dataset, folder, options, notes, attributes=prepared.attributes, overwrite=overwrite)
    return read_dataset(folder)


def _write(
    dataset: Dataset,
    folder: Path,
    options: PrepareOptions,
    notes: dict[str, Any],
    *,
    attributes: Any = None,
    overwrite: bool,
) -> None:
    def tfrecords(staged: Path) -> None:
        from nann.training._tfrecords import write_tfrecords

        write_tfrecords(
            dataset,
            staged,
            shards=options.tfrecords,
            max_length=options.max_length,
            seed=options.split.seed,
        )

    more = tfrecords if options.tfrecords else None
    write_dataset(dataset, folder, attributes=attributes, notes=notes, write_more=more, overwrite=overwrite)


def load_source(source: str, *, split: SplitOptions | None = None) -> Dataset:
    """Read `source` (as in `prepare_data`), with malformed rows as errors, without keeping it on disk."""
    with tempfile.TemporaryDirectory() as folder:
        # Arrays that are mapped stay readable when their files are deleted.
        options = PrepareOptions(split=split or SplitOptions(), strict=True)
        return prepare_data(source, Path(folder) / "data", options)


def _generated(sources: Sequence[str], split: SplitOptions) -> Dataset | None:
    """The data set of a source that is no file."""
    source = sources[0] if len(sources) == 1 else ""
    if source.startswith("recbole:"):
        return recbole_dataset(source, split)
    if source.startswith("synthetic:"):
        options = SyntheticOptions.parse(source.removeprefix("synthetic:"))
        return synthetic_dataset(options, split=split)
    if source.startswith("synthetic-sparse:"):
        return sparse_dataset(SparseOptions.parse(source.removeprefix("synthetic-sparse:")), split=split)
    return None


def event_files(sources: Sequence[str], options: PrepareOptions) -> EventFiles:
    """The files that `sources` name, which must all be of one kind.

    Raises:
      InvalidInputError: no kind of source, or several.
      InvalidFileError: there is no such file.
    """
    from nann.training.ingest import TEXT, EventFiles

    found = [each for source in sources for each in _files(source, with_schema=options.schema is not None)]
    kinds = sorted({kind for _, kind in found})
    if len(kinds) != 1:
        raise InvalidInputError(
            f"source {', '.join(sources)}: expected files of one kind, found {', '.join(kinds) or 'none'}. "
            "Prepare one kind at a time."
        )
    return EventFiles(
        name=", ".join(sources),
        paths=tuple(path for path, _ in found),
        kind=TEXT if options.schema is not None and kinds[0] != "parquet" else kinds[0],
        schema_path=options.schema,
        strict=options.strict,
    )


def _files(source: str, *, with_schema: bool) -> list[tuple[Path, str]]:
    """The files of one source, in order, each with its kind."""
    if source.startswith(_SEQUENCES):
        return [(path, "sequences") for path in _matching(source.removeprefix(_SEQUENCES))]
    if Path(source).is_dir():
        inside = [path for path in sorted(Path(source).iterdir()) if _kind(path) and path.is_file()]
        if not inside:
            raise InvalidFileError(
                f"{source}: expected a folder with files {', '.join(_ENDINGS)}, found none."
            )
        return [(path, str(_kind(path))) for path in inside]
    if _kind(Path(source)) is None and not (with_schema and _matching(source)):
        raise InvalidInputError(f"source {source!r}: {_EXPECTED}")
    return [(path, _kind(path) or "text") for path in _matching(source)]


def _kind(path: Path) -> str | None:
    return next((kind for ending, kind in _ENDINGS.items() if path.name.endswith(ending)), None)


def _matching(pattern: str) -> list[Path]:
    if Path(pattern).is_file():
        return [Path(pattern)]
    paths = [Path(name) for name in sorted(glob.glob(pattern)) if Path(name).is_file()]
    if not paths:
        raise InvalidFileError(f"{pattern}: no such file. Check the path.")
    return paths
