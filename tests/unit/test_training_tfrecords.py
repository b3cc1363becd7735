"""Examples as TFRecords: those of the arrays, in the original's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from nann.training import PrepareOptions, SplitOptions, prepare_data


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    records = []
    for path in sorted((folder / "tfrecords").glob(f"{name}-*-of-00003.tfrecord")):
        for raw in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            features = tf.train.Example.FromString(raw).features.feature
            lists = {key: value.int64_list.value or value.float_list.value for key, value in features.items()}
            records.append({key: list(values) for key, values in lists.items()})
    return records


def test_records_are_the_examples_of_the_arrays(tmp_path: Path) -> None:
    split = SplitOptions(
        kind="users", train_min_length=4, test_min_length=3, validation_users=2, test_users=3
    )
    options = PrepareOptions(split=split, max_length=5, tfrecords=3)
    data = prepare_data("synthetic:items=60,users=20,events=9,seed=2", tmp_path / "data", options)

    found = {name: _read(tmp_path / "data", name) for name in ("train", "validation", "test", "items")}

    expected = []
    held_out = {*data.split.test.users.tolist(), *data.split.validation.users.tolist()}
    for user in range(data.num_users):
        events = data.events[data.row_splits[user] : data.row_splits[user + 1]].tolist()
        for cut in range(4, len(events) - 1) if user not in held_out else ():
            history = events[max(0, cut - 5) : cut]
            expected.append(((history + [0] * 5)[:5], events[cut]))
    shown = [(each["item_ids"], each["gt_item_id"][0]) for each in found["train"]]
    assert sorted(shown) == sorted(expected)
    assert shown != sorted(shown), "shuffled"
    assert (len(found["validation"]), len(found["test"])) == (2, 3)
    for record in [*found["train"], *found["test"]]:
        assert record["cate_ids"] == data.item_cates[record["item_ids"]].tolist()
        (target,) = record["gt_item_id"]
        assert record["gt_cate_id"] == [data.item_cates[target]]
        share = data.item_counts[target] / data.item_counts.sum()
        assert record["weight_tag"] == pytest.approx([share])
    assert sorted(each["gt_item_id"][0] for each in found["items"]) == list(range(1, 61))
    assert all(each["item_ids"] == [] for each in found["items"])
