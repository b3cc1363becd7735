"""gRPC servers in this process that answer as a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from nann.serving.protocol import messages, tensors

# (method, request, context) -> answer
Handler = Callable[[str, bytes, grpc.ServicerContext], bytes]


class _Anything(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def service(self, details: Any) -> Any:
        method = details.method.rsplit("/", 1)[1]
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: self._handler(method, request, context)
        )


@contextmanager
def scripted_server(handler: Handler) -> Iterator[str]:
    """Serve on a free port; yields the address."""
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers([_Anything(handler)])
    # One address: of the two of "localhost", another process may have one at the same port.
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def predict_answer(*, version: int | None = None, **outputs: Any) -> bytes:
    """A serialized PredictResponse with these outputs."""
    response = messages.PredictResponse()
    if version is not None:
        response.model_spec.version.value = version
    for name, array in outputs.items():
        tensors.encode(np.asarray(array), response.outputs[name])
    return bytes(response.SerializeToString())


# The inputs that the signatures of an export have beside those of the model.
_ROWS_OF_IDS = (messages.DataType.INT64, (-1, -1))
_SEARCH = {"level_topn": (messages.DataType.INT32, (-1, -1)), "exclude_ids": _ROWS_OF_IDS}


def metadata_answer(signatures: Mapping[str, Mapping[str, tuple[int, Sequence[int]]]]) -> bytes:
    """A serialized GetModelMetadataResponse: signature -> input that follows the model -> (type, shape)."""
    found = messages.SignatureDefMap()
    for signature, inputs in signatures.items():
        others = _SEARCH if signature.startswith("retrieve") else {"item_ids": _ROWS_OF_IDS}
        for name, (dtype, shape) in {**others, **inputs}.items():
            info = found.signature_def[signature].inputs[name]
            info.dtype = dtype
            for size in shape:
                info.tensor_shape.dim.add(size=size)
    response = messages.GetModelMetadataResponse()
    response.metadata["signature_def"].value = found.SerializeToString()
    return bytes(response.SerializeToString())
