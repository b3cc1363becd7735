"""An export in a process of its own, as a server has it: TensorFlow, the op library, no code of the model.

The process starts while an export is still being written, is kept for the next one, and ends with its parent.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nann.errors import VerificationError

_NEXT_STEP = "Do not serve this export; report this with the model."


class ApartModel:
    """A loaded export in the other process; it has `names` and `run` as `nann.export.loaded.LoadedModel`."""

    def __init__(self, process: _Process, model_dir: Path) -> None:
        self._process, self._model_dir = process, model_dir
        self.names: list[str] = process.ask("load", str(model_dir))

    def run(self, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        """Outputs of `signature` by name; VerificationError when it refuses the inputs."""
        outputs: dict[str, Any] = self._process.ask("run", signature, inputs)
        return outputs


@contextlib.contextmanager
def loaded_apart(model_dir: Path) -> Iterator[ApartModel]:
    """Load an export in the other process for a block; VerificationError where it does not load or answer."""
    process = start_process()
    with process.lock:
        try:
            yield ApartModel(process, model_dir)
        finally:
            process.close_model()


def start_process() -> _Process:
    """The process, started where none runs; it imports TensorFlow meanwhile."""
    global _current
    with _starting:
        if _current is None or not _current.is_alive:
            _current = _Process()
        return _current


class _Process:
    """Pickled questions go to its standard input, (succeeded, answer) come from its standard output.

    lock: held by whoever uses it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._child = subprocess.Popen(
            # The working directory may hold a folder called nann: modules are looked up as they are here.
            [
                sys.executable,
                "-c",
                f"import sys; sys.path[:] = {sys.path!r}; from nann.export._apart import main; main()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        atexit.register(self.end)

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def ask(self, *question: Any) -> Any:
        """The answer; VerificationError with what went wrong over there."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        try:
            pickle.dump(question, self._child.stdin)
            self._child.stdin.flush()
            succeeded, answer = pickle.load(self._child.stdout)
        except (EOFError, BrokenPipeError) as error:
            raise VerificationError(
                f"expected an export that another process can load and ask, found that it ended "
                f"with status {self._child.wait()}. {_NEXT_STEP}"
            ) from error
        if not succeeded:
            raise VerificationError(answer)
        return answer

    def close_model(self) -> None:
        """Release the model and its files."""
        if self.is_alive:
            with contextlib.suppress(VerificationError):
                self.ask("close")

    def end(self) -> None:
        """Ask it to end, by closing its input."""
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.wait()


_current: _Process | None = None
_starting = threading.Lock()


def main() -> None:
    """What the other process does: answer questions until its input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # TensorFlow and its libraries may print
    from nann.export.loaded import LoadedModel

    model: LoadedModel | None = None
    while True:
        try:
            kind, *arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if model is not None and kind in ("load", "close"):
                model.close()
                model = None
            if kind == "load":
                model = LoadedModel(Path(arguments[0]))
                answer: Any = model.names
            else:
                answer = None if model is None else model.run(*arguments)
            reply = (True, answer)
        except VerificationError as error:
            reply = (False, str(error))
        except Exception as error:  # The asking process says what it means.
            text = getattr(error, "message", None) or str(error)
            reply = (
                False,
                f"{' '.join(map(str, arguments[:1]))}: expected answers, found: {text}. {_NEXT_STEP}",
            )
        pickle.dump(reply, answers)
        answers.flush()
