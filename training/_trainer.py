"""`train`: sampled softmax over the reference model, with checkpoints that resume exactly."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from nann.errors import InvalidFileError, InvalidInputError
from nann.files import without_patterns
from nann.progress import OnProgress, ignore_progress
from nann.run import CHECKPOINTS, RUN_FILE, Run, read_run, write_run
from nann.training._dataset import Dataset, read_dataset
from nann.training._model import CHECKPOINT_ERRORS, ModelConfig, ReferenceModel, checkpointed
from nann.training._run import REFERENCE_MODEL, relative_data_path, write_vocabulary
from nann.training._sampling import HELD_OUT, Batch, BatchSampler
from nann.training.ranking import SampledRecall

_ACCIDENTAL_HIT = -1e9
_DROPOUT, _NOISE = 1, 2


@dataclass(frozen=True)
class TrainOptions:
    """How to train. 0 epochs, batch size, negatives or checkpoint steps mean: choose by the size of the data.

    Attributes:
      epochs: passes over all prefixes of all users' training events.
      batch_size: examples a step.
      negatives: S, items drawn a step, shared by the whole batch.
      learning_rate: the highest of Adam's; it rises for the first 5 % of the steps and falls along a cosine.
      weight_decay: decoupled, on all matrices.
      dropout: share of the values of `comm_seq` that are dropped.
      item_noise: standard deviation of the noise on item embeddings, as a share of their own standard
        deviation. It makes the score smooth in the space in which the graph is built.
      popularity_power: negatives are drawn with probability ~ (1 + popularity) ** popularity_power.
      seed: of the weights, the order of the examples, the negatives, dropout and noise.
      checkpoint_steps: steps between two checkpoints (there is one at the end of each epoch, too).
    """

    epochs: int = 0
    batch_size: int = 0
    negatives: int = 0
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    item_noise: float = 0.6
    popularity_power: float = 0.75
    seed: int = 0
    checkpoint_steps: int = 0

    def check(self) -> None:
        """Raise InvalidInputError when a value is out of range."""
        expectations = {
            "epochs of 0 and above": self.epochs >= 0,
            "batch_size of 0 and above": self.batch_size >= 0,
            "negatives of 0 and above": self.negatives >= 0,
            "checkpoint_steps of 0 and above": self.checkpoint_steps >= 0,
            "a positive, finite learning_rate": 0 < self.learning_rate < float("inf"),
            "weight_decay of 0 and above": self.weight_decay >= 0,
            "dropout in [0, 1)": 0 <= self.dropout < 1,
            "item_noise of 0 and above": self.item_noise >= 0,
            "popularity_power in [0, 1]": 0 <= self.popularity_power <= 1,
            "seed of 0 and above": self.seed >= 0,
        }
        for expectation, holds in expectations.items():
            if not holds:
                raise InvalidInputError(f"training options: expected {expectation}, found {self}.")

    def resolved(self, dataset: Dataset) -> TrainOptions:
        """The same with every 0 replaced by what suits `dataset`."""
        large = len(dataset.events) > 300_000
        return replace(
            self,
            epochs=self.epochs or (2 if large else 3),
            batch_size=self.batch_size or (512 if large else 128),
            negatives=self.negatives or min(32, dataset.num_items),
            checkpoint_steps=self.checkpoint_steps or 1000,
        )


def train(
    data_dir: Path,
    run_dir: Path,
    options: TrainOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> Run:
    """Train the reference model on the data set in `data_dir`; write or continue the run in `run_dir`.

    A run that was stopped continues from its newest checkpoint when called again with the same options, and
    ends with the same weights as one that never stopped (on the same machine and number of threads).

    Returns:
      the content of `run.json`.

    Raises:
      InvalidInputError: an option is out of range, or `run_dir` holds a run with other options or data.
      InvalidFileError: the data set or the run is damaged.
    """
    options = options or TrainOptions()
    options.check()
    dataset = read_dataset(data_dir)
    options = options.resolved(dataset)
    run = _open_run(run_dir, data_dir, dataset, options)
    write_vocabulary(run_dir, dataset)
    with without_patterns(run_dir) as folder:
        return _Training(dataset, folder, run, options).run_to_end(on_progress or ignore_progress)


def _open_run(run_dir: Path, data_dir: Path, dataset: Dataset, options: TrainOptions) -> Run:
    config = ModelConfig(items=dataset.num_items, categories=len(dataset.cate_ids))
    run = Run(
        model=REFERENCE_MODEL,
        data=relative_data_path(run_dir, data_dir),
        model_config=config.to_json(),
        training={**asdict(options), "data": dataset.summary()},
    )
    if not (run_dir / RUN_FILE).exists():
        write_run(run_dir, run)
        return run
    old = read_run(run_dir)
    for key, new_value in run.training.items():
        if old.training.get(key) != new_value:
            raise InvalidInputError(
                f"{run_dir}: holds a training with {key} = {old.training.get(key)}, asked was {new_value}. "
                "Continue with the same options and data, or choose another run folder."
            )
    return old


class _Training:
    """Model, optimizer and everything else that a checkpoint holds."""

    def __init__(self, dataset: Dataset, run_dir: Path, run: Run, options: TrainOptions) -> None:
        self._run_dir = run_dir
        self._run = run
        self._options = options
        self._config = ModelConfig.from_json(run.model_config)
        self._sampler = self._make_sampler(dataset)
        self._total = options.epochs * self._sampler.steps_per_epoch
        self._model = ReferenceModel(self._config, seed=options.seed)
        self._optimizer = self._make_optimizer()
        self._step = tf.Variable(0, dtype=tf.int64)
        self._loss_sum = tf.Variable(0.0, dtype=tf.float64)
        self._manager = self._make_manager()
        self._item_cates = tf.constant(dataset.item_cates)
        self._validation = SampledRecall(self._model, dataset, back=HELD_OUT, seed=options.seed)
        self._train_step = tf.function(self._one_step)

    def run_to_end(self, on_progress: OnProgress) -> Run:
        """Train from the newest checkpoint, or the start, to the last step."""
        self._restore()
        per_epoch = self._sampler.steps_per_epoch
        first = int(self._step.numpy())
        history = [entry for entry in self._run.history if entry["step"] <= first]
        on_progress("train", first, self._total)
        for step in range(first, self._total):
            self._train_step(*self._tensors(self._sampler.batch(step)))
            done = step + 1
            if done % per_epoch == 0:
                history.append(self._end_epoch(done))
                self._run = replace(self._run, history=tuple(history))
                # First the entry, then the checkpoint: a stop between the two repeats the epoch's end, never
                # loses it, since entries after the checkpoint are dropped above.
                write_run(self._run_dir, self._run)
            if done % per_epoch == 0 or done % self._options.checkpoint_steps == 0:
                self._manager.save(checkpoint_number=done)
            on_progress("train", done, self._total)
        return self._run

    def _restore(self) -> None:
        newest = self._manager.latest_checkpoint
        if newest is None:
            return
        try:
            self._manager.checkpoint.restore(newest).assert_consumed()
        except CHECKPOINT_ERRORS as error:
            raise InvalidFileError(
                f"{newest}: expected a checkpoint of this training, found another or a damaged one: {error}. "
                f"Delete {self._run_dir / CHECKPOINTS} to start again."
            ) from error

    def _end_epoch(self, step: int) -> dict[str, Any]:
        loss = float(self._loss_sum.numpy()) / self._sampler.steps_per_epoch
        self._loss_sum.assign(0.0)
        recall = self._validation.measure()
        return {"step": step, "loss": round(loss, 6), **recall}

    def _make_sampler(self, dataset: Dataset) -> BatchSampler:
        options = self._options
        sampler = BatchSampler(
            dataset,
            batch_size=options.batch_size,
            negatives=options.negatives,
            popularity_power=options.popularity_power,
            sequence_length=self._config.sequence_length,
            seed=options.seed,
        )
        if not sampler.examples:
            raise InvalidInputError(
                f"{dataset.source}: expected users with 4 events and more to train on, found none."
            )
        return sampler

    def _make_manager(self) -> tf.train.CheckpointManager:
        checkpoint = tf.train.Checkpoint(
            model=checkpointed(self._model.variables),
            optimizer=checkpointed(self._optimizer.variables),
            step=self._step,
            loss_sum=self._loss_sum,
        )
        return tf.train.CheckpointManager(checkpoint, str(self._run_dir / CHECKPOINTS), max_to_keep=2)

    def _make_optimizer(self) -> keras.optimizers.Optimizer:
        warm_up = max(1, self._total // 20)
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0,
            decay_steps=max(1, self._total - warm_up),
            warmup_target=self._options.learning_rate,
            warmup_steps=warm_up,
            alpha=0.01,
        )
        optimizer = keras.optimizers.AdamW(
            # The name is part of what the checkpoint calls its variables; the default counts optimizers.
            schedule,
            weight_decay=self._options.weight_decay,
            name="optimizer",
        )
        optimizer.exclude_from_weight_decay(var_names=["bias", "alpha", "gamma", "beta"])
        optimizer.build(self._model.trainable_variables)
        return optimizer

    def _tensors(self, batch: Batch) -> tuple[tf.Tensor, ...]:
        values = (
            batch.history,
            batch.targets,
            batch.negatives,
            batch.target_log_counts,
            batch.negative_log_counts,
        )
        return tuple(tf.convert_to_tensor(value) for value in values)

    def _one_step(
        self,
        history: tf.Tensor,
        targets: tf.Tensor,
        negatives: tf.Tensor,
        target_log_counts: tf.Tensor,
        negative_log_counts: tf.Tensor,
    ) -> None:
        """One step of sampled softmax."""
        with tf.GradientTape() as tape:
            logits = self._logits(history, targets, negatives)
            hits = targets[:, tf.newaxis] == negatives
            loss = _sampled_softmax(logits, hits, target_log_counts, negative_log_counts)
        variables = self._model.trainable_variables
        gradients = [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]
        gradients, _ = tf.clip_by_global_norm(gradients, 5.0)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self._loss_sum.assign_add(tf.cast(loss, tf.float64))
        self._step.assign_add(1)

    def _logits(self, history: tf.Tensor, targets: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
        """float32 [B, 1 + S]: each user's target first, then the shared negatives."""
        model, options = self._model, self._options
        state = model.embed_user({"item_ids": history, "cate_ids": tf.gather(self._item_cates, history)})
        comm_seq = state["comm_seq"]
        if options.dropout > 0:
            comm_seq = tf.nn.experimental.stateless_dropout(
                comm_seq, options.dropout, seed=self._random_seed(_DROPOUT)
            )
        rows = tf.concat([targets, negatives], axis=0)
        item_embs = model.embed_item({"item_ids": rows, "cate_ids": tf.gather(self._item_cates, rows)})
        if options.item_noise > 0:
            scale = options.item_noise * tf.stop_gradient(tf.math.reduce_std(item_embs, axis=0))
            noise = tf.random.stateless_normal(tf.shape(item_embs), seed=self._random_seed(_NOISE))
            item_embs += scale * noise
        batch = tf.shape(targets)[0]
        items = tf.nest.map_structure(lambda side: _per_user(side, batch), model.item_side(item_embs))
        return model.match(model.user_side(comm_seq), items, training=True)

    def _random_seed(self, purpose: int) -> tf.Tensor:
        return tf.stack([tf.constant(self._options.seed * 8 + purpose, tf.int64), self._step])


