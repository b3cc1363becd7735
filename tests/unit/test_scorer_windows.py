"""Large windows of convolutions and pooling, as of filters over all events: the whole scorer is a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from support.programs import compare, compare_with_traced, weighted

L, D = 40, 8
RANDOM = np.random.default_rng(8)
EVENTS = RANDOM.normal(size=(2, L, D)).astype(np.float32)


def _kernel(*shape: int) -> np.ndarray:
    return (RANDOM.normal(size=shape) * 0.2).astype(np.float32)


ALL, LONGER, WORDS, TALL = _kernel(L, D, 3), _kernel(90, D, 2), _kernel(3, D, 1, 4), _kernel(36, 2, 1, 3)
BY_CHANNEL, SPREAD, SQUARE = _kernel(L, D, 1), _kernel(20, D, 2), _kernel(7, 6, 1, 2)


def _image(x: tf.Tensor) -> tf.Tensor:
    """[n, L, D, 1], as networks for texts have it."""
    return x[..., tf.newaxis]


WINDOWS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "over all events": lambda x: tf.nn.conv1d(x, ALL, 1, "VALID"),
    "longer than the events": lambda x: tf.nn.conv1d(x, LONGER, 1, "SAME"),
    "over words": lambda x: tf.nn.conv2d(_image(x), WORDS, 1, "VALID"),
    "over most events": lambda x: tf.nn.conv2d(_image(x), TALL, 1, "VALID"),
    "squares": lambda x: tf.nn.conv2d(_image(x), SQUARE, 2, "SAME"),
    "spread": lambda x: tf.nn.conv1d(x, SPREAD, 1, "SAME", dilations=4),
    "weights of channels": lambda x: keras.ops.depthwise_conv(x, BY_CHANNEL, 1, "valid"),
    "largest of all": lambda x: tf.nn.max_pool1d(x, L, 1, "VALID"),
    "largest of halves": lambda x: tf.nn.max_pool1d(x, L // 2, L // 2, "VALID"),
    "largest in steps": lambda x: tf.nn.max_pool1d(x, 21, 3, "SAME"),
    "largest of an image": lambda x: tf.nn.max_pool2d(_image(x), (9, 5), 1, "SAME"),
    "mean of all": lambda x: tf.nn.avg_pool1d(x, L, 1, "VALID"),
    "mean in steps": lambda x: tf.nn.avg_pool1d(x, 21, 3, "SAME"),
    "mean of an image": lambda x: tf.nn.avg_pool2d(_image(x), (20, 4), (20, 4), "VALID"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_large_windows(name: str) -> None:
    def score(user: Any, item: tf.Tensor) -> tf.Tensor:
        return weighted(tf.tanh(WINDOWS[name](user["events"] * item[:, tf.newaxis])))

    compare(score, events=EVENTS)
    compare_with_traced(score, events=EVENTS[0])
