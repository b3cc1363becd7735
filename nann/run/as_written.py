"""Running a model's graph as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import tensorflow as tf

_OPTION = "disable_meta_optimizer"


@contextmanager
def as_written() -> Iterator[None]:
    """TensorFlow rearranges no graph that runs in this context (grappler), unlike by default.

    By default it moves a division through a difference, so that `(today - day) / 7 == 52` does not hold where
    it does as written: scores would differ from those of the same model run eagerly. An option of the whole
    process: one thread at a time.

    >>> import tensorflow as tf
    >>> from nann.run.as_written import as_written
    >>> weeks = tf.function(lambda today, day: (today - day) / 7.0)
    >>> with as_written():
    ...     float(weeks(704.0, 340.0))
    52.0
    """
    before = tf.config.optimizer.get_experimental_options().get(_OPTION, False)
    tf.config.optimizer.set_experimental_options({_OPTION: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({_OPTION: before})
