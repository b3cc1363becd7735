"""Several workers that train one model: each takes other batches, all apply the mean of the gradients."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import tensorflow as tf

from nann.errors import InvalidInputError, NannError

Strategy = Literal["one", "multi_worker"]

# The chief's validation, which the others wait for, takes minutes at most.
_TIMEOUT_SECONDS = 600.0


class LostWorkerError(NannError):
    """Another worker cannot be reached. Started again, all go on from the newest checkpoint."""


class Workers:
    """This process among the workers of a training.

    Every worker has all weights and computes the same update; a worker that starts takes the chief's. Only
    the chief reads and writes the run folder. To be created before TensorFlow is used in any other way.

    Attributes:
      index: the number of this worker; 0 is the chief.
      count: how many there are.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.index, self.count = 0, 1
        if strategy == "multi_worker":
            _check_tf_config()
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=_TIMEOUT_SECONDS)
            self._strategy: Any = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
            self.count = int(self._strategy.num_replicas_in_sync)
            self.index = int(self._strategy.cluster_resolver.task_id)

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Call a step, which may call `mean`; to be traced as part of a tf.function."""
        return step(*arguments) if self.count == 1 else self._strategy.run(step, args=arguments)

    def mean(self, gradients: Sequence[Any]) -> list[Any]:
        """The mean of each gradient over all workers. Gradients of rows stay such."""
        if self.count == 1:
            return list(gradients)
        context = tf.distribute.get_replica_context()
        return [None if each is None else self._mean(context, each) for each in gradients]

    def _mean(self, context: Any, gradient: Any) -> Any:
        if not isinstance(gradient, tf.IndexedSlices):
            return context.all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(gradient))
        rows = context.all_gather(tf.cast(gradient.indices, tf.int64), axis=0)
        values = context.all_gather(tf.identity(gradient.values), axis=0) / self.count
        return tf.IndexedSlices(values, rows, gradient.dense_shape)

    def agreed(self, number: int) -> int:
        """The chief's number, for all workers; every worker must call this."""
        if self.count == 1:
            return number
        return int(self._of_chief([tf.constant(number, tf.int64)])[0])

    def take_from_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Give the variables of every worker the chief's values; every worker must call this."""
        if self.count > 1:
            for variable, value in zip(variables, self._of_chief(variables), strict=True):
                variable.assign(tf.cast(value, variable.dtype))

    def _of_chief(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """The chief's values: the sum over all workers, of which the others bring zeros."""

        def summed() -> list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            # Collective operations add no small or unsigned integers.
            known = [tf.cast(each, tf.int64) if each.dtype.is_integer else each for each in values]
            mine = [tf.identity(each) if self.is_chief else tf.zeros_like(each) for each in known]
            return [context.all_reduce(tf.distribute.ReduceOp.SUM, each) for each in mine]

        return list(tf.function(lambda: self._strategy.run(summed), autograph=False)())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn what TensorFlow raises when another worker is gone into LostWorkerError."""
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
            if self.count == 1:
                raise
            raise LostWorkerError(
                f"worker {self.index}: expected an answer of the other workers, found "
                f"{type(error).__name__}. Start the same command on every worker that has ended: training "
                f"goes on from the newest checkpoint."
            ) from error


def _check_tf_config() -> None:
    """What TensorFlow would say of a wrong TF_CONFIG names no variable, or it waits for ever."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        fits = task["type"] == "worker" and 0 <= int(task["index"]) < len(workers)
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise InvalidInputError(
            f'TF_CONFIG: expected {{"cluster": {{"worker": ["host:port", ...]}}, "task": {{"type": "worker", '
            f'"index": 0}}}}, found {text!r}. Set the environment variable for each worker.'
        )
