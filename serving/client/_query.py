"""From the arguments of a call to the inputs of a signature."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.errors import InvalidInputError
from nann.serving.client import _inputs
from nann.serving.client._errors import SIGNATURES_BY
from nann.serving.client._results import TensorSpec

DEFAULT_SIGNATURE = "serving_default"
_WHERE = "_where"  # The end of the names of signatures that take a filter.
_EVENTS = ("item_ids", "cate_ids")  # The positional arguments: one value of each for every event.
_NO_ITEM = np.array([[-1]])  # An id that excludes nothing.

# One row of ids for all users, or one row per user; rows may differ in length.
Ids = ArrayLike | Sequence[Sequence[int]]
# One filter for all users, or one per user.
Where = str | Sequence[str]
# Embedded behaviour sequences, or the user's state by name.
State = ArrayLike | Mapping[str, ArrayLike]
Arrays = dict[str, NDArray[Any]]
# Values of a feature: ids, or numbers, strings or booleans of the model's shape.
Features = Any
# (signature, input) -> type and shape of the input; None when the model has none of this name.
SpecOf = Callable[[str, str], TensorSpec | None]


@dataclass(frozen=True, eq=False)
class Query:
    """The inputs of one request.

    inputs:  arrays by name, as the signature takes them.
    users:   B, the number of users.
    results: int32 [] or [B], how many items are returned per user.
    """

    signature: str
    inputs: dict[str, NDArray[Any]]
    users: int
    results: NDArray[np.int32]


def search_by_state(
    comm_seq: State,
    level_topn: ArrayLike,
    *,
    exclude_ids: Ids | None,
    where: Where | None = None,
    signature: str | None,
    spec_of: SpecOf,
) -> Query:
    """Return the query of a search for users that are given by their state."""
    beams = _inputs.as_level_topn(level_topn)
    state = _named(comm_seq)
    if signature is None and where is not None:
        signature = "retrieve" + _WHERE
    if signature is None:
        is_half = all(array.dtype == np.float16 for array in state.values() if array.dtype.kind == "f")
        is_plain = is_half and exclude_ids is None and beams.ndim == 1
        signature = DEFAULT_SIGNATURE if is_plain else "retrieve"
    inputs = _flat(state, signature, spec_of, is_named=isinstance(comm_seq, Mapping))
    return _search(signature, inputs, beams, exclude_ids, where, spec_of)


def named_features(
    item_ids: Ids | Mapping[str, Features] | None, cate_ids: Ids | None, features: Mapping[str, Features]
) -> dict[str, Features | None]:
    """Return the arguments of `top_k_by_ids` by name. In place of `item_ids` a mapping may give features."""
    given = item_ids if isinstance(item_ids, Mapping) else {"item_ids": item_ids}
    return {**given, "cate_ids": given.get("cate_ids", cate_ids), **features}


def search_by_ids(
    features: Mapping[str, Features | None],
    level_topn: ArrayLike,
    *,
    exclude_ids: Ids | None,
    where: Where | None = None,
    signature: str | None,
    spec_of: SpecOf,
) -> Query:
    """Return the query of a search for users that are given by their features."""
    beams = _inputs.as_level_topn(level_topn)
    if signature is None:
        signature = "retrieve_by_ids" if where is None else "retrieve_by_ids" + _WHERE
    given = {name: value for name, value in features.items() if value is not None}
    if not given:
        raise InvalidInputError("top_k_by_ids: give at least one feature, such as item_ids=[[...]]")
    inputs: dict[str, NDArray[Any]] = {}
    events: dict[str, tuple[Features, int]] = {}  # rows of ids, and the length to which they are padded
    for name, value in given.items():
        spec, length = spec_of(signature, name), f"{name}_length"
        if spec is None:
            with _naming_unknown(name, signature, spec_of):
                rows = _inputs.id_rows(value, name=name)
                inputs[name] = _inputs.pad_ids(rows, length=None, fill=0, name=name)
            continue
        values = _inputs.one_value_each(value, spec)
        if length not in given and spec_of(signature, length) is not None:
            inputs[name], inputs[length] = _inputs.open_rows(values, spec, name=name)
        elif _inputs.is_row_of_ids(spec):
            rows = _inputs.id_rows(values, name=name)
            ids = _inputs.pad_ids(rows, length=spec.row_width, fill=0, name=name)
            inputs[name] = _inputs.as_type(ids, _inputs.numpy_type(spec), name=name)
            # These two describe the same events. Other features of equal length may be independent.
            if name in _EVENTS and spec.row_width is not None:
                events[name] = rows, spec.row_width
        else:
            inputs[name] = _inputs.as_feature(values, spec, name=name)
    _inputs.check_parallel(events)
    return _search(signature, inputs, beams, exclude_ids, where, spec_of)


@contextmanager
def _naming_unknown(name: str, signature: str, spec_of: SpecOf) -> Iterator[None]:
    """Within, values are taken for ids, as the signature has no such input: if they are none, say so."""
    try:
        yield
    except InvalidInputError as error:
        if spec_of(signature, "level_topn") is None:
            needs = "; a filter needs an export with attributes" if signature.endswith(_WHERE) else ""
            raise InvalidInputError(
                f"{signature}: expected a signature of the model, found none of this name{needs} "
                f"({SIGNATURES_BY})"
            ) from error
        raise InvalidInputError(
            f"{name}: expected an input of {signature}, found none of this name ({SIGNATURES_BY})"
        ) from error


def score_of_items(comm_seq: State, item_ids: ArrayLike, *, signature: str, spec_of: SpecOf) -> Query:
    """Return the query for the scores of given items."""
    state = _flat(_named(comm_seq), signature, spec_of, is_named=isinstance(comm_seq, Mapping))
    users = _number_of_users(state)
    ids = _inputs.repeat_rows(_inputs.as_ids(item_ids, name="item_ids"), users, name="item_ids")
    return Query(signature, {**state, "item_ids": ids}, users, np.array(ids.shape[1], np.int32))


def _named(comm_seq: State) -> Arrays:
    state = comm_seq if isinstance(comm_seq, Mapping) else {"comm_seq": comm_seq}
    return {name: _inputs.as_array(array, name=name) for name, array in state.items()}


def _flat(state: Arrays, signature: str, spec_of: SpecOf, *, is_named: bool) -> Arrays:
    """Return the state as signatures take it: [B, values of one user] each.

    is_named: the caller gave a mapping; its arrays have a batch dimension in front, or are of one user alone.

    The model is asked only where the arrays do not tell: two dimensions of `comm_seq` may be one user or
    several, so may one dimension of other state, and integers may be meant as floats.
    """
    if is_named:
        return {name: _named_rows(array, signature, spec_of, name) for name, array in state.items()}
    flat: Arrays = {}
    for name, array in state.items():
        spec = spec_of(signature, name) if array.ndim == 2 else None
        width = None if spec is None else spec.row_width
        floats = _inputs.as_floats(array, _float_type(signature), name=name)
        flat[name] = _inputs.flatten_state(floats, width=width, name=name)
    return flat


def _named_rows(array: NDArray[Any], signature: str, spec_of: SpecOf, name: str) -> NDArray[Any]:
    """Return a tensor of the state in the model's type, [B, values of one user]; B is 1 for one vector."""
    spec = spec_of(signature, name) if array.dtype.kind in "iub" or array.ndim == 1 else None
    if spec is None or _inputs.numpy_type(spec).kind == "f":
        typed = _inputs.as_floats(array, _float_type(signature), name=name)
    else:
        typed = _inputs.as_type(array, _inputs.numpy_type(spec), name=name)
    if not typed.ndim:
        return typed
    row = math.prod(typed.shape[1:])
    is_one = typed.ndim == 1 and spec is not None and spec.row_width not in (None, 1)
    return typed.reshape(1, typed.size) if is_one else typed.reshape(len(typed), row)


