"""The users by whom an export is tuned and measured: those of a file of requests, or made-up ones."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from google.protobuf.message import DecodeError

from nann.errors import InvalidFileError, InvalidInputError
from nann.export._model_specs import EXCLUDE_IDS, LEVEL_TOPN, length_of, open_features
from nann.export._samples import Arrays, Sample, embedded, sample_from_model, without_some
from nann.export._warmup import prediction_log_type
from nann.run import REQUESTS, RetrievalModel

# A log of requests may be of any size; so many of its first records are enough to draw users from.
_MOST_RECORDS = 10_000
_OF_WALK = (LEVEL_TOPN, EXCLUDE_IDS)


@dataclass(frozen=True)
class Users:
    """Users in a random order, so that any part of them is a sample.

    source: the file that they come from; None for made-up users.
    """

    sample: Sample
    source: Path | None

    def groups(self, sizes: Sequence[int]) -> list[Sample]:
        """Disjoint groups of these sizes; all of them smaller in proportion where there are too few users."""
        share = min(1.0, self.sample.users / sum(sizes))
        ends = np.floor(share * np.cumsum(sizes) + 1e-9).astype(int)
        starts = [0, *ends[:-1]]
        return [self.sample.part(slice(start, end)) for start, end in zip(starts, ends, strict=True)]


def requests_of_run(run_dir: Path, named: str | Path | None = None) -> Path | None:
    """The file of real users: the named one, else what a trainer left in the run; None without both."""
    if named is not None:
        return Path(named)
    path = run_dir / REQUESTS
    return path if path.is_file() else None


def gather_users(
    model: RetrievalModel,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    requests: Path | None,
    *,
    count: int,
    least: int = 2,
    with_missing: bool = False,
) -> Users:
    """Up to `count` users of the file `requests`; made-up ones without a file.

    with_missing: every second user lacks some events, as made-up ones do.

    Raises InvalidFileError for a file without `least` users that fit the model.
    """
    if requests is None:
        return Users(sample_from_model(model, vocabularies, users=count), None)
    names = _Names(model, requests)
    inputs = names.checked(_read(requests, names))
    found = len(next(iter(inputs.values())))
    if found < least:
        raise InvalidFileError(
            f"{requests}: expected at least {least} users, found {found}. Name a file with some hundred."
        )
    order = np.random.default_rng(0).permutation(found)[:count]
    inputs = {name: value[order] for name, value in inputs.items()}
    if not names.are_features(inputs):
        return Users(Sample(None, inputs), requests)
    lengths = {name: inputs.pop(length_of(name)) for name in open_features(model)}
    if with_missing:
        inputs = without_some(inputs, vocabularies)
    rows = as_embedded(model, vocabularies, inputs)
    features = {**inputs, **{length_of(name): value for name, value in lengths.items()}}
    try:
        state = embedded(model, rows, lengths)
    except InvalidInputError as error:
        raise InvalidFileError(
            f"{requests}: expected users that the model takes; an integer without a vocabulary is a row of "
            f"its table. Found: {error}"
        ) from error
    return Users(Sample(features, state), requests)


def known_users(
    model: RetrievalModel,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    requests: Path | None,
    *,
    count: int,
) -> Sample:
    """Real users where a file has their features, made-up ones otherwise; the same each time.

    A model may take no others than real ones: the time that a made-up user asks at is 0 or 1.
    """
    known = gather_users(model, vocabularies, requests, count=count, least=1, with_missing=True).sample
    if known.features is None and model.user_features:
        return sample_from_model(model, vocabularies, users=count)
    return known


def as_embedded(
    model: RetrievalModel, vocabularies: Mapping[str, npt.NDArray[np.int64]], features: Arrays
) -> Arrays:
    """Features of requests as `embed_user` takes them: rows where there is a vocabulary, without lengths."""
    return {
        name: rows_of(features[name], vocabularies[name]) if name in vocabularies else features[name]
        for name in model.user_features
    }


def rows_of(ids: npt.NDArray[Any], vocabulary: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """1 + the position of each id in `vocabulary`, 0 for unknown ones, as the signatures look them up."""
    position = np.minimum(np.searchsorted(vocabulary, ids), len(vocabulary) - 1)
    rows: npt.NDArray[Any] = np.where(vocabulary[position] == ids, position + 1, 0).astype(ids.dtype)
    return rows


class _Names:
    """The inputs of a model's signatures, and how arrays of a file become them."""

    def __init__(self, model: RetrievalModel, path: Path) -> None:
        self._path = path
        self._open = open_features(model)
        self.features = {
            name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_features.items()
        }
        self.features.update({length_of(name): ([], tf.int32) for name in self._open})
        self.state = {name: (spec.shape.as_list(), spec.dtype) for name, spec in model.user_state.items()}

    def are_features(self, inputs: Mapping[str, Any]) -> bool:
        """Whether these are the user's features, and not the state."""
        return not inputs.keys() >= self.state.keys() and bool(self.features)

    def describe_users(self, inputs: Mapping[str, Any]) -> bool:
        """Whether these are the features or the state."""
        return inputs.keys() >= (self.features if self.are_features(inputs) else self.state).keys()

    def checked(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """The features, or else the state, in the shapes and types of the model; others are left out."""
        specs = self.features if self.are_features(inputs) else self.state
        if not self.describe_users(inputs):
            raise InvalidFileError(
                f"{self._path}: expected the inputs of a signature of this model, "
                f"{' or '.join(self.choices())}, found {', '.join(sorted(inputs)) or 'none'}. Write one "
                f"array [users, ...] for each."
            )
        checked = {name: self._checked(name, inputs[name], *spec) for name, spec in specs.items()}
        if len({len(value) for value in checked.values()}) != 1:
            raise InvalidFileError(
                f"{self._path}: expected as many users in each array, found {_lengths(checked)}. Write one "
                f"row for each user."
            )
        for name in self._open if self.are_features(inputs) else ():
            length, width = checked[length_of(name)], checked[name].shape[1]
            if (length < 0).any() or (length > width).any():
                raise InvalidFileError(
                    f"{self._path}: {length_of(name)}: expected 0 to {width}, the width of {name}, found "
                    f"{int(length.min())} to {int(length.max())}. Correct the lengths."
                )
        return checked

    def _checked(
        self, name: str, value: npt.NDArray[Any], shape: list[int | None], dtype: Any
    ) -> npt.NDArray[Any]:
        """[B, ...] in the model's shape; the state may be flat, as the signatures take it."""
        sizes = [size for size in shape if size is not None]
        if value.ndim == 2 and len(sizes) == len(shape) and value.shape[1] == math.prod(sizes):
            value = value.reshape(-1, *sizes)
        fits = value.ndim == 1 + len(shape) and all(
            size in (None, found) for size, found in zip(shape, value.shape[1:], strict=True)
        )
        is_text = value.dtype.kind in "OSU"
        if not fits or is_text != (dtype == tf.string):
            wanted = ", ".join(["users", *("any" if size is None else str(size) for size in shape)])
            raise InvalidFileError(
                f"{self._path}: {name}: expected {dtype.name} [{wanted}], found {value.dtype.name} "
                f"{list(value.shape)}. Write what requests of this model hold."
            )
        if is_text:
            return np.array([_as_bytes(each) for each in value.flat], object).reshape(value.shape)
        return value.astype(dtype.as_numpy_dtype)

    def choices(self) -> list[str]:
        """The sets of names that are accepted, for messages."""
        return [", ".join(names) for names in (self.features, self.state) if names]


def _lengths(arrays: Arrays) -> str:
    return ", ".join(f"{len(value)} in {name}" for name, value in arrays.items())


def _as_bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def _read(path: Path, names: _Names) -> Arrays:
    """The arrays of an .npz file, or the inputs of a log of requests, one row for each user."""
    if not path.is_file():
        raise InvalidFileError(
            f"{path}: expected a file of requests, found none. Name an .npz file or a TFRecord of "
            f"PredictionLog."
        )
    if not zipfile.is_zipfile(path):
        return _joined(list(_read_log(path, names)), path, names)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files if name not in _OF_WALK}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidFileError(
            f"{path}: expected an .npz file of arrays without Python objects, found {error}. Write it with "
            f"numpy.savez."
        ) from error


