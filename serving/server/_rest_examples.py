"""The bodies of REST classify and regress requests and answers.

A request lists examples under "examples", each an object of features; features under "context" are shared by
all examples. Each feature is a value or a list of values of one kind: integers, decimals or strings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorflow_serving.apis import input_pb2

from nann.serving.server._json_parser import members, parse_json
from nann.serving.server._json_tensors import INT64, decode_base64, is_base64, type_name
from nann.serving.server._json_writer import PrettyWriter, dump, format_float, quote
from nann.serving.server._rest_json import member_name, signature_name
from nann.serving.server._status import invalid_argument

_CONTEXT, _EXAMPLES = "context", "examples"
_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def parse_examples(body: bytes) -> tuple[str, Any]:
    """Return the signature's name, empty if the body names none, and the examples as an `Input`.

    Raises:
      StatusError: the body is not JSON, or does not list examples.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {dump(document)} Is not object")
    name = signature_name(document)
    found = input_pb2.Input()
    examples = found.example_list.examples
    if _CONTEXT in document:
        with_context = found.example_list_with_context
        _fill_example(document[_CONTEXT], with_context.context)
        examples = with_context.examples
    for example in _listed(document):
        _fill_example(example, examples.add())
    return name, found


def _listed(document: dict[str, Any]) -> list[Any]:
    if _EXAMPLES not in document:
        raise invalid_argument(
            f"JSON Value: {dump(document)} When method is classify, key '{_EXAMPLES}' is expected and was "
            "not found"
        )
    examples = document[_EXAMPLES]
    if not isinstance(examples, list):
        raise invalid_argument(
            f"JSON Value: {dump(document)} Expecting '{_EXAMPLES}' value to be an list/array"
        )
    if not examples:
        raise invalid_argument(f"JSON Value: {dump(document)} '{_EXAMPLES}' value is an empty array")
    return examples


def _fill_example(value: Any, example: Any) -> None:
    if not isinstance(value, dict):
        raise invalid_argument(f"Example must be JSON object but got JSON {type_name(value)}")
    for key, content in members(value):
        name = member_name(key)
        feature = example.features.feature[_text(name)]
        # Of equal names the last one counts.
        feature.Clear()
        feature.SetInParent()
        for item in content if isinstance(content, list) else [content]:
            _add_value(item, name, feature)


def _add_value(value: Any, name: str, feature: Any) -> None:
    kind = _kind(value, name)
    given = feature.WhichOneof("kind")
    if given not in (None, kind):
        raise invalid_argument(f"Unexpected element type in feature: {name} expecting type: {_KINDS[given]}")
    getattr(feature, kind).value.append(_converted(value, name))


def _kind(value: Any, name: str) -> str:
    """Return the kind of list that a value goes into."""
    if isinstance(value, str) or is_base64(value):
        return "bytes_list"
    if isinstance(value, float):
        return "float_list"
    if isinstance(value, int):
        return "int64_list"
    raise invalid_argument(f"Feature: {name} has element with unexpected JSON type: {type_name(value)}")


def _converted(value: Any, name: str) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return decode_base64(value)
    if isinstance(value, float):
        with np.errstate(over="ignore"):
            return np.float32(value)
    if value > INT64.max:
        raise invalid_argument(f"Feature: {name} has uint64_t element. Only int64_t is supported.")
    return int(value)


def _text(name: str) -> str:
    """Return a name without the surrogates of bytes that are not UTF-8, which protobuf refuses."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def format_classes(result: Any) -> bytes:
    """Return the body of the answer with a `ClassificationResult`: for each example [label, score] pairs."""
    writer = _start_results()
    for classifications in result.classifications:
        writer.single_line_arrays = True
        writer.start_array()
        for item in classifications.classes:
            writer.start_array()
            writer.value(quote(item.label))
            writer.value(format_float(np.float32(item.score)))
            writer.end()
        writer.end()
        writer.single_line_arrays = False
    return _end_results(writer)


def format_regressions(result: Any) -> bytes:
    """Return the body of the answer with a `RegressionResult`: one value for each example."""
    writer = _start_results(single_line_arrays=True)
    writer.values(format_float(np.float32(item.value)) for item in result.regressions)
    return _end_results(writer)


def _start_results(*, single_line_arrays: bool = False) -> PrettyWriter:
    writer = PrettyWriter()
    writer.start_object()
    writer.key("results")
    writer.single_line_arrays = single_line_arrays
    writer.start_array()
    return writer


def _end_results(writer: PrettyWriter) -> bytes:
    writer.end()
    writer.end()
    return writer.text().encode("utf-8", "surrogateescape")
