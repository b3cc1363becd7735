"""Predict: checks the inputs of a request against a signature, runs the model, names the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import resource_handle_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from nann.errors import InvalidInputError
from nann.serving.protocol import tensors
from nann.serving.server._c_session import can_read
from nann.serving.server._servable import Servable
from nann.serving.server._status import Code, StatusError, invalid_argument

DEFAULT_SIGNATURE = "serving_default"
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_METHOD_NAMES = (PREDICT, CLASSIFY, REGRESS)
_MAX_UNREAD_ELEMENTS = 2**20


def is_for_predict(signature: Any) -> bool:
    """Return whether Predict accepts a signature's `method_name` where method names are checked."""
    return signature.method_name in _METHOD_NAMES


def predict_proto(
    servable: Servable,
    request: Any,
    *,
    version: int,
    timeout_ms: int | None,
    check_method_names: bool = False,
) -> Any:
    """Return the `PredictResponse` for a `PredictRequest`.

    `version` is what the response names as the version of the model. With `check_method_names`, signatures of
    no API are refused.

    Raises:
      StatusError: the signature is unknown, the inputs do not fit it, or the run failed.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    if check_method_names:
        _check_method_name(signature)
    feeds = _feeds(signature, request.inputs, _array)
    aliases = _output_aliases(signature, request.output_filter)
    outputs = _run(servable, signature, feeds, aliases, timeout_ms)
    response = predict_pb2.PredictResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.model_spec.signature_name = name
    for alias, array in outputs.items():
        tensors.encode(array, response.outputs[alias], name=alias, one_by_one=True)
    return response


def predict_arrays(
    servable: Servable,
    signature: Any,
    inputs: Mapping[str, NDArray[Any]],
    *,
    timeout_ms: int | None,
    check_method_names: bool = False,
) -> dict[str, NDArray[Any]]:
    """Return all outputs of a signature by name, given its inputs by name.

    Raises:
      StatusError: an input is missing, or the run failed; with `check_method_names`, also that the signature
        is of no API.
    """
    if check_method_names:
        _check_method_name(signature)
    feeds = _feeds(signature, inputs, lambda _, array: array)
    return _run(servable, signature, feeds, sorted(signature.outputs), timeout_ms)


def _check_method_name(signature: Any) -> None:
    if not is_for_predict(signature):
        raise StatusError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHOD_NAMES)}}}. "
            f"Was: {signature.method_name}",
        )


def _run(
    servable: Servable,
    signature: Any,
    feeds: Mapping[str, NDArray[Any]],
    aliases: Sequence[str],
    timeout_ms: int | None,
) -> dict[str, NDArray[Any]]:
    fetched = sorted(signature.outputs) if servable.fetches_all else aliases
    fetches = [signature.outputs[alias].name for alias in fetched]
    values = dict(zip(fetched, servable.run(feeds, fetches, timeout_ms=timeout_ms), strict=True))
    return {alias: values[alias] for alias in aliases}


def _feeds(
    signature: Any, inputs: Mapping[str, Any], to_array: Callable[[str, Any], NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the arrays to feed, by the names of the tensors in the graph.

    An input that is missing in the request gets the default of the signature.
    """
    _check_input_count(signature, inputs)
    feeds = {}
    used = []
    for alias, info in sorted(signature.inputs.items()):
        if alias in inputs:
            used.append(alias)
            feeds[info.name] = to_array(alias, inputs[alias])
        elif alias in signature.defaults:
            feeds[info.name] = _array(alias, signature.defaults[alias])
        else:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default "
                f"value provided. Inputs expected to be in the request {{{_join(inputs)}}}, or default input "
                f"alias set: {_join(signature.defaults)}"
            )
    if len(used) != len(inputs):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(used)}, "
            f"request input: {_join(inputs)}"
        )
    return feeds


def _array(alias: str, proto: Any) -> Any:
    """Return the array of an input, or the message itself if its element type has no arrays."""
    try:
        return tensors.decode(proto, ignore_surplus=True, bfloat16=tf.bfloat16.as_numpy_dtype)
    except InvalidInputError as error:
        if not tensors.has_array(proto.dtype) and _may_read(proto) and can_read(proto):
            if proto.dtype == types_pb2.DT_RESOURCE:
                raise _resource_error(proto) from error
            return proto
        raise invalid_argument(f"tensor parsing error: {alias}") from error


def _may_read(proto: Any) -> bool:
    """Return whether TensorFlow may read a message: it fills any size that a short message claims."""
    count = math.prod(dim.size for dim in proto.tensor_shape.dim)
    # TensorFlow reads resources of any number, and then ends the process.
    most = 1 if proto.dtype == types_pb2.DT_RESOURCE else _MAX_UNREAD_ELEMENTS
    # The objects of variants are of any kind that TensorFlow knows, and none is worth the code that runs.
    return count <= most and not proto.variant_val


def _resource_error(proto: Any) -> StatusError:
    handle = (list(proto.resource_handle_val) or [resource_handle_pb2.ResourceHandleProto()])[0]
    return invalid_argument(
        f"Invalid resource type hash code: {handle.hash_code}(name: {handle.name} type: "
        f"{handle.maybe_type_name}). Perhaps a resource tensor was being provided as a feed? That is not "
        "currently allowed. Please file an issue at https://github.com/tensorflow/tensorflow/issues/new, "
        "ideally with a short code snippet that leads to this error message."
    )


def _check_input_count(signature: Any, inputs: Mapping[str, Any]) -> None:
    sent, expected = set(inputs), set(signature.inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(expected)} len({{{_join(sent)}}}) != "
            f"len({{{_join(expected)}}}). Sent extra: {{{_join(sent - expected)}}}. "
            f"Missing but required: {{{_join(expected - sent)}}}."
        )


def _output_aliases(signature: Any, output_filter: Sequence[str]) -> list[str]:
    aliases: list[str] = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_join(signature.outputs)}}}."
            )
        if alias in aliases:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        aliases.append(alias)
    return aliases or sorted(signature.outputs)


def _join(names: Any) -> str:
    return ",".join(sorted(names))
