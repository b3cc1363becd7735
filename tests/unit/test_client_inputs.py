"""What the client makes of the caller's arrays, and what it refuses before asking a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.serving.client import _inputs, _query
from nann.serving.client._connection import Deadline
from nann.serving.client._results import TensorSpec


@pytest.mark.parametrize(
    ("shape", "width", "expected"),
    [
        ((2, 3, 4), None, (2, 12)),
        ((2, 3, 4), 12, (2, 12)),
        ((12,), 12, (1, 12)),
        ((3, 4), 12, (1, 12)),
        ((3, 12), 12, (3, 12)),
        ((12, 12), 12, (12, 12)),
        ((3, 4), None, (3, 4)),
    ],
)
def test_state_shapes(shape: tuple[int, ...], width: int | None, expected: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    flat = _inputs.flatten_state(array, width=width, name="comm_seq")
    np.testing.assert_array_equal(flat, array.reshape(expected))


@pytest.mark.parametrize(
    ("shape", "width"), [((3, 5), 12), ((2, 3, 5), 12), ((), None), ((1, 1, 1, 1), None)]
)
def test_state_shapes_refused(shape: tuple[int, ...], width: int | None) -> None:
    with pytest.raises(InvalidInputError, match=r"comm_seq: expected .*\[B, L, E\].* got shape"):
        _inputs.flatten_state(np.zeros(shape), width=width, name="comm_seq")


def test_floats_that_overflow_are_refused_and_infinities_are_kept() -> None:
    kept = _inputs.as_floats(np.array([1.0, np.inf, np.nan], np.float32), np.float16, name="x")
    assert kept.dtype == np.float16
    np.testing.assert_array_equal(kept, [1.0, np.inf, np.nan])
    with pytest.raises(InvalidInputError, match="too large for float16"):
        _inputs.as_floats([1e5], np.float16, name="x")
    with pytest.raises(InvalidInputError, match="expected numbers, got dtype"):
        _inputs.as_floats(["1"], np.float32, name="x")


@pytest.mark.parametrize(
    ("rows", "length", "expected"),
    [
        ([1, 2], 3, [[0, 1, 2]]),
        ([[1], [2, 3]], 3, [[0, 0, 1], [0, 2, 3]]),
        ([[], [2]], None, [[0], [2]]),
        ([], 2, [[0, 0]]),
        (np.array([[1, 2], [3, 4]], np.int32), None, [[1, 2], [3, 4]]),
        ([np.array([5]), np.array([6, 7])], None, [[0, 5], [6, 7]]),
    ],
)
def test_rows_of_ids_are_filled_up(rows: Any, length: int | None, expected: list[list[int]]) -> None:
    ids = _inputs.id_rows(rows, name="item_ids")
    padded = _inputs.pad_ids(ids, length=length, fill=0, name="item_ids")
    assert padded.dtype == np.int64
    assert padded.tolist() == expected


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2, 3], "takes 2 ids a user, got 3"),
        ([1.5], "expected integers"),
        ([[[1]]], "deeper nesting"),
        ([[1, [2]]], "rows of integers"),
        (np.array([2**63], np.uint64), r"beyond int64, from -2\^63"),
        ([2**70], r"beyond int64"),
    ],
)
def test_rows_of_ids_refused(rows: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        _inputs.pad_ids(_inputs.id_rows(rows, name="item_ids"), length=2, fill=0, name="item_ids")


@pytest.mark.parametrize("beams", [[], [1.5], [[[1]]], 3, [2**31], [-(2**31) - 1], np.uint64([2**64 - 1])])
def test_beams_refused(beams: Any) -> None:
    with pytest.raises(InvalidInputError, match="level_topn"):
        _inputs.as_level_topn(beams)


def test_rows_are_repeated_only_when_there_is_one() -> None:
    assert _inputs.repeat_rows(np.array([1, 2]), 3, name="x").tolist() == [[1, 2]] * 3
    with pytest.raises(InvalidInputError, match="one for each of 3 users, got 2"):
        _inputs.repeat_rows(np.zeros((2, 2)), 3, name="x")


def test_features_of_one_sequence_have_rows_of_one_length() -> None:
    def check(**rows: Any) -> None:
        lengths = {"item_ids": 50, "cate_ids": 50, "cities": 3}
        ids = {name: (_inputs.id_rows(values, name=name), lengths[name]) for name, values in rows.items()}
        _inputs.check_parallel(ids)

    check(item_ids=[1, 2], cate_ids=[[3, 4]], cities=[1])
    check(item_ids=[[1], [2, 3]], cate_ids=[[1], [2, 3]])
    with pytest.raises(
        InvalidInputError, match=r"cate_ids: expected one id for each id of item_ids.*\[2\].*\[1\]"
    ):
        check(item_ids=[1, 2], cate_ids=[3])
    with pytest.raises(InvalidInputError, match="rows of"):
        check(item_ids=[[1], [2, 3]], cate_ids=[[1, 2], [3]])


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "lengths"),
    [
        ([[1, 2], [], [3]], "int64", [[1, 2], [0, 0], [3, 0]], [2, 0, 1]),
        ([1, 2], "int32", [[1, 2]], [2]),
        ([[]], "int64", [[0]], [0]),
        ([["a"], ["b", "c"]], "string", [["a", b""], ["b", "c"]], [1, 2]),
        (np.ones((2, 3)), "float", [[1, 1, 1], [1, 1, 1]], [3, 3]),
    ],
)
def test_rows_of_any_length_are_padded_behind(values: Any, dtype: str, expected: Any, lengths: Any) -> None:
    padded, found = _inputs.open_rows(values, TensorSpec(dtype, (-1, -1)), name="clicks")
    assert padded.tolist() == expected
    assert found.tolist() == lengths
    assert found.dtype == np.int32


def test_values_of_other_features_have_the_model_s_shape() -> None:
    assert _inputs.as_feature(["a", "b"], TensorSpec("string", (-1,)), name="x").shape == (2,)
    assert _inputs.as_feature(7, TensorSpec("int32", (-1,)), name="x").tolist() == [7]
    with pytest.raises(InvalidInputError, match=r"x: expected shape \[-1, 2\], got \[1, 3\]"):
        _inputs.as_feature([[1.0, 2.0, 3.0]], TensorSpec("float", (-1, 2)), name="x")
    with pytest.raises(InvalidInputError, match="x: expected int32"):
        _inputs.as_feature(["a"], TensorSpec("int32", (-1,)), name="x")


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([2**31], "int32", "expected int32, got values from 2147483648"),
        ([-1], "uint8", "expected uint8, got values from -1"),
        ([0.5], "int64", "expected int64, got float64"),
        ([2], "bool", "expected bool, got values from 2 to 2"),
        (["no"], "bool", "expected bool, got <U2"),
        (["1.5"], "float", "expected numbers"),
        (["a", 7], "string", "expected strings, got 7"),
        ([1e300], "float", "too large for"),
        ([[1], [1, 2]], "int64", "of one shape"),
    ],
)
def test_no_value_becomes_another(values: Any, dtype: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=f"x: .*{message}"):
        _inputs.as_feature(values, TensorSpec(dtype, (-1,)), name="x")
    if dtype != "int64":
        with pytest.raises(InvalidInputError, match=f"x: .*{message}"):
            _inputs.open_rows([values], TensorSpec(dtype, (-1, -1)), name="x")


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([True, False], "int32", [1, 0]),
        ([1, 0], "bool", [True, False]),
        ([3], "float", [3.0]),
        ([], "int8", []),
    ],
)
def test_a_type_that_holds_the_values_is_taken(values: Any, dtype: str, expected: Any) -> None:
    found = _inputs.as_feature(values, TensorSpec(dtype, (-1,)), name="x")
    assert (found.tolist(), found.dtype) == (expected, np.dtype({"float": "float32"}.get(dtype, dtype)))


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([7, 9, 0], "int64", [[7], [9], [0]]),
        (7, "int64", [[7]]),
        ([[7], [9]], "int32", [[7], [9]]),
        (np.array([7, 9]), "int32", [[7], [9]]),
        ([0.5, 2.0], "float", [[0.5], [2.0]]),
        (["fr", ""], "string", [["fr"], [""]]),
        ("fr", "string", [["fr"]]),
        ([], "int64", [[0]]),
    ],
)
def test_one_value_per_user_is_enough_for_inputs_of_one_column(
    values: Any, dtype: str, expected: Any
) -> None:
    """`keras.Input([1], name="hour")` is [B, 1]."""
    spec = TensorSpec(dtype, (-1, 1))
    query = _query.search_by_ids(
        {"hour": values}, [1, 2], exclude_ids=None, signature=None, spec_of=lambda signature, name: spec
    )
    assert query.inputs["hour"].tolist() == expected
    assert query.users == len(expected)


@pytest.mark.parametrize(
    ("shape", "users"), [((6,), 1), ((1, 6), 1), ((4, 6), 4), ((4, 2, 3), 4), ((6, 6), 6)]
)
def test_a_named_vector_of_one_user_needs_no_batch_dimension(shape: tuple[int, ...], users: int) -> None:
    spec = TensorSpec("float", (-1, 6))
    query = _query.search_by_state(
        {"query_emb": np.zeros(shape)}, [1, 2], exclude_ids=None, signature=None, spec_of=lambda *_: spec
    )
    assert query.inputs["query_emb"].shape == (users, 6)
    assert query.users == users


def test_features_of_equal_length_may_be_independent() -> None:
    specs = {name: TensorSpec("int64", (-1, 4)) for name in ("clicks", "cities", "item_ids", "cate_ids")}

    def ask(**features: Any) -> Any:
        return _query.search_by_ids(
            features, [1, 2], exclude_ids=None, signature="s", spec_of=lambda _, name: specs.get(name)
        )

    query = ask(clicks=[1, 2], cities=[3])
    assert query.inputs["cities"].tolist() == [[0, 0, 0, 3]]
    assert query.inputs["exclude_ids"].tolist() == [[-1]]
    with pytest.raises(InvalidInputError, match="one id for each id of item_ids"):
        ask(item_ids=[1, 2], cate_ids=[3])


@pytest.mark.parametrize(
    ("features", "where", "message"),
    [
        ({"citty": ["oslo"]}, None, r"^citty: expected an input of retrieve_by_ids, found none of this name"),
        ({"city": ["oslo"]}, "a = 1", r"^retrieve_by_ids_where: expected a signature .* with attributes"),
        ({"city": [5]}, None, r"^city: expected strings, got 5$"),
        ({"clicks": [[0.5]]}, None, r"^clicks: expected integers, got dtype float64"),
    ],
)
def test_values_that_are_no_ids_need_an_input_of_their_name(features: Any, where: Any, message: str) -> None:
    """Such values were once refused as ids, which names neither the misspelled input nor the signature."""
    known = {
        ("retrieve_by_ids", "city"): TensorSpec("string", (-1,)),
        ("retrieve_by_ids", "clicks"): TensorSpec("int64", (-1, 4)),
        ("retrieve_by_ids", "level_topn"): TensorSpec("int32", (-1, 2)),
    }
    with pytest.raises(InvalidInputError, match=message):
        _query.search_by_ids(
            features,
            [1, 2],
            exclude_ids=None,
            where=where,
            signature=None,
            spec_of=lambda signature, name: known.get((signature, name)),
        )


@pytest.mark.parametrize("seconds", [None, np.inf, 9e9, np.float32(9e9)])
def test_time_limits_that_nobody_reaches(seconds: Any) -> None:
    assert Deadline(seconds).remaining() > 1e7
    assert Deadline(5).within(seconds).remaining() <= 5


@pytest.mark.parametrize("seconds", [np.nan, "5", [1]])
def test_time_limits_refused(seconds: Any) -> None:
    with pytest.raises(InvalidInputError, match="timeout: expected seconds"):
        Deadline(seconds)


def test_filters_are_for_all_users_or_for_each() -> None:
    assert _inputs.as_filters("a = 1", 2).tolist() == ["a = 1", "a = 1"]
    assert _inputs.as_filters(["a = 1", ""], 2).tolist() == ["a = 1", ""]
    for where in (["a = 1"] * 3, [1, 2], []):
        with pytest.raises(
            InvalidInputError, match=r"where: expected a filter .*, or one for each of 2 users"
        ):
            _inputs.as_filters(where, 2)


def test_a_filter_picks_its_signatures() -> None:
    spec = TensorSpec("string", (-1,))

    def spec_of(signature: str, name: str) -> TensorSpec | None:
        return spec if name == "filter" and signature.endswith("_where") else None

    half, beams = np.zeros((2, 8), np.float16), [1, 2]
    query = _query.search_by_state(
        half, beams, exclude_ids=None, where="a = 1", signature=None, spec_of=spec_of
    )
    assert query.signature == "retrieve_where"
    assert query.inputs["filter"].tolist() == ["a = 1", "a = 1"]
    by_ids = _query.search_by_ids(
        {"item_ids": [[1]]}, beams, exclude_ids=None, where="", signature=None, spec_of=spec_of
    )
    assert (by_ids.signature, by_ids.inputs["filter"].tolist()) == ("retrieve_by_ids_where", [""])
    # A signature that filters is asked without a filter, too.
    every = _query.search_by_state(half, beams, exclude_ids=None, signature="retrieve_where", spec_of=spec_of)
    assert every.inputs["filter"].tolist() == ["", ""]
    with pytest.raises(InvalidInputError, match=r"where: .*RUN/attributes\.parquet and export again"):
        _query.search_by_state(
            half, beams, exclude_ids=None, where="a = 1", signature="retrieve", spec_of=spec_of
        )
