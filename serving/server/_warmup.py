"""Warm-up: runs the requests that a SavedModel carries, so that no caller waits for the first run."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from nann.serving.server._inference import Run, classify, multi_inference, regress
from nann.serving.server._predict import predict_proto
from nann.serving.server._servable import Servable
from nann.serving.server._status import Code, StatusError, invalid_argument

WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"
# TensorFlow Serving's limit (WarmupConsts::kMaxNumRecords).
_MAX_RECORDS = 1000


def warm_up(servable: Servable, path: Path, *, version: int, iterations: int = 1) -> None:
    """Run the warm-up requests of the SavedModel in `path`, if it has any, each `iterations` times.

    Raises:
      StatusError: the file is damaged, has more than 1,000 requests, or one of them fails.
      OSError: the file cannot be opened.
    """
    file = path / WARMUP_FILE
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        # Unlike a tf.data pipeline, this iterator starts no threads and its errors name no graph nodes.
        for count, record in enumerate(tf.compat.v1.io.tf_record_iterator(str(file)), start=1):
            if count > _MAX_RECORDS:
                raise invalid_argument(
                    f"Number of warmup records exceeds the maximum ({_MAX_RECORDS}) at {file}"
                )
            for _ in range(iterations):
                _replay(servable, record, version)
    except DecodeError as error:
        raise invalid_argument(f"Failed to parse warmup record {count} from {file}") from error
    except tf.errors.OpError as error:
        raise StatusError(
            Code(error.error_code), f"Failed to read warmup records from {file}: {error.message}"
        ) from error


def _replay(servable: Servable, record: bytes, version: int) -> None:
    log = prediction_log_pb2.PredictionLog.FromString(record)
    kind = log.WhichOneof("log_type")
    run = Run(version, timeout_ms=None)
    if kind == "predict_log":
        predict_proto(servable, log.predict_log.request, version=version, timeout_ms=None)
    elif kind == "classify_log":
        classify(servable, log.classify_log.request, run)
    elif kind == "regress_log":
        regress(servable, log.regress_log.request, run)
    elif kind == "multi_inference_log":
        multi_inference(servable, log.multi_inference_log.request, run)
    else:
        raise StatusError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind or 0}")
