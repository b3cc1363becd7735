"""What a load is put on: an export in this process, or a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc
import numpy as np

from nann.bench.requests import Arrays, InputSpec, Request
from nann.errors import InvalidInputError
from nann.serving.client import NannClient, NannClientError

ITEMS_SCORED = "items_scored"
# TensorFlow's names of the types that NumPy calls otherwise.
_TYPES = {"half": "float16", "float": "float32", "double": "float64", "string": "object"}


class Answer(NamedTuple):
    """What a load generator keeps of an answer.

    items_scored:   sum over the request's users; None when the signature does not return it.
    client_seconds: the time that the client took to write the request and to read the answer.
    """

    items_scored: int | None
    client_seconds: float


class CallFailedError(Exception):
    """A request was answered with an error. The text is its status code."""


class Target(Protocol):
    """Answers requests. Thread-safe."""

    def specs(self, signature: str) -> dict[str, InputSpec]:
        """Inputs of a signature; InvalidInputError when the model has no such signature."""

    def call(self, request: Request) -> Answer:
        """Answer one request; CallFailedError with the status code when that fails."""

    def outputs(self, request: Request) -> Arrays:
        """All outputs of one request; raises what the target raises."""

    def close(self) -> None:
        """Release the target."""


class ServerTarget:
    """A model on a running server, over gRPC.

    Requests are not repeated: a load generator that repeats them hides errors.
    """

    def __init__(self, target: str, *, model: str, timeout: float) -> None:
        self._wire = _WireTime()
        self._channel = grpc.insecure_channel(
            target, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        intercepted = grpc.intercept_channel(self._channel, self._wire)
        self._client = NannClient(target, model=model, timeout=timeout, channel=intercepted)

    def specs(self, signature: str) -> dict[str, InputSpec]:
        inputs = _signature_named(signature, self._client.metadata().signatures).inputs
        return {
            name: InputSpec(np.dtype(_TYPES.get(spec.dtype, spec.dtype)), spec.shape or ())
            for name, spec in inputs.items()
        }

    def call(self, request: Request) -> Answer:
        started = time.perf_counter()
        try:
            outputs = self.outputs(request)
        except NannClientError as error:
            raise CallFailedError(error.code or type(error).__name__) from error
        return Answer(_items_scored(outputs), time.perf_counter() - started - self._wire.seconds)

    def outputs(self, request: Request) -> Arrays:
        return self._client.predict(request.inputs, signature=request.signature)

    def close(self) -> None:
        self._channel.close()


class _WireTime(grpc.UnaryUnaryClientInterceptor):
    """Measures each call from bytes to bytes; the rest of a request's time is the client's own."""

    def __init__(self) -> None:
        self._thread = threading.local()

    @property
    def seconds(self) -> float:
        """Duration of this thread's last call."""
        return float(getattr(self._thread, "seconds", 0.0))

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        started = time.perf_counter()
        answer = continuation(details, request)
        self._thread.seconds = time.perf_counter() - started
        return answer


def limit_threads(threads: int) -> None:
    """Limit TensorFlow's ops to this number of threads in this process.

    All sessions of a process share the thread pool of the first one; later settings have no effect.

    Raises InvalidInputError when TensorFlow already runs in this process with another number.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        # The first op creates the pool.
        tf.constant(0)
    except RuntimeError as error:
        found = tf.config.threading.get_intra_op_parallelism_threads()
        raise InvalidInputError(
            f"threads: expected {threads}, but TensorFlow already runs in this process with {found} "
            "(0: one per core). Measure in a new process."
        ) from error


class SavedModelTarget:
    """An export in a TensorFlow session of this process, as a server loads it."""

    def __init__(self, model_dir: Path) -> None:
        import tensorflow as tf

        from nann.export.loaded import LoadedModel

        self._tf = tf
        self._model = LoadedModel(model_dir)

    def specs(self, signature: str) -> dict[str, InputSpec]:
        return {
            name: InputSpec(
                np.dtype(self._tf.as_dtype(tensor.dtype).as_numpy_dtype),
                tuple(dim.size for dim in tensor.tensor_shape.dim),
            )
            for name, tensor in _signature_named(signature, self._model.signatures).inputs.items()
        }

    def call(self, request: Request) -> Answer:
        try:
            return Answer(_items_scored(self.outputs(request)), 0.0)
        except self._tf.errors.OpError as error:
            raise CallFailedError(type(error).__name__) from error

    def outputs(self, request: Request) -> Arrays:
        _signature_named(request.signature, self._model.signatures)
        return self._model.run(request.signature, request.inputs)

    def op_seconds(self, request: Request, op: str) -> float:
        """Time inside the ops of type `op` in one run, by TensorFlow's step statistics."""
        info = _signature_named(request.signature, self._model.signatures)
        v1 = self._tf.compat.v1
        metadata = v1.RunMetadata()
        self._model.session.run(
            [output.name for output in info.outputs.values()],
            {info.inputs[name].name: value for name, value in request.inputs.items()},
            options=v1.RunOptions(trace_level=v1.RunOptions.SOFTWARE_TRACE),
            run_metadata=metadata,
        )
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        # The node `path/to/Nann>BeamSearch` has the label `name = Op(inputs)`.
        micros = [node.op_end_rel_micros for node in nodes if f" = {op}(" in node.timeline_label]
        return float(sum(micros)) / 1e6

    def close(self) -> None:
        self._model.close()


def _signature_named(name: str, signatures: Mapping[str, Any]) -> Any:
    if name not in signatures:
        raise InvalidInputError(
            f"signature: expected one of the model's, {', '.join(sorted(signatures))}, found {name!r}."
        )
    return signatures[name]


def _items_scored(outputs: Arrays) -> int | None:
    return int(outputs[ITEMS_SCORED].sum()) if ITEMS_SCORED in outputs else None
