"""`assets.extra/tf_serving_warmup_requests`: requests that servers replay before a version serves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from nann.errors import MissingDependencyError
from nann.export._samples import Arrays, Sample

WARMUP = "assets.extra/tf_serving_warmup_requests"
# All outputs, and what callers of a search ask for who do not want all.
_OUTPUT_FILTERS: tuple[tuple[str, ...], ...] = ((), ("top_k",), ("top_k", "scores"))


def write_warmup(
    model_dir: Path,
    model_name: str,
    sample: Sample,
    level_topn: Sequence[int],
    *,
    item_id: int,
    max_work: int,
    with_filters: bool = False,
) -> None:
    """Write requests to each signature: TensorFlow prepares a run at the first request for a set of outputs.

    `item_id` is an item of the export, for `score`. `with_filters`: the export has signatures that filter.

    Each is for one user, but that of `serving_default` is for as many as there are beams, if the export takes
    so much work: with `--enable_batching` TensorFlow Serving refuses inputs of different lengths, and a
    refused warm-up request keeps the version from being served. It is left out otherwise.
    """
    one = Sample(
        None if sample.features is None else {name: value[:1] for name, value in sample.features.items()},
        {name: value[:1] for name, value in sample.state.items()},
    )
    beams = np.asarray(level_topn, np.int32)
    search: Arrays = {"level_topn": beams[np.newaxis], "exclude_ids": np.full((1, 1), -1, np.int64)}
    requests: dict[str, Arrays] = {}
    if int(beams.sum()) * len(beams) <= max_work:
        states = {name: np.repeat(rows, len(beams), 0) for name, rows in one.flat_state(np.float16).items()}
        requests["serving_default"] = {**states, "level_topn": beams}
    requests["retrieve"] = {**one.flat_state(), **search}
    requests["score"] = {**one.flat_state(), "item_ids": np.full((1, 1), item_id, np.int64)}
    if one.features is not None:
        requests["retrieve_by_ids"] = {**one.features, **search}
    if with_filters:
        every_item = {"filter": np.array([b""], object)}
        by_ids = {"retrieve_by_ids"} & set(requests)
        requests |= {f"{name}_where": {**requests[name], **every_item} for name in {"retrieve", *by_ids}}
    path = model_dir / WARMUP
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests.items():
            for output_filter in _OUTPUT_FILTERS if "level_topn" in inputs else [()]:
                writer.write(_record(model_name, signature, inputs, output_filter))


def prediction_log_type() -> Any:
    """The message of warm-up requests and of servers' logs of requests, `tensorflow.serving.PredictionLog`.

    Raises MissingDependencyError without tensorflow-serving-api.
    """
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise MissingDependencyError(
            "tensorflow-serving-api is not installed. Install it with `pip install nann[tensorflow]`."
        ) from error
    return prediction_log_pb2.PredictionLog


def _record(model_name: str, signature: str, inputs: Arrays, output_filter: Sequence[str]) -> bytes:
    log = prediction_log_type()()
    request = log.predict_log.request
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    request.output_filter.extend(output_filter)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    serialized: bytes = log.SerializeToString()
    return serialized