def _read_log(path: Path, names: _Names) -> Iterator[Arrays]:
    """The inputs of each predict request of a TFRecord of PredictionLog that describes users."""
    log_type = prediction_log_type()
    try:
        for record in tf.data.TFRecordDataset(str(path)).take(_MOST_RECORDS).as_numpy_iterator():
            inputs = log_type.FromString(record).predict_log.request.inputs
            arrays = {name: tf.make_ndarray(inputs[name]) for name in inputs if name not in _OF_WALK}
            if names.describe_users(arrays):
                yield arrays
    except (tf.errors.OpError, DecodeError, ValueError, TypeError) as error:
        raise InvalidFileError(
            f"{path}: expected an .npz file or a TFRecord of PredictionLog, as a server's log of requests "
            f"is, found: {error}. Name another file."
        ) from error


def _joined(records: list[Arrays], path: Path, names: _Names) -> Arrays:
    """The users of all records, by features or by state, whichever most records have."""
    kinds: list[list[Arrays]] = [[], []]
    for record in records:
        kinds[names.are_features(record)].append(record)
    chosen = max(kinds, key=len)
    if not chosen:
        raise InvalidFileError(
            f"{path}: expected predict requests with {' or '.join(names.choices())}, found none. Name the "
            f"log of a server of this model."
        )
    specs = names.features if names.are_features(chosen[0]) else names.state
    return {name: _stacked([record[name] for record in chosen], path, name) for name in specs}


def _stacked(parts: list[npt.NDArray[Any]], path: Path, name: str) -> npt.NDArray[Any]:
    """One after the other; those of an open length padded at the end to the widest."""
    if len({part.ndim for part in parts}) != 1 or parts[0].ndim == 0:
        raise InvalidFileError(
            f"{path}: {name}: expected one row for each user in every request, found tensors of different "
            f"ranks. Name the log of one version of this model."
        )
    widest = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    padded = []
    for part in parts:
        missing = [
            (0, 0),
            *((0, int(most - size)) for most, size in zip(widest, part.shape[1:], strict=True)),
        ]
        padded.append(np.pad(part, missing, constant_values=b"" if part.dtype.kind == "O" else 0))
    return np.concatenate(padded)
