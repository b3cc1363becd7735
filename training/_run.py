"""What the trainer keeps in a run folder besides `run.json`."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from nann.errors import InvalidFileError
from nann.files import write_array
from nann.run import RUN_FILE, VOCABULARY, read_run
from nann.training._attributes import carry_attributes
from nann.training._dataset import Dataset, read_dataset
from nann.training._features import CATE_IDS, ITEM_IDS, vocabularies


def relative_data_path(run_dir: Path, data_dir: Path) -> str:
    """The data set's path as `run.json` keeps it: relative, so that both can be moved together."""
    return os.path.relpath(data_dir.resolve(), run_dir.resolve())


def read_run_dataset(run_dir: Path) -> Dataset:
    """The data set that the run in `run_dir` was trained on."""
    data = read_run(run_dir, next_step="Name a run that `nann train` wrote.").data
    if data is None:
        raise InvalidFileError(
            f"{run_dir / RUN_FILE}: expected the key data, the folder of the run's data set, found none. "
            f"Add it; `nann data prepare` writes such a folder."
        )
    data_dir = run_dir / data
    if not data_dir.is_dir():
        raise InvalidFileError(
            f"{data_dir}: expected the run's data set, found no folder. "
            f"Move it back, or correct `data` in {run_dir / RUN_FILE}."
        )
    return read_dataset(data_dir)


def write_vocabulary(
    run_dir: Path, dataset: Dataset, features: Collection[str] = (ITEM_IDS, CATE_IDS)
) -> None:
    """Write `vocabulary/{feature}.npy`: int64 or str, sorted; the row of an id is 1 + its position.

    features: those of the model; of these the ones that are given as rows.

    The attributes of the data set's items come along.
    """
    for feature, ids in vocabularies(dataset).items():
        if feature in features:
            write_array(run_dir / VOCABULARY / f"{feature}.npy", ids)
    if dataset.folder is not None:
        carry_attributes(dataset.folder, run_dir)
