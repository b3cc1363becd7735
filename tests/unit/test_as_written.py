"""Graphs that run as they were written, and the option of the process afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from nann.run.as_written import as_written

TODAY, DAYS = np.float32(704), np.float32(704) - 7 * np.arange(100, dtype=np.float32)


def weeks(today: tf.Tensor, days: tf.Tensor) -> tf.Tensor:
    return (today - days) / 7.0


def option() -> bool:
    return bool(tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer", False))


def test_divisions_stay_where_they_are() -> None:
    function = tf.function(weeks)
    with as_written():
        found = function(TODAY, DAYS)
    np.testing.assert_array_equal(found, np.arange(100))


def fails_as_written() -> None:
    with as_written():
        assert option()
        raise ValueError("of the model")


@pytest.mark.parametrize("before", [False, True])
def test_the_option_is_put_back(before: bool) -> None:
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": before})
    try:
        with pytest.raises(ValueError, match="of the model"):
            fails_as_written()
        assert option() is before
    finally:
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
