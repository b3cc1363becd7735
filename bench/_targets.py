"""What a load is put on: an export in this process, or a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np

from nann.bench._load import Answer, CallFailedError
from nann.bench._requests import Arrays, InputSpec, Request
from nann.errors import InvalidInputError, VerificationError
from nann.serving.client import NannClient, NannClientError

ITEMS_SCORED = "items_scored"
_TYPES = {"half": "float16", "float": "float32", "double": "float64", "string": "object"}


class Target(Protocol):
    """Answers requests. Thread-safe."""

    def specs(self, signature: str) -> dict[str, InputSpec]:
        """Inputs of a signature; InvalidInputError when there is none of that name."""

    def call(self, request: Request) -> Answer:
        """Answer one request; CallFailedError with its status code when it failed."""

    def outputs(self, request: Request) -> Arrays:
        """All outputs of one request; raises what the target raises."""

    def close(self) -> None:
        """Let go of it."""


class ServerTarget:
    """A model on a running server, over gRPC.

    Nothing is tried again: a load generator that repeats requests hides their errors.
    """

    def __init__(self, target: str, *, model: str, timeout: float) -> None:
        self._wire = _WireTime()
        self._channel = grpc.insecure_channel(
            target, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        intercepted = grpc.intercept_channel(self._channel, self._wire)
        self._client = NannClient(target, model=model, timeout=timeout, channel=intercepted)

    def specs(self, signature: str) -> dict[str, InputSpec]:
        inputs = _of_signature(self._client.metadata().signatures, signature).inputs
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
    """Takes the time of each call from bytes to bytes: the rest is the client's own reading and writing."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    @property
    def seconds(self) -> float:
        """Of this thread's last call."""
        return float(getattr(self._of_thread, "seconds", 0.0))

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        started = time.perf_counter()
        answer = continuation(details, request)
        self._of_thread.seconds = time.perf_counter() - started
        return answer


def limit_threads(threads: int) -> None:
    """Give TensorFlow's ops so many threads in this process.

    All sessions of a process share the pool of the first; a later session's own number is not looked at.

    Raises InvalidInputError when TensorFlow runs here already, with another number.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        # Makes the pool.
        tf.constant(0)
    except RuntimeError as error:
        found = tf.config.threading.get_intra_op_parallelism_threads()
        raise InvalidInputError(
            f"threads: expected {threads}, but TensorFlow runs in this process already, with {found} "
            "(0: as many as cores). Measure in a new process."
        ) from error


class SavedModelTarget:
    """An export loaded into a TensorFlow session of this process, as a server loads it."""

    def __init__(self, model_dir: Path) -> None:
        import tensorflow as tf

        from nann.ops import load_library

        load_library()
        tf.get_logger().setLevel("ERROR")
        self._tf = tf
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                meta = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(model_dir))
        except (tf.errors.OpError, OSError, RuntimeError) as error:
            self._session.close()
            raise VerificationError(
                f"{model_dir}: expected a model that loads, found: {error}. Export it again."
            ) from error
        self._signatures = {k: v for k, v in meta.signature_def.items() if not k.startswith("__")}
        self._callables: dict[str, tuple[Any, list[str], list[str]]] = {}
        self._lock = threading.Lock()

    def specs(self, signature: str) -> dict[str, InputSpec]:
        info = _of_signature(self._signatures, signature)
        return {
            name: InputSpec(
                np.dtype(self._tf.as_dtype(tensor.dtype).as_numpy_dtype),
                tuple(dim.size for dim in tensor.tensor_shape.dim),
            )
            for name, tensor in info.inputs.items()
        }

    def call(self, request: Request) -> Answer:
        try:
            return Answer(_items_scored(self.outputs(request)), 0.0)
        except self._tf.errors.OpError as error:
            raise CallFailedError(type(error).__name__) from error

    def outputs(self, request: Request) -> Arrays:
        run, inputs, outputs = self._callable(request.signature)
        return dict(zip(outputs, run(*(request.inputs[name] for name in inputs)), strict=True))

    def op_seconds(self, request: Request, op: str) -> float:
        """Time inside the ops of the kind `op` in one run, by TensorFlow's step statistics."""
        info = _of_signature(self._signatures, request.signature)
        v1 = self._tf.compat.v1
        metadata = v1.RunMetadata()
        self._session.run(
            [output.name for output in info.outputs.values()],
            {info.inputs[name].name: value for name, value in request.inputs.items()},
            options=v1.RunOptions(trace_level=v1.RunOptions.SOFTWARE_TRACE),
            run_metadata=metadata,
        )
        nodes = [node for device in metadata.step_stats.dev_stats for node in device.node_stats]
        # A node of the name `path/to/Nann>BeamSearch` has the label `name = Op(inputs)`.
        micros = [node.op_end_rel_micros for node in nodes if f" = {op}(" in node.timeline_label]
        return float(sum(micros)) / 1e6

    def close(self) -> None:
        self._session.close()

    def _callable(self, signature: str) -> tuple[Any, list[str], list[str]]:
        with self._lock:
            if signature not in self._callables:
                info = _of_signature(self._signatures, signature)
                inputs, outputs = sorted(info.inputs), sorted(info.outputs)
                # Leaves out what Session.run works out anew in every call.
                run = self._session.make_callable(
                    [info.outputs[name].name for name in outputs], [info.inputs[name].name for name in inputs]
                )
                self._callables[signature] = run, inputs, outputs
        return self._callables[signature]


def _of_signature(signatures: Mapping[str, Any], name: str) -> Any:
    if name not in signatures:
        raise InvalidInputError(
            f"signature: expected one of the model's, {', '.join(sorted(signatures))}, found {name!r}."
        )
    return signatures[name]


def _items_scored(outputs: Arrays) -> int | None:
    return int(outputs[ITEMS_SCORED].sum()) if ITEMS_SCORED in outputs else None
