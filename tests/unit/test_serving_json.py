"""JSON in and out of the REST transport, by the rules of TensorFlow Serving."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from nann.serving.server import _json_parser, _json_tensors
from nann.serving.server._json_parser import parse_json
from nann.serving.server._json_tensors import to_array
from nann.serving.server._json_writer import dump, error_body, format_float, quote
from nann.serving.server._metrics import Metrics
from nann.serving.server._rest import RestApi, RestOptions
from nann.serving.server._rest_json import Format, format_predict, parse_predict
from nann.serving.server._status import StatusError

_SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
)
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def _own_parser(body: bytes) -> Any:
    return _json_parser._Parser(body).parse()


@given(_VALUES, st.booleans())
def test_both_parsers_read_what_python_writes(value: Any, ensure_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    assert _is_close(parse_json(body), value)
    assert _is_close(_own_parser(body), value)


def _is_close(got: Any, expected: Any) -> bool:
    """Return whether values are equal but for the last bits of numbers, as RapidJSON rounds inexactly."""
    if isinstance(expected, float):
        return isinstance(got, float) and math.isclose(got, expected, rel_tol=2e-15, abs_tol=1e-322)
    if isinstance(expected, dict):
        return list(got) == list(expected) and all(_is_close(got[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_is_close, got, expected))
    return bool(got == expected) and type(got) is type(expected)


@given(st.text(alphabet='{}[],:" -+.0123456789eEINnaftulrs\\', max_size=20))
def test_the_quick_parser_accepts_nothing_that_the_exact_one_refuses(text: str) -> None:
    body = text.encode()
    try:
        expected = _own_parser(body)
    except StatusError as refused:
        with pytest.raises(StatusError, match=f"^{re.escape(str(refused))}$"):
            parse_json(body or b"\0")
        return
    assert repr(parse_json(body)) == repr(expected) or _is_close(parse_json(body), expected)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b"  ", "The document is empty. at offset: 2"),
        (b"[1,2", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[1,]", "Invalid value. at offset: 3"),
        (b"[01]", "Missing a comma or ']' after an array element. at offset: 2"),
        (b"nan", "Invalid value. at offset: 1"),
        (b"[Infx]", "Missing a comma or ']' after an array element. at offset: 4"),
        (b"[Infinit]", "Invalid value. at offset: 8"),
        (b"-", "Invalid value. at offset: 1"),
        (b"1.", "Miss fraction part in number. at offset: 2"),
        (b"1e+", "Miss exponent in number. at offset: 3"),
        (b"[1e999]", "Number too big to be stored in double. at offset: 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a":1 "b"}', "Missing a comma or '}' after an object member. at offset: 7"),
        (b"{1:2}", "Missing a name for object member. at offset: 1"),
        (b'"abc', "Missing a closing quotation mark in string. at offset: 4"),
        (b'"\\x"', "Invalid escape character in string. at offset: 1"),
        (b'"\\u12g4"', "Incorrect hex digit after \\u escape in string. at offset: 1"),
        (b'"\\ud800"', "The surrogate pair in string is invalid. at offset: 1"),
        (b'"\xc3\xa9\n"', "Invalid escape character in string. at offset: 3"),
        (b"]", "The document is empty. at offset: 0"),
        (b"[" * 2000, "Invalid value. at offset: 2000"),
        (b"[NaM]", "Invalid value. at offset: 3"),
        (b"[0e309]", "Number too big to be stored in double. at offset: 1"),
    ],
)
def test_parse_errors_and_byte_offsets(body: bytes, message: str) -> None:
    with pytest.raises(StatusError) as error:
        parse_json(body)
    assert error.value.message == f"JSON Parse error: {message}"


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"\xef\xbb\xbf[1]", [1]),
        (b"[1] trailing", [1]),
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b"[Infinity, -Infinity, Inf, -Inf]", [math.inf, -math.inf, math.inf, -math.inf]),
        (b'"\xff\xfe"', "\udcff\udcfe"),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"\\u0000/\\/"', "\0//"),
        (b'"\\ude00"', "\udced\udcb8\udc80"),
        (b"\xef[1]", [1]),
        (b"[1.0e309, -NaN.5]", [math.inf, -0.5]),
    ],
)
def test_what_only_this_parser_accepts(body: bytes, value: Any) -> None:
    assert parse_json(body) == value


@pytest.mark.parametrize(
    ("nested", "error"),
    [
        (b"[" * 200_000, "JSON values are nested too deeply"),
        (b'{"inputs": ' + b"[" * 50_000 + b"1" + b"]" * 50_000 + b"}", "tensor parsing error: a"),
        (
            b'{"inputs": ' + b"[" * 254 + b"1" + b"]" * 254 + b"}",
            "Lists are nested 254 deep, more than the 32 sup",
        ),
        (b'{"instances": ' + b"[" * 255 + b"1" + b"]" * 255 + b"}", "tensor parsing error: a"),
        (
            b'{"inputs": ' + b'{"a": ' * 3_000 + b"1" + b"}" * 3_001,
            'JSON Value: {\n    "a": {\n        "a": {',
        ),
    ],
)
def test_deep_nesting_is_an_error_and_not_a_crash(nested: bytes, error: str) -> None:
    class Manager:
        @contextmanager
        def lease(self, name: str, **choice: Any) -> Iterator[Any]:
            yield SimpleNamespace(servable=SimpleNamespace(signatures=_signatures(a=tf.float32)), version=1)

    api = RestApi(Manager(), RestOptions(), Metrics())  # type: ignore[arg-type]
    status, body = api.answer("POST", "/v1/models/m:predict", nested)
    assert status == 400
    assert json.loads(body)["error"].startswith(error)


def test_more_dimensions_than_arrays_have_are_refused() -> None:
    with pytest.raises(StatusError, match="nested 40 deep"):
        to_array(json.loads("[" * 40 + "]" * 40), tf.float32)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.float32(1e6), "1e+06"),
        (np.float32(9999999), "9999999.0"),
        (np.float32(3.4028235e38), "3.40282347e+38"),
        (np.float32(0.1), "0.1"),
        (np.float64(np.float32(0.1)), "0.10000000149011612"),
        (np.float32(-0.0), "-0.0"),
        (np.float32(np.inf), "Infinity"),
        (-math.inf, "-Infinity"),
        (math.nan, "NaN"),
    ],
)
def test_number_formats(value: Any, text: str) -> None:
    assert format_float(value) == text


@given(st.floats(width=32, allow_nan=False))
def test_single_precision_is_kept(value: float) -> None:
    assert np.float32(format_float(np.float32(value)).replace("Infinity", "inf")) == np.float32(value)


@given(st.text())
def test_quoted_text_reads_back(text: str) -> None:
    assert json.loads(quote(text)) == text


def test_dumps_as_error_messages_quote_it() -> None:
    assert dump({"a": [1, 2.5, {"b": None}], "c": []}) == (
        '{\n    "a": [1, 2.5, {\n            "b": null\n        }],\n    "c": []\n}'
    )


_TYPES = (
    tf.float32,
    tf.float64,
    tf.int8,
    tf.int32,
    tf.int64,
    tf.uint32,
    tf.uint64,
    tf.bool,
    tf.string,
    tf.half,
)
_ELEMENTS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.integers(-200, 200),
    st.floats(),
    st.booleans(),
    st.text(max_size=2),
    st.none(),
    st.just({"b64": "aGk="}),
)
_LISTS = st.recursive(
    _ELEMENTS,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, min_size=2, max_size=2),
    max_leaves=8,
)


@settings(max_examples=500)
@given(_LISTS, st.sampled_from(_TYPES))
def test_the_quick_conversion_agrees_with_the_exact_one(value: Any, dtype: Any) -> None:
    quick = _json_tensors._regular_numbers(value, dtype)
    if quick is not None:
        shape = _json_tensors._shape(value)
        elements = _json_tensors._elements(value, shape, dtype)
        np.testing.assert_array_equal(quick, _json_tensors._cast(elements, dtype).reshape(shape))
        assert quick.dtype == dtype.as_numpy_dtype


@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
def test_numbers_take_the_quick_way(array: Any) -> None:
    for dtype in (tf.int64, tf.uint64, tf.float64):
        fits = dtype == tf.int64 or (array >= 0).all()
        fits = fits or dtype == tf.float64
        got = _json_tensors._regular_numbers(array.tolist(), dtype)
        assert (got is not None) == bool(fits)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (
            [[1], 2],
            tf.int32,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        ([1, [2]], tf.int32, "Encountered list at unexpected level: 1 expected < 1"),
        ({"b64": "a"}, tf.string, "Unable to base64 decode"),
        ({"b64": "aGk==="}, tf.string, "Unable to base64 decode"),
        (True, tf.float32, "JSON Value: true Type: True is not of expected type: float"),
    ],
)
def test_values_refused(value: Any, dtype: Any, message: str) -> None:
    with pytest.raises(StatusError) as error:
        to_array(value, dtype)
    assert error.value.message == message


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (16777217, tf.float32, 16777216.0),
        (2**53 + 1, tf.float64, 2.0**53),
        (1e39, tf.float32, math.inf),
        (-1e39, tf.float32, -math.inf),
        (2**64 - 1, tf.float64, 2.0**64),
    ],
)
def test_numbers_that_lose_precision_are_accepted(value: Any, dtype: Any, expected: float) -> None:
    for given_value in (value, [value], [[value, 1]]):
        got = to_array(json.loads(json.dumps(given_value)), dtype)
        assert got.dtype == dtype.as_numpy_dtype
        assert got.ravel()[0] == expected


@pytest.mark.parametrize("digits", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 300])
def test_integers_beyond_64_bits_are_doubles(digits: str) -> None:
    (value,) = parse_json(f"[{digits}]".encode())
    assert isinstance(value, float)
    assert _is_close(value, float(digits))


def test_large_values_are_cut_in_error_messages() -> None:
    row = {"comm_seq": [0.5] * 1920, "level_topn": [100, 200, 200, 200, 200, 200]}
    signatures = _signatures(comm_seq=tf.float32, level_topn=tf.int32, exclude_ids=tf.int64)
    with pytest.raises(StatusError) as error:
        parse_predict(json.dumps({"instances": [row]}).encode(), signatures.get)
    assert len(error_body(error.value.message)) == 397
    assert dump([0.5] * 1920) == "[" + ", ".join(["0.5"] * 52)
    assert dump("z" * 1000) == '"' + "z" * 1000 + '"'
    assert dump({"a": "é" * 200, "b": 1}) == '{\n    "a": "' + "é" * 200 + '"'


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"1.23456789", "1.23456789"),
        (
            b"[1e22, 1e21, 1E5, 1e-7, 0.0000015, -0.0, 100]",
            "[1e22, 1e21, 100000.0, 1e-7, 0.0000015, -0.0, 100]",
        ),
        (
            b"[1e20, 18446744073709551615, 1.5e300]",
            "[100000000000000000000.0, 18446744073709551615, 1.5e300]",
        ),
        (b'{"a": [1, NaN, 2]}', '{\n    "a": [1, '),
        (
            b'{"a": 1, "a": [{"b": null}]}',
            '{\n    "a": 1,\n    "a": [{\n            "b": null\n        }]\n}',
        ),
    ],
)
def test_values_are_quoted_in_rapidjsons_form(body: bytes, text: str) -> None:
    assert dump(parse_json(body)) == text


def _signatures(**dtypes: Any) -> dict[str, Any]:
    inputs = {name: SimpleNamespace(dtype=dtype.as_datatype_enum) for name, dtype in dtypes.items()}
    return {"serving_default": SimpleNamespace(inputs=inputs)}


def test_both_keys_and_no_rows_are_refused() -> None:
    signatures = _signatures(x=tf.float32)
    with pytest.raises(StatusError, match="expecting only one of 'inputs' or 'instances'"):
        parse_predict(b'{"inputs": [1], "instances": [1]}', signatures.get)
    with pytest.raises(StatusError, match="No values in 'instances' array"):
        parse_predict(b'{"instances": []}', signatures.get)


def test_rows_are_stacked() -> None:
    body = b'{"instances": [{"x": [1, 2], "s": "a"}, {"s": {"b64": "/w=="}, "x": [3, 4]}]}'
    parsed = parse_predict(body, _signatures(x=tf.float32, s=tf.string).get)
    assert parsed.format is Format.ROW
    assert parsed.inputs["x"].tolist() == [[1, 2], [3, 4]]
    assert parsed.inputs["s"].tolist() == [b"a", b"\xff"]


def test_rows_out() -> None:
    outputs = {"ids": np.array([[1, 2], [3, 4]]), "scores": np.array([[0.5, 1], [-np.inf, 2]], np.float32)}
    assert format_predict(outputs, Format.ROW).decode() == (
        '{\n    "predictions": [\n        {\n            "ids": [1, 2],\n            "scores": [0.5, 1.0]\n'
        '        },\n        {\n            "ids": [3, 4],\n            "scores": [-Infinity, 2.0]\n'
        "        }\n    ]\n}"
    )


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"a": np.float32(1)}, "Tensor name: a has no shape information "),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"a": np.zeros(2, np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"a": np.zeros((1, 2), np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_that_rows_cannot_hold(outputs: dict[str, Any], message: str) -> None:
    with pytest.raises(StatusError) as error:
        format_predict({name: np.asarray(array) for name, array in outputs.items()}, Format.ROW)
    assert error.value.message == message
