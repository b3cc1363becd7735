"""Examples as shards of TFRecords, in the original NANN's form."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.training._dataset import Dataset, RowArray
from nann.training._splits import Examples
from nann.training.order import RandomOrder

Floats = npt.NDArray[np.float64]

FOLDER = "tfrecords"
# Examples gathered at a time.
_CHUNK = 4096
# Apart from the seeds of training.
_ORDER = 12


def write_tfrecords(dataset: Dataset, folder: Path, *, shards: int, max_length: int, seed: int) -> None:
    """Write `folder/tfrecords/{train,validation,test,items}-00000-of-0000N.tfrecord`.

    The training examples are shuffled by `seed`; an example goes to the shard of its number modulo `shards`.
    Every record is a tf.train.Example with the original's features: `item_ids` and `cate_ids`, int64
    [max_length], the rows of the history, oldest first and padded with 0 behind; `gt_item_id` and
    `gt_cate_id`, int64, the rows of the target; `weight_tag`, float, the item's share of all events. Items
    have no history.
    """
    where = folder / FOLDER
    where.mkdir()
    order = RandomOrder(dataset.num_train_examples, seed=(seed, _ORDER))
    train = (dataset.train_examples(order[start : start + _CHUNK]) for start in range(0, len(order), _CHUNK))
    weights = dataset.item_counts / max(1, int(dataset.item_counts.sum()))
    split = dataset.split
    held_out = {"validation": iter([split.validation]), "test": iter([split.test])}
    for name, chunks in {"train": train, **held_out}.items():
        records = (each for chunk in chunks for each in _records(dataset, chunk, weights, max_length))
        _write(where, name, shards, records)
    nothing = np.zeros((1, 0), np.int32)
    items = (_record(dataset, nothing[0], row, weights) for row in range(1, dataset.num_items + 1))
    _write(where, "items", shards, items)


def _records(dataset: Dataset, examples: Examples, weights: Floats, max_length: int) -> Iterator[bytes]:
    for start in range(0, len(examples), _CHUNK):
        users, cuts = examples.users[start : start + _CHUNK], examples.cuts[start : start + _CHUNK]
        histories = dataset.histories(users, cuts, max_length)
        targets = dataset.event_at(users, cuts).tolist()
        for history, cut, target in zip(histories, cuts.tolist(), targets, strict=True):
            # The padding of `histories` stands in front, the original's behind.
            yield _record(dataset, np.roll(history, min(cut, max_length)), target, weights)


def _record(dataset: Dataset, history: RowArray, target: int, weights: Floats) -> bytes:
    def ints(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "item_ids": ints(history.tolist()),
        "cate_ids": ints(dataset.item_cates[history].tolist()),
        "gt_item_id": ints([target]),
        "gt_cate_id": ints([int(dataset.item_cates[target])]),
        "weight_tag": tf.train.Feature(float_list=tf.train.FloatList(value=[float(weights[target])])),
    }
    record: bytes = tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(
        deterministic=True
    )
    return record


def _write(folder: Path, name: str, shards: int, records: Iterator[bytes]) -> None:
    paths = [folder / f"{name}-{number:05}-of-{shards:05}.tfrecord" for number in range(shards)]
    writers = [tf.io.TFRecordWriter(str(path)) for path in paths]
    for number, record in enumerate(records):
        writers[number % shards].write(record)
    for writer in writers:
        writer.close()
