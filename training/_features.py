"""What a model is given of users and items: the data set's columns that it names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.run import item_features_of
from nann.training._columns import Column
from nann.training._dataset import Dataset, IntArray, RowArray
from nann.training._splits import Examples

Array = npt.NDArray[Any]
ITEM_IDS, CATE_IDS = "item_ids", "cate_ids"
# An item column with more distinct values than this share of the items tells items apart, as ids do already.
_MOST_DISTINCT = 0.5
# The types that a column's values may be given as, by the column's type, and what an error says of them.
_GIVEN_AS: Mapping[str, tuple[str, str]] = {
    "id": ("iu", "an integer"),
    "string": ("iuO", "an integer or string"),
    "int64": ("iuf", "an integer or float"),
    "float32": ("f", "a float"),
    "bool": ("biuf", "bool, an integer or float"),
}


def table_rows(dataset: Dataset) -> dict[str, int]:
    """Rows of the embedding table of each feature of items: its vocabulary, and row 0, "missing".

    Ids, categories, and the columns of items that hold one `id` or `string` each, but for those that tell
    items apart, as titles do.
    """
    further = {
        name: len(column.vocabulary) + 1
        for name, column in dataset.columns.items()
        if column.of == "item"
        and column.row_splits is None
        and column.vocabulary is not None
        and len(column.vocabulary) <= _MOST_DISTINCT * dataset.num_items
    }
    return {**further, ITEM_IDS: dataset.num_items + 1, CATE_IDS: len(dataset.cate_ids) + 1}


def vocabularies(dataset: Dataset) -> dict[str, Array]:
    """Of each feature that is given as rows, int64 or str: row r > 0 stands for element r - 1."""
    further = {name: each.vocabulary for name, each in dataset.columns.items() if each.vocabulary is not None}
    return {**further, ITEM_IDS: dataset.item_ids, CATE_IDS: dataset.cate_ids}


def describe_columns(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Every column of the schema, for `create(..., columns=)`: of, type, list, and the rows of a table."""
    return {
        name: {
            **{key: value for key, value in column.describe().items() if key != "name"},
            "rows": None if column.vocabulary is None else len(column.vocabulary) + 1,
        }
        for name, column in dataset.columns.items()
    }


@dataclass(frozen=True)
class _Feature:
    """A feature of one model: where its values come from, and how the model wants them."""

    column: Column
    dtype: tf.DType
    length: int | None

    def at(self, rows: npt.NDArray[Any]) -> Array:
        """The values of users, item rows or events of any shape, 0 where missing; row -1 is no event."""
        flat = np.maximum(rows, 0).reshape(-1)
        if self.length is None:
            values = self.column.at(flat).reshape(rows.shape)
        else:
            values = self.column.padded(flat, self.length).reshape(*rows.shape, self.length)
        if self.column.of == "event":
            there = (rows >= 0).reshape(*rows.shape, *([] if self.length is None else [1]))
            values = np.where(there, values, np.zeros((), values.dtype))
        if self.dtype == tf.string:
            return self.sent(values)
        if values.dtype.kind == "f":
            # A model would make one missing number all of its output.
            values = np.where(np.isnan(values), 0, values)
        return values.astype(self.dtype.as_numpy_dtype)

    def sent(self, values: Array) -> Array:
        """Values as a request has them: ids in place of rows."""
        return values if self._known is None else self._known[values]

    @cached_property
    def _known(self) -> Array | None:
        """What each row stands for; None where values are not rows."""
        if self.column.vocabulary is None:
            return None
        is_text = self.column.type == "string"
        known = np.append("" if is_text else 0, self.column.vocabulary)
        return known.astype(object) if is_text else known


class UserFeatures:
    """The user features of a model, of users at some point of their history.

    A column of items is given for each event of the history, one of events likewise, one of users once.

    specs: the model's `user_features`: name -> TensorSpec of one user. Lists are cut and padded to its last
           dimension.

    Raises InvalidInputError where a feature is not of the data set, or of another shape or type.
    """

    def __init__(self, dataset: Dataset, specs: Mapping[str, tf.TensorSpec]) -> None:
        self._dataset = dataset
        if not _has_history(specs):
            found = ", ".join(f"{name} {spec.shape.as_list()}" for name, spec in specs.items()) or "none"
            raise InvalidInputError(
                f"user_features: expected {ITEM_IDS} of a fixed shape [L], the items of the user's events, "
                f"found {found}. Declare it."
            )
        self.length = int(specs[ITEM_IDS].shape[0])
        self._features = {
            name: _feature(dataset, name, spec, self.length, "user_features") for name, spec in specs.items()
        }

    def of(self, users: IntArray, cuts: IntArray, history: RowArray) -> dict[str, Array]:
        """Of B users before event number `cuts`, with the item rows `history` int32 [B, L]: [B, ...]."""
        rows: dict[str, npt.NDArray[Any]] = {"user": users, "item": history}
        if any(feature.column.of == "event" for feature in self._features.values()):
            rows["event"] = self._dataset.places(users, cuts, history.shape[1])
        return {name: feature.at(rows[feature.column.of]) for name, feature in self._features.items()}

    def before(self, users: IntArray, cuts: IntArray) -> dict[str, Array]:
        """The same with histories of the model's length."""
        return self.of(users, cuts, self._dataset.histories(users, cuts, self.length))

    def sent(self, examples: Examples) -> dict[str, Array]:
        """The same as a request has them: ids in place of rows."""
        values = self.before(examples.users, examples.cuts)
        return {
            name: values[name] if feature.dtype == tf.string else feature.sent(values[name])
            for name, feature in self._features.items()
        }


