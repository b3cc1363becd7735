"""The checkpoints of a run: the last ones to resume from, and the best to use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from nann.errors import InvalidFileError
from nann.files import write_text
from nann.run import CHECKPOINTS

CHECKPOINT_ERRORS = (AssertionError, IndexError, ValueError, tf.errors.OpError)
"""What TensorFlow raises for a checkpoint of other variables, or with a truncated or missing file."""

_PREFIX = "ckpt-"


class Checkpoints:
    """Writes and restores the checkpoints below a run folder; the number of each is its step.

    The file `checkpoint` names the one to restore: the newest while training goes on, the best after it has
    ended. Both are kept as long as they may be named.

    state: what a checkpoint holds, as tf.train.Checkpoint takes it.
    keep: how many of the last are kept.
    """

    def __init__(self, run_dir: Path, state: dict[str, Any], *, keep: int) -> None:
        self._folder = run_dir / CHECKPOINTS
        self._checkpoint = tf.train.Checkpoint(**state)
        self._keep = keep

    def restore_newest(self) -> int | None:
        """Restore the newest checkpoint and return its step; None when there is none.

        Raises:
          InvalidFileError: the checkpoint is damaged, or of another training.
        """
        steps = self._steps()
        if not steps:
            return None
        newest = str(self._path(steps[-1]))
        try:
            self._checkpoint.read(newest).assert_consumed()
        except CHECKPOINT_ERRORS as error:
            raise InvalidFileError(
                f"{newest}: expected a checkpoint of this training, found another or a damaged one: {error}. "
                f"Delete {self._folder} to start again."
            ) from error
        return steps[-1]

    def write(self, step: int, *, best: int | None) -> None:
        """Write the checkpoint of this step, and delete those that are neither recent nor the best."""
        self._checkpoint.write(str(self._path(step)))
        steps = sorted({*self._steps(), step})
        kept = {*steps[-self._keep :], *(each for each in steps if each == best)}
        self._name(step, sorted(kept))
        for old in set(steps) - kept:
            for file in self._folder.glob(f"{_PREFIX}{old}.*"):
                file.unlink()

    def finish(self, best: int) -> None:
        """Name the best checkpoint as the one to restore."""
        steps = self._steps()
        if self._named() != self._path(best).name:
            # The named one is the last of the list, as TensorFlow has it.
            self._name(best, [*(step for step in steps if step != best), best])

    def _name(self, step: int, steps: list[int]) -> None:
        # Relative names: the run can be moved.
        lines = [f'model_checkpoint_path: "{_PREFIX}{step}"']
        lines += [f'all_model_checkpoint_paths: "{_PREFIX}{each}"' for each in steps]
        write_text(self._folder / "checkpoint", "\n".join(lines) + "\n")

    def _named(self) -> str | None:
        state = tf.train.get_checkpoint_state(str(self._folder))
        return None if state is None else Path(state.model_checkpoint_path).name

    def _steps(self) -> list[int]:
        """The steps of the whole checkpoints in the folder: TensorFlow writes the index last."""
        found = self._folder.glob(f"{_PREFIX}*.index")
        return sorted(int(file.name.removeprefix(_PREFIX).removesuffix(".index")) for file in found)

    def _path(self, step: int) -> Path:
        return self._folder / f"{_PREFIX}{step}"


def checkpoint_to_use(run_dir: Path, folder: Path) -> str:
    """The checkpoint below `folder`, which stands for `run_dir`, that a run's model is restored from.

    Raises:
      InvalidFileError: there is none.
    """
    named: str | None = tf.train.latest_checkpoint(str(folder / CHECKPOINTS))
    if named is None:
        raise InvalidFileError(
            f"{run_dir / CHECKPOINTS}: expected a checkpoint, found none. Train first: `nann train`."
        )
    return named
