"""Several replicas that train one model: each takes other batches, all apply the mean of the gradients."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import tensorflow as tf

from nann.errors import InvalidInputError, NannError

Strategy = Literal["one", "mirrored", "multi_worker"]

# The chief's validation, which the others wait for, takes minutes at most.
_TIMEOUT_SECONDS = 600.0


class LostWorkerError(NannError):
    """Another worker cannot be reached. Started again, all go on from the newest checkpoint."""


class Workers:
    """This process among the workers of a training.

    A replica has all weights and computes the same update as every other from the mean of their gradients.
    "one" process has one; "mirrored", one on each device; "multi_worker", one in each of several processes,
    of which one that starts takes the chief's weights. Only the chief reads and writes the run folder. To be
    created before TensorFlow is used in any other way.

    Attributes:
      index: the number of this process; 0 is the chief.
      count: how many replicas all processes have together, each of which takes a batch per step.
      own: the numbers of the replicas of this process.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.index, self.count, self.own = 0, 1, range(1)
        if strategy == "mirrored":
            self._strategy: Any = _mirrored()
            self.count = int(self._strategy.num_replicas_in_sync)
            self.own = range(self.count)
        elif strategy == "multi_worker":
            _check_tf_config()
            _check_one_gpu()
            options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=_TIMEOUT_SECONDS)
            self._strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
            self.count = int(self._strategy.num_replicas_in_sync)
            self.index = int(self._strategy.cluster_resolver.task_id)
            self.own = range(self.index, self.index + 1)

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    @property
    def _is_alone(self) -> bool:
        """Whether there is no other process."""
        return len(self.own) == self.count

    def scope(self) -> AbstractContextManager[Any]:
        """Within, a variable that is created gets a copy for each replica of this process.

        A step reads and writes the copies of its replica, as a worker does its variables. Outside of steps
        all copies are written, and the first is read; what is not trained, as the means of batch norms, may
        differ between them.
        """
        return nullcontext() if len(self.own) == 1 else self._strategy.scope()

    def run(self, step: Callable[..., Any], inputs: Sequence[tuple[Any, ...]]) -> Any:
        """Call a step, which may call `mean`, with the input of each of `own`; returns the first's result.

        To be traced as part of a tf.function.
        """
        if self.count == 1:
            return step(*inputs[0])
        arguments = self._strategy.experimental_distribute_values_from_function(
            lambda replica: inputs[replica.replica_id_in_sync_group - self.own.start]
        )
        results = self._strategy.run(step, args=arguments)
        return self._strategy.experimental_local_results(results)[0]

    def mean(self, gradients: Sequence[Any]) -> list[Any]:
        """The mean of each gradient over all replicas. Gradients of rows stay such."""
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
        if self._is_alone:
            return number
        return int(self._of_chief([tf.constant(number, tf.int64)])[0])

    def take_from_chief(self, variables: Sequence[tf.Variable]) -> None:
        """Give the variables of every worker the chief's values; every worker must call this."""
        if not self._is_alone:
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
            if self._is_alone:
                raise
            raise LostWorkerError(
                f"worker {self.index}: expected an answer of the other workers, found "
                f"{type(error).__name__}. Start the same command on every worker that has ended: training "
                f"goes on from the newest checkpoint."
            ) from error


@functools.cache
def _mirrored() -> tf.distribute.MirroredStrategy:
    """The strategy over all GPUs; or over the logical CPU devices, where the program has made several.

    One for the process: both of two would number their collective operations from 1, and TensorFlow would
    take those of the second for the first one's.
    """
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if [device.device_type for device in devices] == ["CPU"]:
        raise InvalidInputError(
            "strategy mirrored: expected GPUs that TensorFlow can use, found none. Take the strategy one, or "
            "install the GPUs' driver and, with pip, tensorflow[and-cuda]."
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


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


def _check_one_gpu() -> None:
    """A process has one copy of the weights; with several GPUs each of them would update that one."""
    if len(found := tf.config.get_visible_devices("GPU")) > 1:
        raise InvalidInputError(
            f"strategy multi_worker: expected at most one GPU for each worker, found {len(found)}. Start a "
            f"worker for each GPU, with its number in CUDA_VISIBLE_DEVICES; or, on one machine, take the "
            f"strategy mirrored."
        )
