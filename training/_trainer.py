"""`train`: fits a model to a data set, with checkpoints that resume exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.files import without_patterns
from nann.progress import OnProgress, ignore_progress
from nann.run import RUN_FILE, Run, features_of, read_run, write_run
from nann.training._board import Board
from nann.training._checkpoints import Checkpoints
from nann.training._dataset import Dataset, read_dataset
from nann.training._features import ItemFeatures, UserFeatures
from nann.training._models import ATTENTION, ChosenModel, choose_model
from nann.training._optimizer import RowwiseAdamW, learning_rate
from nann.training._options import TrainOptions
from nann.training._run import relative_data_path, write_vocabulary
from nann.training._sampling import BatchSampler, SequenceSampler
from nann.training._step import TrainStep, tensors_of
from nann.training._trainable import Sequential, checkpointed
from nann.training._validation import BEST_BY, SampledRecall
from nann.training._workers import Strategy, Workers

# The share of the steps in which the learning rate rises.
_WARM_UP = 0.05


def train(
    data_dir: Path,
    run_dir: Path,
    options: TrainOptions | None = None,
    *,
    model: str = ATTENTION,
    sizes: Mapping[str, Any] | None = None,
    strategy: Strategy = "one",
    on_progress: OnProgress | None = None,
) -> Run:
    """Train a model on the data set in `data_dir`; write or continue the run in `run_dir`.

    The epoch with the best validation recall is the one that is used afterwards; training ends when none has
    been better for a while. A run that was stopped continues from its newest checkpoint when called again
    with the same options, and ends with the same weights as one that never stopped (on the same machine and
    number of threads).

    Args:
      model: one of the shipped models (attention, two-tower, mixture), or `module:Class` of your own.
      sizes: options of the model, for example {"blocks": 1}.
      strategy: "one" device; "mirrored": all GPUs of this machine; "multi_worker": the processes that the
        environment variable TF_CONFIG names, each of which calls this with the same arguments. Every step
        then takes a batch of each, and the mean of their gradients.

    Returns:
      the content of `run.json`.

    Raises:
      InvalidInputError: an option is out of range, "mirrored" finds no GPU, or `run_dir` holds a run with
        other options, data or number of replicas.
      InvalidFileError: the data set or the run is damaged.
      LostWorkerError: another worker has ended.

    Example: `train(Path("DATA"), Path("RUN"), TrainOptions(epochs=3)).history[-1]["loss"]`.
    """
    options = options or TrainOptions()
    options.check()
    workers = Workers(strategy)
    dataset = read_dataset(data_dir)
    options = options.resolved(dataset)
    _set_numerics(options)
    chosen = choose_model(model, dataset, sizes or {})
    run = _described(run_dir, data_dir, dataset, options, chosen, replicas=workers.count)
    if workers.is_chief:
        run = _open_run(run_dir, run)
    with without_patterns(run_dir) as folder, workers.together():
        with workers.scope():
            trained = chosen.create(options.seed)
        if workers.is_chief:
            write_vocabulary(run_dir, dataset, features_of(trained))
        training = _Training(dataset, folder, run, options, trained, workers)
        return training.run_to_end(on_progress or ignore_progress)


def _set_numerics(options: TrainOptions) -> None:
    """Settings that TensorFlow has for the whole process; only ever switched on."""
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    if options.precision == "bfloat16":
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})


def _described(
    run_dir: Path,
    data_dir: Path,
    dataset: Dataset,
    options: TrainOptions,
    chosen: ChosenModel,
    *,
    replicas: int,
) -> Run:
    several = {"replicas": replicas} if replicas > 1 else {}
    return Run(
        model=chosen.name,
        data=relative_data_path(run_dir, data_dir),
        model_config=chosen.config,
        training={**asdict(options), "data": dataset.summary(), **several},
    )


def _open_run(run_dir: Path, run: Run) -> Run:
    """The run that is there, which must have been asked for in the same way, or a new one."""
    if not (run_dir / RUN_FILE).exists():
        write_run(run_dir, run)
        return run
    old = read_run(run_dir)
    before, now = (
        # With another number of replicas a step has other batches, and an epoch other steps.
        {"replicas": 1, **each.training, "model": each.model, "model_config": _as_json(each.model_config)}
        for each in (old, run)
    )
    for key, asked in now.items():
        if before.get(key) != asked:
            raise InvalidInputError(
                f"{run_dir}: holds a training with {key} = {before.get(key)}, asked was {asked}. Continue "
                "with the same options and data, and as many GPUs or workers, or choose another run folder."
            )
    return old


def _as_json(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}


class _Training:
    """Model, optimizer and everything else that a checkpoint holds."""

    def __init__(
        self,
        dataset: Dataset,
        run_dir: Path,
        run: Run,
        options: TrainOptions,
        model: Any,
        workers: Workers,
    ) -> None:
        self._dataset = dataset
        self._run_dir = run_dir
        self._run = run
        self._options = options
        self._users = UserFeatures(dataset, model.user_features)
        self._items = ItemFeatures(dataset, model)
        self._sampler = _make_sampler(dataset, options, model, self._users.length)
        self._workers = workers
        self._per_epoch = self._sampler.steps_per_epoch // workers.count
        if not self._per_epoch:
            raise InvalidInputError(
                f"{dataset.source}: expected a batch for each of {workers.count} workers or devices, found "
                f"{self._sampler.steps_per_epoch}. Use fewer of them, or lower batch_size."
            )
        self._total = options.epochs * self._per_epoch
        with workers.scope():
            optimizer = RowwiseAdamW(
                model.trainable_variables, weight_decay=options.weight_decay, clip_norm=options.clip_norm
            )
        self._step = TrainStep(model, optimizer, options, workers)
        self._loss_sum = tf.Variable(0.0, dtype=tf.float64)
        of_model, of_optimizer = checkpointed(model.variables), optimizer.checkpointed()
        state = {"model": of_model, "optimizer": of_optimizer, "loss_sum": self._loss_sum}
        self._checkpoints = Checkpoints(run_dir, state, keep=options.keep)
        self._state = [*of_model.values(), *of_optimizer.values(), self._loss_sum]
        self._validation = SampledRecall(model, dataset, seed=options.seed)

    def run_to_end(self, on_progress: OnProgress) -> Run:
        """Train from the newest checkpoint, or the start, to the last step."""
        chief = self._workers.is_chief
        first = self._workers.agreed((self._checkpoints.restore_newest() or 0) if chief else 0)
        self._workers.take_from_chief(self._state)
        reached = tuple(entry for entry in self._run.history if entry["step"] <= first)
        self._run = replace(self._run, history=reached)
        ended = self._has_ended(first)
        on_progress("train", first, first if ended else self._total)
        if not ended:
            self._take_steps(first, on_progress)
        if chief:
            self._checkpoints.finish(_best(self._run.history)["step"])
        return self._run

    def _take_steps(self, first: int, on_progress: OnProgress) -> None:
        examples = self._sampler.batch_size * len(self._workers.own)
        board = Board(self._run_dir, batch_size=examples) if self._workers.is_chief else None
        for step, batches in enumerate(self._batches(first, board), start=first):
            rate = self._learning_rate(step)
            loss = self._step(batches, rate=rate, step=step)
            self._loss_sum.assign_add(tf.cast(loss, tf.float64))
            done = step + 1
            if board is not None:
                board.step(done, loss, rate)
                self._keep(done, board)
            ended = self._has_ended(done) if done % self._per_epoch == 0 else False
            on_progress("train", done, done if ended else self._total)
            if ended:
                return

    def _keep(self, done: int, board: Board) -> None:
        """Measure and write what belongs after this step."""
        if done % self._per_epoch == 0:
            self._end_epoch(done, board)
        if done % self._per_epoch == 0 or done % self._options.checkpoint_steps == 0:
            best = _best(self._run.history)["step"] if self._run.history else None
            self._checkpoints.write(done, best=best)

    def _batches(self, first: int, board: Board | None) -> Iterator[list[dict[str, Any]]]:
        """This process's batches from step number `first` on; while a step runs, the next ones are made."""

        def make(step: int) -> list[dict[str, Any]]:
            epoch, place = divmod(step, self._per_epoch)
            start = epoch * self._sampler.steps_per_epoch + place * self._workers.count
            numbers = (start + replica for replica in self._workers.own)
            return [tensors_of(self._users, self._items, self._sampler.batch(number)) for number in numbers]

        with ThreadPoolExecutor(1, "nann-batches") as maker:
            coming = maker.submit(make, first)
            for step in range(first, self._total):
                started = time.perf_counter()
                batches = coming.result()
                if board is not None:
                    board.waited(time.perf_counter() - started)
                if step + 1 < self._total:
                    coming = maker.submit(make, step + 1)
                yield batches

    def _learning_rate(self, step: int) -> float:
        options = self._options
        warm_up = max(1, round(_WARM_UP * self._total))
        return learning_rate(
            options.schedule, options.learning_rate, step, total=self._total, warm_up=warm_up
        )

    def _end_epoch(self, step: int, board: Board) -> None:
        """Measure, and note the epoch in run.json."""
        loss = float(self._loss_sum.numpy()) / self._per_epoch
        self._loss_sum.assign(0.0)
        figures = {"loss": round(loss, 6), **self._validation.measure()}
        board.write(step, {f"epoch/{name.replace('_', ' ')}": value for name, value in figures.items()})
        self._run = replace(self._run, history=(*self._run.history, {"step": step, **figures}))
        # First the entry, then the checkpoint: a stop between the two repeats the epoch's end, never loses
        # it, since entries after the checkpoint are dropped when training goes on.
        write_run(self._run_dir, self._run)

    def _has_ended(self, step: int) -> bool:
        """Whether training ends after this step; of several workers the chief knows."""
        return bool(self._workers.agreed(self._ends_after(step)))

    def _ends_after(self, step: int) -> bool:
        """Whether all steps are taken, or no epoch was better for a while."""
        if step >= self._total:
            return True
        if not self._run.history or not self._options.patience or step != self._run.history[-1]["step"]:
            return False
        behind = step - _best(self._run.history)["step"]
        return bool(behind >= self._options.patience * self._per_epoch)


def _best(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The epoch with the best validation recall, the first of equals."""
    return max(history, key=lambda entry: entry[BEST_BY])


def _make_sampler(
    dataset: Dataset, options: TrainOptions, model: Any, length: int
) -> BatchSampler | SequenceSampler:
    kind = SequenceSampler if isinstance(model, Sequential) else BatchSampler
    sampler = kind(
        dataset,
        batch_size=options.batch_size,
        negatives=options.negatives,
        popularity_power=options.popularity_power,
        sequence_length=length,
        seed=options.seed,
    )
    if not sampler.examples:
        raise InvalidInputError(
            f"{dataset.source}: expected users with 4 events and more to train on, found none."
        )
    return sampler
