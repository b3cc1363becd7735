"""Classify, Regress and MultiInference: runs a signature on `tf.Example` protocol buffers.

Checks, their order and their texts are those of TensorFlow Serving.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, regression_pb2

from nann.serving.server._predict import CLASSIFY, DEFAULT_SIGNATURE, REGRESS
from nann.serving.server._servable import Servable
from nann.serving.server._status import Code, StatusError, invalid_argument

_INPUTS, _CLASSES, _SCORES, _OUTPUTS = "inputs", "classes", "scores", "outputs"


@dataclass(frozen=True)
class Run:
    """How a request is run.

    version: what the response names as the version of the model.
    timeout_ms: time limit, None for no limit.
    check_method_names: refuse a signature whose `method_name` is that of another API.
    """

    version: int
    timeout_ms: int | None
    check_method_names: bool = False


def classify(servable: Servable, request: Any, run: Run) -> Any:
    """Return the `ClassificationResponse` for a `ClassificationRequest`.

    Raises:
      StatusError: the signature is not for classification, there are no examples, or the run failed.
    """
    response = classification_pb2.ClassificationResponse()
    return _infer(servable, request, run, _classify_tensors, _write_classes, response)


def regress(servable: Servable, request: Any, run: Run) -> Any:
    """Return the `RegressionResponse` for a `RegressionRequest`.

    Raises:
      StatusError: the signature is not for regression, there are no examples, or the run failed.
    """
    response = regression_pb2.RegressionResponse()
    return _infer(servable, request, run, _regress_tensors, _write_regressions, response)


def _infer(
    servable: Servable,
    request: Any,
    run: Run,
    tensors: Callable[[Any, Run], tuple[str, list[str]]],
    write: Callable[[Any, int, Mapping[str, NDArray[Any]], Any], None],
    response: Any,
) -> Any:
    """Fill the response. `tensors` names a signature's input and outputs, `write` writes these outputs."""
    signature = _signature(servable, request.model_spec.signature_name)
    input_name, output_names = tensors(signature, run)
    count, outputs = _run(servable, request.input, {input_name}, output_names, run)
    write(signature, count, outputs, response.result)
    _name_model(response.model_spec, request.model_spec, run)
    return response


def multi_inference(servable: Servable, request: Any, run: Run) -> Any:
    """Return the `MultiInferenceResponse` for a `MultiInferenceRequest`: all tasks in one run.

    Raises:
      StatusError: a task does not fit its signature or the other tasks, or the run failed.
    """
    signatures: dict[str, Any] = {}
    input_names: set[str] = set()
    output_names: set[str] = set()
    for task in request.tasks:
        name = _check_task(task, request.tasks[0], signatures)
        if name not in servable.signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        signatures[name] = servable.signatures[name]
        input_name, names = _task_tensors(task, signatures[name], run)
        input_names.add(input_name)
        output_names.update(names)
    count, outputs = _run(servable, request.input, input_names, output_names, run)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        result = response.results.add()
        signature = signatures[task.model_spec.signature_name or DEFAULT_SIGNATURE]
        if task.method_name == CLASSIFY:
            _write_classes(signature, count, outputs, result.classification_result)
        else:
            _write_regressions(signature, count, outputs, result.regression_result)
        _name_model(result.model_spec, task.model_spec, run)
    return response


def _check_task(task: Any, first: Any, earlier: Mapping[str, Any]) -> str:
    """Return the name of the signature of a task."""
    if not task.model_spec.name:
        raise invalid_argument("Found ModelSpec with an empty model name.")
    if task.model_spec.name != first.model_spec.name:
        raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    name: str = task.model_spec.signature_name or DEFAULT_SIGNATURE
    if name in earlier:
        raise invalid_argument(f"Duplicate evaluation of signature: {name}")
    return name


def _task_tensors(task: Any, signature: Any, run: Run) -> tuple[str, list[str]]:
    if task.method_name == CLASSIFY:
        return _classify_tensors(signature, run)
    if task.method_name == REGRESS:
        return _regress_tensors(signature, run)
    raise StatusError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")


def _signature(servable: Servable, name: str) -> Any:
    signature = servable.signatures.get(name or DEFAULT_SIGNATURE)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name or DEFAULT_SIGNATURE}")
    return signature


def _name_model(spec: Any, asked: Any, run: Run) -> None:
    spec.name = asked.name
    spec.version.value = run.version
    spec.signature_name = asked.signature_name or DEFAULT_SIGNATURE


