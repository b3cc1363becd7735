"""The principal components of sample users' scores: features of items for the proxy walk."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import staged_file

Doubles = npt.NDArray[np.float64]
Chunks = Callable[[], Iterator[npt.NDArray[np.float32]]]

# Variance of a standardized score that no feature explains, at least: float16 rounds, and users differ from
# the sample.
_LEAST_NOISE = 0.003
_STATE = "state/"  # begins the names of the arrays of users in a file


@dataclass(frozen=True)
class Decomposition:
    """How scores of sample users become the features of an item.

    users:      int64 [u], the sample users to whom items differ.
    mean, deviation: float64 [u], of the scores of each.
    directions: float64 [u, columns - 1 or fewer]: what the standardized scores are multiplied with.
    columns:    width of an item's row: its mean score and its features.
    noise:      variance of a standardized score that the features leave.
    """

    users: npt.NDArray[np.int64]
    mean: Doubles
    deviation: Doubles
    directions: Doubles
    columns: int
    noise: float

    def rows(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
        """Features float16 [n, columns] of items with these scores [n, all sample users]."""
        means, centred = self._standardized(scores)
        rows = np.zeros((len(scores), self.columns))
        rows[:, 0] = means
        rows[:, 1 : 1 + self.directions.shape[1]] = centred @ self.directions
        largest = float(np.finfo(np.float16).max)
        return np.clip(rows, -largest, largest).astype(np.float16)

    def _standardized(self, scores: npt.NDArray[np.float32]) -> tuple[Doubles, Doubles]:
        return _standardize(scores[:, self.users], self.mean, self.deviation)

    def save(self, path: Path, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write it with the state of the sample users, [all sample users, ...] each."""
        path.parent.mkdir(parents=True, exist_ok=True)
        names = ("users", "mean", "deviation", "directions", "columns", "noise")
        with staged_file(path) as staged, staged.open("wb") as file:
            arrays: dict[str, Any] = {name: getattr(self, name) for name in names}
            arrays.update({f"{_STATE}{name}": array for name, array in state.items()})
            np.savez(file, **arrays)


def decomposition_file(model_dir: Path) -> Path:
    """Where an export has it, for the rows of items that are inserted later."""
    return model_dir / "assets.extra" / "nann_item" / "proxy.npz"


def load_decomposition(path: Path) -> tuple[Decomposition, dict[str, npt.NDArray[Any]]]:
    """What `Decomposition.save` has written: it, and the state of the sample users."""
    next_step = "Export again."
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found = Decomposition(
            arrays["users"],
            arrays["mean"],
            arrays["deviation"],
            arrays["directions"],
            int(arrays["columns"]),
            float(arrays["noise"]),
        )
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidFileError(
            f"{path}: expected the features' directions, found a file that cannot be read ({error}). "
            f"{next_step}"
        ) from error
    return found, {
        name.removeprefix(_STATE): array for name, array in arrays.items() if name.startswith(_STATE)
    }


def decompose(chunks: Chunks, num_items: int, columns: int) -> Decomposition:
    """The components of scores [num_items, users], which each call of `chunks` yields a part at a time.

    Raises InvalidInputError when the scores of all users are constant.
    """
    users, mean, deviation = _moments(chunks)
    if users.size == 0:
        raise InvalidInputError(
            "walk: expected sample users to whom items differ, found that every one of them has the same "
            "score for all items, or none that is finite. Export with --walk adaptive, or correct the "
            "model."
        )
    gram = np.zeros((users.size, users.size))
    for chunk in chunks():
        centred = _standardize(chunk[:, users], mean, deviation)[1]
        gram += centred.T @ centred
    values, vectors = np.linalg.eigh(gram / num_items)
    kept = min(columns - 1, users.size)
    directions = vectors[:, ::-1][:, :kept] / np.sqrt(users.size)
    left = (values.sum() - values[::-1][:kept].sum()) / users.size
    return Decomposition(users, mean, deviation, directions, columns, max(float(left), _LEAST_NOISE))


def _standardize(
    scores: npt.NDArray[np.float32], mean: Doubles, deviation: Doubles
) -> tuple[Doubles, Doubles]:
    """Mean standardized score of each item, and the users' differences from it [n, u].

    A score that is not finite counts as the user's mean.
    """
    standardized = (scores.astype(np.float64) - mean) / deviation
    standardized[~np.isfinite(standardized)] = 0.0
    means = standardized.mean(axis=1)
    return means, standardized - means[:, np.newaxis]


def _moments(chunks: Chunks) -> tuple[npt.NDArray[np.int64], Doubles, Doubles]:
    """The users to whom items differ, and mean and deviation of the finite scores of each."""
    count, total, squares = (np.zeros(1) for _ in range(3))
    for chunk in chunks():
        finite = np.isfinite(chunk)
        exact = np.where(finite, chunk, 0.0).astype(np.float64)
        count = count + finite.sum(axis=0)
        total = total + exact.sum(axis=0)
        squares = squares + (exact * exact).sum(axis=0)
    mean = total / np.maximum(count, 1)
    variance = squares / np.maximum(count, 1) - mean * mean
    # What is less than a sum in double precision can tell from zero is no difference.
    users = np.flatnonzero((count > 0) & (variance > 1e-12 * mean * mean))
    return users, mean[users], np.sqrt(variance[users])
