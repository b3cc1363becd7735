"""The user's part of a scorer without TensorFlow: the same, and left to it where it must be."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from nann.export.scorer._encoded import lower_with_user_part
from nann.export.scorer._lower import lower
from nann.export.scorer.split import split_function
from support.graphs import DIM, random_corpus

EVENTS, TILE_ROWS = 5, 8
RNG = np.random.default_rng(1)
WEIGHTS = RNG.normal(size=(DIM, DIM)).astype(np.float32)
POSITIONS = RNG.normal(size=(EVENTS, DIM)).astype(np.float32)


def attention(events):
    """As the reference model: keys of events, a mask of those that are there."""
    hidden = events @ WEIGHTS
    hidden = tf.nn.relu(hidden) - 0.25 * tf.nn.relu(-hidden)
    present = tf.cast(tf.reduce_any(events != 0, axis=-1), tf.float32)
    mask = (1.0 - tf.expand_dims(present, 0)) * -10.0
    return tf.transpose((hidden @ WEIGHTS + POSITIONS) * tf.expand_dims(present, -1)) + mask


def pooling(events):
    """A tower over the mean of the events, of rank 1 on its way."""
    mean = tf.reduce_mean(events, axis=0)
    hidden = tf.tanh(tf.expand_dims(mean, 0) @ WEIGHTS)
    scale = 1.0 / tf.sqrt(tf.reduce_sum(tf.square(hidden), axis=1, keepdims=True) + 1e-6)
    unit = tf.squeeze(hidden * scale, [0]) + tf.reduce_max(events, axis=0)
    return tf.reshape(unit, [-1, 1])


def comparisons(events):
    """Logic and every kind of comparison."""
    both = tf.logical_and(events > 0.0, tf.logical_not(events >= 1.0))
    either = tf.logical_or(tf.equal(events, 0.0), events < POSITIONS)
    either = tf.where(both, events < 0.5, either)
    small = tf.cast(tf.reduce_all(events <= 0.5, axis=1, keepdims=True), tf.float32)
    return tf.transpose(tf.cast(both, tf.float32) + 2.0 * tf.cast(either, tf.float32) + small)


def products(events):
    """Products of what was computed, both ways round."""
    square = tf.nn.softmax(tf.matmul(events, events, transpose_a=True))
    return tf.matmul(square, events, transpose_b=True)


def running_sums(events):
    """What a scorer leaves to TensorFlow of the user alone."""
    return tf.transpose(tf.cumsum(events))


def pointwise_layers(events):
    """The feed-forward layers of SASRec are convolutions of one event."""
    hidden = tf.nn.relu(tf.nn.conv1d(events[tf.newaxis], WEIGHTS[tf.newaxis], stride=1, padding="SAME"))
    pooled = tf.nn.max_pool1d(hidden, ksize=2, strides=1, padding="SAME")
    return tf.transpose(pooled[0] + events)


def ranked(events):
    """The largest of each column, and where the largest is."""
    columns = tf.transpose(events)
    largest = tf.math.top_k(columns, k=2).values
    place = tf.cast(tf.argmax(columns, axis=1), tf.float32)
    return tf.concat(
        [largest, tf.sort(columns, axis=1), tf.one_hot(tf.cast(place, tf.int32), EVENTS)], axis=1
    )


def ridge(events):
    """The inverse of a user's matrix."""
    return tf.linalg.inv(tf.matmul(events, events, transpose_a=True) + tf.eye(DIM))


def gammas(events):
    """What only TensorFlow does."""
    return tf.transpose(tf.math.lgamma(tf.abs(events) + 1.0))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    corpus = random_corpus(DIM, num_items=50, degree=8, sparsity=0.0)
    return nann.ops.IndexResource(**corpus.write(tmp_path_factory.mktemp("user")))


@pytest.mark.parametrize(
    ("function", "native"),
    [(attention, True), (pooling, True), (comparisons, True), (products, True), (running_sums, False)],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_users_part_is_as_tensorflow_has_it(index, function, native) -> None:
    split = split_of(function)
    expected, by_tensorflow = scores(index, split, b"")
    assert by_tensorflow == 4
    found, by_tensorflow = scores(index, split, lower(split.ir).to_bytes())
    assert by_tensorflow == (0 if native else 4)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("function", [running_sums, pointwise_layers, ranked, ridge])
def test_a_users_part_is_native_in_the_forms_of_an_encoder(index, function) -> None:
    split = split_of(function)
    assert lower(split.ir).after_user_function
    expected, _ = scores(index, split, b"")
    program = lower_with_user_part(split.ir, split.user_function)
    assert program is not None
    found, by_tensorflow = scores(index, split, program.to_bytes())
    assert by_tensorflow == 0
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_a_users_part_that_only_tensorflow_knows_stays_there() -> None:
    split = split_of(gammas)
    assert lower_with_user_part(split.ir, split.user_function) is None


def split_of(function):
    """A scorer of a matrix of the user, each of whose numbers weighs differently in the scores of items."""
    shape = function(tf.zeros([EVENTS, DIM])).shape
    weights = np.random.default_rng(2).normal(size=(1, shape[1])).astype(np.float32)
    whole = tf.function(
        lambda events, items: tf.reduce_sum(tf.matmul(items, function(events)) * weights, axis=1),
        input_signature=[tf.TensorSpec([EVENTS, DIM]), tf.TensorSpec([TILE_ROWS, DIM])],
        autograph=False,
    ).get_concrete_function()
    split = split_function(whole, max_table_width=0)
    assert split.ir is not None
    return split


def scores(index, split, program: bytes):
    """The scores of four users, and for how many TensorFlow ran the user's part."""
    events = np.random.default_rng(3).normal(size=(4, EVENTS, DIM)).astype(np.float32)
    events[:, :2] = 0.0
    positions = np.tile(np.arange(50, dtype=np.int32), (4, 1))
    before = nann.ops.metrics()["/nann/tensorflow_users"]
    found = nann.ops.score_items(
        index,
        [events],
        positions,
        scorer=split.function,
        user_functions=[split.user_function],
        tile_rows=TILE_ROWS,
        program=program,
    )
    return found.numpy(), nann.ops.metrics()["/nann/tensorflow_users"] - before
