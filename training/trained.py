"""The base of models that `nann train` makes, trains and restores."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from nann.errors import InvalidFileError
from nann.files import without_patterns
from nann.run import CHECKPOINTS, read_run
from nann.training._checkpoints import CHECKPOINT_ERRORS, checkpoint_to_use
from nann.training._served import served
from nann.training._trainable import built, checkpointed


class TrainedModel:
    """What a trainable class needs beyond the members of a `RetrievalModel`.

    A model is a subclass of this and of keras.Model or tf.Module, whose constructor takes the number of rows
    of each feature's embedding table and the seed of its weights; docs/training.md has an example.
    """

    @classmethod
    def create(cls, rows: Mapping[str, int], *, seed: int = 0, **sizes: Any) -> Any:
        """A model with random weights.

        Args:
          rows: for each feature of items that is given as rows, those of its embedding table: 1 + the size
            of its vocabulary.
          seed: of the weights.
          sizes: options of the constructor. One called `columns` gets the columns of the data set: name ->
            {"of": "user", "type": "string", "list": false, "rows": 12}.
        """
        return built(cls(rows, seed=seed, **sizes), rows)  # type: ignore[call-arg]

    @classmethod
    def sizes(cls) -> list[str]:
        """Names of the options of `create`: those of the constructor."""
        return [name for name in inspect.signature(cls).parameters if name not in ("rows", "seed")]

    @classmethod
    def from_run(cls, run_dir: Path) -> Any:
        """The model of a run with the weights of its best epoch. Columns of strings are given as strings.

        Raises:
          InvalidFileError: `run_dir` holds no run, or no checkpoint of this model.
        """
        model = cls.create(**read_run(run_dir).model_config)
        restore(model, run_dir)
        return served(model, run_dir)


def restore(model: Any, run_dir: Path) -> None:
    """Give `model` the weights of the run in `run_dir`.

    Raises:
      InvalidFileError: the run has no checkpoint, or a damaged one, or one of other variables.
    """
    with without_patterns(run_dir) as folder:
        path = checkpoint_to_use(run_dir, folder)
        try:
            status = tf.train.Checkpoint(model=checkpointed(model.variables)).read(path)
            status.assert_existing_objects_matched().expect_partial()
        except CHECKPOINT_ERRORS as error:
            raise InvalidFileError(
                f"{run_dir / CHECKPOINTS / Path(path).name}: expected the variables of the run's "
                f"{type(model).__name__}, found another or damaged checkpoint: {error}. Train again into "
                f"another folder."
            ) from error