def _float_type(signature: str) -> type[np.floating[Any]]:
    return np.float16 if signature == DEFAULT_SIGNATURE else np.float32


def _number_of_users(inputs: Arrays) -> int:
    rows = {name: len(array) if array.ndim else 0 for name, array in inputs.items()}
    users = max(rows.values(), default=0)
    if set(rows.values()) != {users} or users == 0:
        raise InvalidInputError(f"expected as many users in every input, at least one, got {rows}")
    return users


def _excluded(exclude_ids: Ids | None, users: int) -> NDArray[np.int64]:
    padded = _NO_ITEM
    if exclude_ids is not None:
        rows = _inputs.id_rows(exclude_ids, name="exclude_ids")
        padded = _inputs.pad_ids(rows, length=None, fill=-1, name="exclude_ids")
    # A server that batches requests cannot pad an input without values.
    return _inputs.repeat_rows(padded if padded.shape[1] else _NO_ITEM, users, name="exclude_ids")


def _search(
    signature: str,
    inputs: dict[str, NDArray[Any]],
    level_topn: NDArray[np.int32],
    exclude_ids: Ids | None,
    where: Where | None,
    spec_of: SpecOf,
) -> Query:
    users = _number_of_users(inputs)
    if where is not None and spec_of(signature, "filter") is None:
        raise InvalidInputError(
            f"where: the model has no signature {signature!r} that takes a filter; describe the items in "
            "RUN/attributes.parquet and export again (docs/filters.md)"
        )
    if where is not None or signature.endswith(_WHERE):
        inputs["filter"] = _inputs.as_filters(where or "", users)
    if signature == DEFAULT_SIGNATURE:
        if exclude_ids is not None or level_topn.ndim != 1:
            raise InvalidInputError(
                "signature 'serving_default' takes neither exclude_ids nor beams by user; use 'retrieve'"
            )
        inputs["level_topn"] = level_topn
    else:
        inputs["level_topn"] = _inputs.repeat_rows(level_topn, users, name="level_topn")
        inputs["exclude_ids"] = _excluded(exclude_ids, users)
    return Query(signature, inputs, users, np.asarray(inputs["level_topn"][..., -1]))
