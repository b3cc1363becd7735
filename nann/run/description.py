"""`run.json`, the description of a run, and the names of the folders beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nann.errors import InvalidFileError
from nann.files import read_json, write_json

FORMAT = 1
RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"
VOCABULARY = "vocabulary"
EMBEDDINGS = "embeddings"
INDEX = "index"
# What filters read of the items (docs/filters.md).
ATTRIBUTES = "attributes.parquet"
# User features of real users, by whom an export chooses its beams (docs/speed.md).
REQUESTS = "requests.npz"
# {"item id": "title"}, for people who look at answers; optional.
TITLES = "titles.json"


@dataclass(frozen=True)
class Run:
    """The content of `run.json`. An export needs `model` only; `nann train` writes the rest.

    Attributes:
      model: `module:Class` of the model; the class has `from_run(run_dir)`.
      data: the data set's folder, relative to the run folder (or absolute); None without one.
      model_config: sizes of the model.
      training: the options that it was trained with.
      history: one entry per epoch: step, loss, validation recall.
    """

    model: str
    data: str | None = None
    model_config: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Mapping[str, Any], ...] = ()


_NEXT_STEP = (
    "Name the folder of a run, or write the file: docs/your-model.md says what it holds, also for Keras "
    "networks and SavedModels."
)


def read_run(run_dir: str | Path, *, next_step: str = _NEXT_STEP) -> Run:
    """Read `run.json` of the run in `run_dir`.

    next_step: the last sentence of an error.

    Unknown keys are ignored, so that a trainer may keep notes of its own.

    Raises InvalidFileError when the file is missing, is not JSON, is of another format, or names no model.

    Example:
      >>> read_run("RUN").model
      'support.tiny_model:TinyModel'
    """
    path = Path(run_dir) / RUN_FILE
    content = read_json(path, what="the description of a run", next_step=next_step)
    if content.get("format") != FORMAT:
        raise InvalidFileError(
            f"{path}: expected format {FORMAT}, found {content.get('format')!r}. {next_step}"
        )
    model = content.get("model")
    if not isinstance(model, str) or model.count(":") != 1:
        raise InvalidFileError(f'{path}: model: expected "module:Class", found {model!r}. Correct run.json.')
    known = {name: content[name] for name in Run.__dataclass_fields__ if name in content}
    return Run(**{**known, "history": tuple(content.get("history", ()))})


def write_run(run_dir: Path, run: Run) -> None:
    """Write `run.json`; a reader sees the old file or the new one."""
    write_json(run_dir / RUN_FILE, {"format": FORMAT, **vars(run), "history": list(run.history)})