def _per_user(side: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """[B + S, width] (targets, then shared negatives) -> [B, 1 + S, width]."""
    shared = side[batch:]
    repeated = tf.broadcast_to(shared, tf.concat([[batch], tf.shape(shared)], axis=0))
    return tf.concat([side[:batch, tf.newaxis], repeated], axis=1)


def _sampled_softmax(
    logits: tf.Tensor, hits: tf.Tensor, target_log_counts: tf.Tensor, negative_log_counts: tf.Tensor
) -> tf.Tensor:
    """The mean loss of scores [B, 1 + S] with the log-expected-count correction; hits: bool [B, S].

    The target competes with S negatives drawn from a distribution Q. From each score the log of the
    number of times that the sampler is expected to draw the item is subtracted, so that the score itself
    comes to estimate the log-probability under the full softmax (up to a constant of the user), whatever
    Q is: Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural
    probabilistic language model", IEEE Transactions on Neural Networks 19(4), 2008; TensorFlow's
    "What is candidate sampling", section "sampled softmax". A negative that is the target itself
    ("accidental hit") is left out.
    """
    counts = tf.broadcast_to(negative_log_counts, tf.shape(logits[:, 1:]))
    corrected = logits - tf.concat([target_log_counts[:, tf.newaxis], counts], axis=1)
    corrected += tf.pad(tf.cast(hits, tf.float32) * _ACCIDENTAL_HIT, [[0, 0], [1, 0]])
    return tf.reduce_mean(tf.reduce_logsumexp(corrected, axis=1) - corrected[:, 0])