class ItemFeatures:
    """The item features of a model: its `item_features`, or `item_specs`.

    Raises InvalidInputError as `UserFeatures` does.
    """

    def __init__(self, dataset: Dataset, model: Any) -> None:
        specs = item_features_of(model)
        if not specs:
            of_items = {ITEM_IDS, CATE_IDS, *(n for n, each in dataset.columns.items() if each.of == "item")}
            found = item_specs(model.user_features, table_rows(dataset))
            specs = {name: spec for name, spec in found.items() if name in of_items}
        self._features = {
            name: _feature(dataset, name, spec, None, "item_features") for name, spec in specs.items()
        }

    def of(self, rows: npt.NDArray[Any]) -> dict[str, tf.Tensor]:
        """Of the items with these rows, [n]: tensors [n, ...]."""
        return {name: tf.convert_to_tensor(feature.at(rows)) for name, feature in self._features.items()}


def knows_features(dataset: Dataset, specs: Mapping[str, tf.TensorSpec]) -> bool:
    """Whether the data set has all of these user features, and histories are of a fixed length."""
    known = {ITEM_IDS, CATE_IDS, *dataset.columns}
    return _has_history(specs) and known >= specs.keys()


def _has_history(specs: Mapping[str, tf.TensorSpec]) -> bool:
    return ITEM_IDS in specs and specs[ITEM_IDS].shape.rank == 1 and specs[ITEM_IDS].shape[0] is not None


def item_specs(user_features: Mapping[str, tf.TensorSpec], rows: Iterable[str]) -> dict[str, tf.TensorSpec]:
    """The item features of a model that declares none: what it reads of each event, and those with tables."""
    of_events = {
        name: tf.TensorSpec(spec.shape[1:], spec.dtype, name)
        for name, spec in user_features.items()
        if spec.shape.rank
    }
    return {**dict.fromkeys(rows, tf.TensorSpec([], tf.int64)), **of_events}


def _column(dataset: Dataset, name: str, what: str) -> Column:
    if name == ITEM_IDS:
        rows = np.arange(dataset.num_items + 1)
        return Column(name, "item", "id", rows, vocabulary=dataset.item_ids)
    if name == CATE_IDS:
        return Column(name, "item", "id", dataset.item_cates, vocabulary=dataset.cate_ids)
    if name not in dataset.columns:
        known = ", ".join([ITEM_IDS, CATE_IDS, *dataset.columns])
        raise InvalidInputError(
            f"{what} {name}: expected a feature of the data set ({known}), found none of that name. Add the "
            f"column to the schema of `nann data prepare`, or leave the feature out."
        )
    return dataset.columns[name]


def _feature(dataset: Dataset, name: str, spec: tf.TensorSpec, history: int | None, what: str) -> _Feature:
    """The feature `name`, checked. history: the length of histories; None: of an item feature."""
    column = _column(dataset, name, what)
    shape = spec.shape.as_list()
    if history is None and column.of != "item":
        raise InvalidInputError(
            f"{what} {name}: expected a column of items, found one of {column.of}s. Leave it out."
        )
    before = [history] if history is not None and column.of != "user" else []
    expected = [*before, *([] if column.row_splits is None else ["W"])]
    fits = len(shape) == len(expected) and None not in shape and shape[: len(before)] == before
    if not fits:
        sizes = ", ".join(str(size) for size in expected)
        raise InvalidInputError(
            f"{what} {name}: expected a TensorSpec of shape [{sizes}] for the data set's column, found "
            f"{shape}. Correct the shape; L is that of {ITEM_IDS}, W the values of a list that are read."
        )
    kinds, expected_type = _GIVEN_AS[column.type]
    if np.dtype(spec.dtype.as_numpy_dtype).kind not in kinds:
        raise InvalidInputError(
            f"{what} {name}: expected {expected_type} for a column of type {column.type}, found "
            f"{spec.dtype.name}. Correct the type."
        )
    return _Feature(column, spec.dtype, None if column.row_splits is None else int(shape[-1]))