def _classify_tensors(signature: Any, run: Run) -> tuple[str, list[str]]:
    """Return the names of the input tensor and of the output tensors."""
    _check_method_name(signature, "classification", CLASSIFY, run)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No classification inputs found in SignatureDef: {signature}")
    names = [signature.outputs[key].name for key in (_CLASSES, _SCORES) if key in signature.outputs]
    if not names:
        raise invalid_argument(
            f'Expected classification signature outputs to contain at least one of "{_CLASSES}" or '
            f'"{_SCORES}". Signature was: {signature}'
        )
    return signature.inputs[_INPUTS].name, names


def _regress_tensors(signature: Any, run: Run) -> tuple[str, list[str]]:
    """Return the names of the input tensor and of the output tensor."""
    _check_method_name(signature, "regression", REGRESS, run)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if _INPUTS not in signature.inputs:
        raise invalid_argument(f"No regression inputs found in SignatureDef: {signature}")
    if _OUTPUTS not in signature.outputs:
        raise invalid_argument(f"No regression outputs found in SignatureDef: {signature}")
    return signature.inputs[_INPUTS].name, [signature.outputs[_OUTPUTS].name]


def _check_method_name(signature: Any, kind: str, expected: str, run: Run) -> None:
    if run.check_method_names and signature.method_name != expected:
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {expected}. Was: {signature.method_name}"
        )


def _run(
    servable: Servable, examples: Any, input_names: set[str], output_names: Any, run: Run
) -> tuple[int, dict[str, NDArray[Any]]]:
    """Return the number of examples, and the outputs by the names of their tensors."""
    serialized = _serialized_examples(examples)
    fetches = sorted(set(output_names))
    outputs = servable.run(dict.fromkeys(input_names, serialized), fetches, timeout_ms=run.timeout_ms)
    return len(serialized), dict(zip(fetches, outputs, strict=True))


def _serialized_examples(examples: Any) -> NDArray[Any]:
    """Return the serialized examples of an `Input`, object [n] of bytes."""
    if examples.WhichOneof("kind") == "example_list_with_context":
        listed = examples.example_list_with_context
        # Concatenated protocol buffers are merged when they are parsed: the example's own features win.
        context = listed.context.SerializeToString()
        found = [context + example.SerializeToString() for example in listed.examples]
    else:
        found = [example.SerializeToString() for example in examples.example_list.examples]
    if not found:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(found), object)
    array[:] = found
    return array


def _write_classes(signature: Any, count: int, outputs: Mapping[str, NDArray[Any]], result: Any) -> None:
    classes = _matrix(signature, _CLASSES, tf.string, count, outputs)
    scores = _matrix(signature, _SCORES, tf.float32, count, outputs)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. "
            f"{scores.shape[1]}"
        )
    width = max(array.shape[1] for array in (classes, scores) if array is not None)
    for row in range(count):
        classifications = result.classifications.add()
        labels = [b""] * width if classes is None else classes[row]
        values = [0.0] * width if scores is None else scores[row]
        for label, value in zip(labels, values, strict=True):
            # A label is text in the protocol buffer, and a tensor may hold any bytes.
            classifications.classes.add(label=label.decode("utf-8", "replace"), score=value)


def _matrix(
    signature: Any, key: str, dtype: tf.DType, count: int, outputs: Mapping[str, NDArray[Any]]
) -> NDArray[Any] | None:
    """Return the output [count, classes] that the signature calls `key`, None if there is none."""
    if key not in signature.outputs:
        return None
    array = outputs[signature.outputs[key].name]
    if array.ndim != 2:
        raise invalid_argument(
            f"Expected Tensor shape: [batch_size num_classes] but got {_shape_text(array)}"
        )
    if _dtype(array) != dtype:
        raise invalid_argument(
            f"Expected {key} Tensor of {_enum_name(dtype)}. Got: {_enum_name(_dtype(array))}"
        )
    if len(array) != count:
        raise invalid_argument(f"Expected {key} output batch size of {count}. Got: {len(array)}")
    return array


def _write_regressions(signature: Any, count: int, outputs: Mapping[str, NDArray[Any]], result: Any) -> None:
    array = outputs[signature.outputs[_OUTPUTS].name]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_shape_text(array)}"
        )
    if len(array) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if _dtype(array) != tf.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_enum_name(_dtype(array))}")
    for value in array.ravel():
        result.regressions.add(value=value)


def _dtype(array: NDArray[Any]) -> tf.DType:
    return tf.string if array.dtype == object else tf.as_dtype(array.dtype)


def _enum_name(dtype: tf.DType) -> str:
    return str(types_pb2.DataType.Name(dtype.as_datatype_enum))


def _shape_text(array: NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"
