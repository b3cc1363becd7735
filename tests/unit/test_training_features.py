"""What a model is given of the data set's columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError
from nann.training import Dataset, PrepareOptions, prepare_data
from nann.training._features import ItemFeatures, UserFeatures, describe_columns, knows_features, table_rows
from nann.training._splits import Examples
from support.schema_data import EveryColumn, write_source


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("schema")
    source, schema = write_source(folder)
    return prepare_data(str(source), folder / "data", PrepareOptions(schema=schema))


def test_item_columns_have_tables_but_those_that_tell_items_apart(data: Dataset) -> None:
    assert table_rows(data) == {
        "item_ids": data.num_items + 1,
        "cate_ids": len(data.cate_ids) + 1,
        "brand": 5,
        "maker": 6,
    }
    assert describe_columns(data)["city"] == {"of": "user", "type": "string", "list": False, "rows": 5}
    assert describe_columns(data)["price"]["rows"] is None


def test_user_features_follow_the_history(data: Dataset) -> None:
    model = EveryColumn.create(table_rows(data), columns=describe_columns(data))
    features = UserFeatures(data, model.user_features)
    users, cuts = np.array([0, 3]), np.array([2, 9])
    found = features.before(users, cuts)
    assert {name: values.shape for name, values in found.items()} == {
        **dict.fromkeys(("item_ids", "maker", "device", "brand", "price"), (2, 6)),
        "city": (2,),
        "tags": (2, 6, 2),
    }
    assert found["tags"].dtype == np.int32
    sent = features.sent(Examples(users, cuts))
    for row, (user, cut) in enumerate(zip(users, cuts, strict=True)):
        items = data.item_ids[data.before(user, cut) - 1][-6:]
        front = 6 - len(items)
        assert sent["item_ids"][row].tolist() == [0] * front + items.tolist()
        assert sent["brand"][row].tolist() == [""] * front + [f"brand {item % 4}" for item in items]
        assert sent["maker"][row].tolist() == [0] * front + [7000 + item % 5 for item in items]
        assert np.allclose(found["price"][row], [*[0.0] * front, *(items / 8)])
        assert sent["city"][row] == f"city {data.user_ids[user] % 4}"
        devices = [300 + time % 2 for time in range(cut)][-6:]
        assert sent["device"][row].tolist() == [0] * front + devices
        for tags, item in zip(sent["tags"][row, front:].tolist(), items, strict=True):
            assert tags == [f"t{tag}" for tag in range(item % 3)] + [""] * (2 - item % 3)


def test_item_features_are_those_the_model_names_or_those_of_its_events(data: Dataset) -> None:
    model = EveryColumn.create(table_rows(data), columns=describe_columns(data))
    rows = np.array([1, 5])
    assert set(ItemFeatures(data, model).of(rows)) == set(model.item_features)
    model.item_features = {}
    found = ItemFeatures(data, model).of(rows)
    assert set(found) == {"item_ids", "cate_ids", "brand", "maker", "price", "tags"}
    assert found["price"].numpy().tolist() == (data.item_ids[rows - 1] / 8).tolist()


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("colour", tf.TensorSpec([6], tf.int64), "user_features colour: expected a feature of the data set"),
        ("city", tf.TensorSpec([6], tf.int64), "expected a TensorSpec of shape []"),
        ("tags", tf.TensorSpec([6], tf.int64), "expected a TensorSpec of shape [6, W]"),
        ("device", tf.TensorSpec([5], tf.int64), "expected a TensorSpec of shape [6]"),
        ("price", tf.TensorSpec([6], tf.int64), "expected a float for a column of type float32"),
        ("maker", tf.TensorSpec([6], tf.string), "expected an integer for a column of type id"),
    ],
)
def test_features_that_do_not_fit_the_data_are_refused(
    data: Dataset, name: str, spec: Any, text: str
) -> None:
    specs = {"item_ids": tf.TensorSpec([6], tf.int64), name: spec}
    with pytest.raises(InvalidInputError) as raised:
        UserFeatures(data, specs)
    assert text in str(raised.value)


def test_columns_of_users_are_no_features_of_items(data: Dataset, tmp_path: Path) -> None:
    class Model:
        item_features: ClassVar = {"city": tf.TensorSpec([], tf.int64)}

    with pytest.raises(InvalidInputError, match="expected a column of items, found one of users"):
        ItemFeatures(data, Model())
    for specs in (
        {"city": tf.TensorSpec([], tf.int64)},
        {"item_ids": tf.TensorSpec([None], tf.int64)},
        {"item_ids": tf.TensorSpec([], tf.int64)},
    ):
        assert not knows_features(data, specs)
        with pytest.raises(InvalidInputError, match=r"expected item_ids of a fixed shape \[L\]"):
            UserFeatures(data, specs)
    assert knows_features(
        data, {"item_ids": tf.TensorSpec([3], tf.int64), "city": tf.TensorSpec([], tf.int64)}
    )
    assert not knows_features(
        data, {"item_ids": tf.TensorSpec([3], tf.int64), "x": tf.TensorSpec([], tf.int64)}
    )
