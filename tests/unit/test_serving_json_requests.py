"""What a REST request's objects mean when they have a key twice, or values of several kinds."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import tensorflow as tf

from nann.serving.server._rest_examples import parse_examples
from nann.serving.server._rest_json import PredictBody, parse_predict
from nann.serving.server._status import StatusError


def _parse(body: str, dtype: tf.DType) -> PredictBody:
    signature = SimpleNamespace(inputs={"a": SimpleNamespace(dtype=dtype.as_datatype_enum)})
    return parse_predict(body.encode(), {"serving_default": signature}.get)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ('[{"a": 1, "a": 2}]', [1]),
        ('[{"a": 1, "a": 2}, {"a": 3}]', [1, 2]),
        ('[{"a\\u0000b": 1}]', [1]),
    ],
)
def test_rows_with_an_input_twice(rows: str, expected: list[int]) -> None:
    """The real server appends all values, and reads as many of them as there are rows."""
    assert _parse(f'{{"instances": {rows}}}', tf.int32).inputs["a"].tolist() == expected


def test_an_object_with_a_key_twice_is_not_base64() -> None:
    with pytest.raises(StatusError, match=r"element: 0 key: b64 .*does not have named input: b64"):
        _parse('{"instances": [{"b64": "aGk=", "b64": "aGk="}]}', tf.string)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("[1.5, 18446744073709551615]", "Unexpected element type in feature: f expecting type: float"),
        ('[1, {"b64": "!"}]', "Unexpected element type in feature: f expecting type: int64"),
        ("18446744073709551615", "Feature: f has uint64_t element. Only int64_t is supported."),
    ],
)
def test_features_refused(features: str, message: str) -> None:
    with pytest.raises(StatusError) as error:
        parse_examples(f'{{"examples": [{{"f": {features}}}]}}'.encode())
    assert error.value.message == message


def test_of_features_with_one_name_the_last_counts() -> None:
    _, found = parse_examples(b'{"examples": [{"f": "x", "f": [2, 3]}]}')
    (example,) = found.example_list.examples
    assert list(example.features.feature["f"].int64_list.value) == [2, 3]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aGk.", b"hi"),
        ("aA=.", b"h"),
        (" a\tG\vk ", b"hi"),
        ("aGk\u00a0", None),
        ("aGk\x1f", None),
        ("aGk=.", None),
    ],
)
def test_base64_as_abseil_reads_it(text: str, expected: bytes | None) -> None:
    body = json.dumps({"inputs": {"b64": text}})
    if expected is None:
        with pytest.raises(StatusError, match="Unable to base64 decode"):
            _parse(body, tf.string)
    else:
        assert _parse(body, tf.string).inputs["a"].item() == expected
