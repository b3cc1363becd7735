"""Curves of a training for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

LOGS = "logs"
# Steps whose losses are read at once: reading one waits for the step.
STEPS_PER_POINT = 50
# What marks a value as a point of a curve. tf.summary.scalar would need TensorBoard to be installed here.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


class Board:
    """Writes RUN/logs: `tensorboard --logdir RUN/logs` shows losses, recall, throughput and waiting.

    Not thread-safe.
    """

    def __init__(self, run_dir: Path, *, batch_size: int) -> None:
        self._writer = tf.summary.create_file_writer(str(run_dir / LOGS))
        self._batch_size = batch_size
        self._restart()

    def waited(self, seconds: float) -> None:
        """The trainer has waited so long for a batch."""
        self._waited += seconds

    def step(self, step: int, loss: tf.Tensor, rate: float) -> None:
        """A step was taken; `loss` is read for one step in `STEPS_PER_POINT`."""
        self._steps += 1
        if step % STEPS_PER_POINT:
            return
        value = float(loss.numpy())  # Waits until the step has ended, so that its time is counted.
        seconds = time.perf_counter() - self._since
        self.write(
            step,
            {
                "loss": value,
                "learning rate": rate,
                "examples per second": self._steps * self._batch_size / seconds,
                "share of time waiting for input": self._waited / seconds,
            },
        )
        self._restart()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One point on each of several curves."""
        with self._writer.as_default(step=step):
            for name, value in values.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=_SCALAR)
        self._writer.flush()

    def _restart(self) -> None:
        self._since, self._waited, self._steps = time.perf_counter(), 0.0, 0
