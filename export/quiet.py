"""Messages of TensorFlow that the user of an export can do nothing about."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def quiet_tensorflow(level: int = logging.ERROR) -> Iterator[None]:
    """Have TensorFlow's Python log only messages of a level or above it."""
    logger = tf.get_logger()
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
