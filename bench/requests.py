"""The requests of a load: real ones from a file, or generated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidFileError, InvalidInputError, MissingDependencyError

Arrays = dict[str, npt.NDArray[Any]]
BEAMS, EXCLUDED = "level_topn", "exclude_ids"
# The signature that scores given items. It has no beams.
SCORE = "score"
# Excludes nothing: no item has this id.
NO_ID = -1


@dataclass(frozen=True)
class Request:
    """One call: the name of a signature and its inputs."""

    signature: str
    inputs: Arrays

    @property
    def users(self) -> int:
        """Number of rows in the batch."""
        return max((len(a) for name, a in self.inputs.items() if name != BEAMS and a.ndim), default=1)

    def with_beams(self, level_topn: Sequence[int]) -> Request:
        """The same request with other beams for all its users. One that scores given items stays as it is."""
        if self.signature == SCORE:
            return self
        beams = np.asarray(level_topn, np.int32)
        if BEAMS in self.inputs and self.inputs[BEAMS].ndim == 2:
            beams = np.tile(beams, (self.users, 1))
        return Request(self.signature, {**self.inputs, BEAMS: beams})


def retrieve_request(state: Arrays, level_topn: Sequence[int]) -> Request:
    """A request for the signature `retrieve`: the same beams for all users, nothing excluded."""
    users = len(next(iter(state.values())))
    beams = np.tile(np.asarray(level_topn, np.int32), (users, 1))
    return Request("retrieve", {**state, BEAMS: beams, EXCLUDED: np.full((users, 1), NO_ID, np.int64)})


@dataclass(frozen=True)
class InputSpec:
    """Type and shape of a signature's input; a dimension of -1 has any size."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def read_npz(
    path: Path, specs: Mapping[str, InputSpec], signature: str, level_topn: Sequence[int] | None
) -> list[Request]:
    """Read requests for one signature: one array per input, one row per request.

    specs:      the inputs of `signature`; arrays are cast to their types.
    level_topn: the beams when the file has none. The file may have one row of beams for all requests, and it
                may leave out `exclude_ids`.
    """
    _check_is_file(path)
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise InvalidFileError(
            f"{path}: expected arrays saved by numpy.savez, found: {error}. Save them again."
        ) from error
    if unknown := set(arrays) - set(specs):
        raise InvalidFileError(
            f"{path}: expected inputs of {signature}, {', '.join(sorted(specs))}, found {sorted(unknown)}. "
            "Rename the arrays, or choose another --signature."
        )
    if level_topn is not None:
        arrays.setdefault(BEAMS, np.asarray(level_topn))
    rows = {name: len(array) for name, array in arrays.items() if name != BEAMS}
    if EXCLUDED in specs and rows:
        arrays.setdefault(EXCLUDED, np.full((max(rows.values()), 1), NO_ID))
    if missing := set(specs) - set(arrays):
        raise InvalidFileError(
            f"{path}: expected all inputs of {signature}, found no {sorted(missing)}. Add the arrays."
        )
    if not rows or len(set(rows.values())) != 1:
        raise InvalidFileError(
            f"{path}: expected one row per request in every array, found {rows} rows. Correct the arrays."
        )
    return [
        Request(signature, {name: _row(array, i, specs[name], name) for name, array in arrays.items()})
        for i in range(next(iter(rows.values())))
    ]


def _row(array: npt.NDArray[Any], index: int, spec: InputSpec, name: str) -> npt.NDArray[Any]:
    """One request's row of an array, as a batch of one."""
    if name == BEAMS:
        beams = array if array.ndim == 1 else array[index]
        return np.asarray(beams[np.newaxis] if len(spec.shape) == 2 else beams, spec.dtype)
    row = array[index : index + 1].astype(spec.dtype)
    # A signature takes a state [L, E] as L*E values.
    return row.reshape(1, -1) if len(spec.shape) == 2 else row


def read_prediction_logs(path: Path) -> list[Request]:
    """Read TFRecords of tensorflow.serving.PredictionLog; each record names its own signature.

    Examples are an export's `tf_serving_warmup_requests` and the files of TensorFlow Serving's request
    logging.
    """
    _check_is_file(path)
    try:
        import tensorflow as tf
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise MissingDependencyError(
            f"{path}: reading prediction logs needs tensorflow and tensorflow-serving-api. Install them with "
            "`pip install nann[tensorflow]`, or provide the requests as .npz."
        ) from error
    requests = []
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            log = prediction_log_pb2.PredictionLog.FromString(record)
            kind = log.WhichOneof("log_type")
            if kind != "predict_log":
                raise InvalidFileError(f"{path}: expected only Predict requests, found a {kind}. Remove it.")
            request = log.predict_log.request
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            requests.append(Request(request.model_spec.signature_name or "serving_default", inputs))
    except InvalidFileError:
        raise
    except Exception as error:
        # A file of another kind makes the reader of records or of messages fail in many ways.
        raise InvalidFileError(
            f"{path}: expected TFRecords of tensorflow.serving.PredictionLog, or .npz, found: {error}. "
            "Check the path."
        ) from error
    if not requests:
        raise InvalidFileError(f"{path}: expected requests, found none. Check the path.")
    return requests


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise InvalidFileError(f"{path}: expected a file of requests, found no such file. Check the path.")


def generate_requests(
    specs: Mapping[str, InputSpec],
    signature: str,
    level_topn: Sequence[int],
    *,
    count: int,
    seed: int,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    users: int = 1,
) -> list[Request]:
    """Generate requests: normal random numbers for floating-point inputs, ids from the vocabularies.

    Generated users cost as much as real ones, but say nothing about agreement or recall.
    """
    generator = np.random.default_rng(seed)
    requests = []
    for _ in range(count):
        inputs: Arrays = {}
        for name, spec in specs.items():
            shape = (users, *spec.shape[1:])
            if name == BEAMS:
                beams = np.asarray(level_topn, np.int32)
                inputs[name] = beams if len(spec.shape) == 1 else np.tile(beams, (users, 1))
            elif name == EXCLUDED:
                inputs[name] = np.full((users, 1), NO_ID, np.int64)
            elif spec.dtype.kind == "f" and -1 not in shape:
                inputs[name] = generator.standard_normal(shape, np.float32).astype(spec.dtype)
            elif name in vocabularies and -1 not in shape:
                drawn = generator.integers(0, len(vocabularies[name]), shape)
                inputs[name] = vocabularies[name][drawn].astype(spec.dtype)
            else:
                raise InvalidInputError(
                    f"signature {signature}: cannot make up input {name} ({spec.dtype} {list(spec.shape)}). "
                    "Give requests with --requests FILE, or the export's folder with --model-dir."
                )
        requests.append(Request(signature, inputs))
    return requests
