"""An export in a TensorFlow session, as a server loads it: of this project only the op library is used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from nann.errors import VerificationError
from nann.export._samples import Arrays
from nann.export.quiet import quiet_tensorflow
from nann.files import without_patterns
from nann.ops import load_library

# Of the op library: docs/live.md.
_UPDATES_POLL = "NANN_UPDATES_POLL_MS"


class LoadedModel:
    """A loaded export, without segments. Thread-safe. It holds memory and mapped files until it is closed.

    Example:

        with LoadedModel(Path("MODELS/nann/1")) as model:
            scores = model.run("score", {"comm_seq": state, "item_ids": ids})["scores"]
    """

    def __init__(self, model_dir: Path) -> None:
        """Load the version folder `model_dir`; VerificationError says why that fails."""
        load_library()
        self.session: Any = tf.compat.v1.Session(graph=tf.Graph())
        with without_patterns(model_dir) as folder:
            try:
                # It says that this loader, which servers use, is deprecated.
                with quiet_tensorflow(), _without_segments(), self.session.graph.as_default():
                    meta_graph = tf.compat.v1.saved_model.loader.load(self.session, ["serve"], str(folder))
            except (tf.errors.OpError, OSError, RuntimeError, ValueError) as error:
                self.session.close()
                found = str(error).replace(str(folder), str(model_dir))
                raise VerificationError(
                    f"{model_dir}: expected a model that loads, found: {found}. Export it again."
                ) from error
        self.signatures: Mapping[str, Any] = {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith("__")
        }

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the model."""
        self.session.close()

    @property
    def names(self) -> list[str]:
        """Names of the signatures."""
        return sorted(self.signatures)

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Outputs of `signature` by name; tf.errors.OpError when it refuses the inputs."""
        info = self.signatures[signature]
        feed = {info.inputs[name].name: value for name, value in inputs.items()}
        outputs: Arrays = self.session.run({name: out.name for name, out in info.outputs.items()}, feed)
        return outputs


@contextlib.contextmanager
def loaded(model_dir: Path) -> Iterator[LoadedModel]:
    """Load an export for a block in which it must answer: VerificationError when it does not."""
    with LoadedModel(model_dir) as model:
        try:
            yield model
        except tf.errors.OpError as error:
            raise VerificationError(
                f"{model_dir}: expected answers, found: {error.message}. "
                "Do not serve this export; report this with the model."
            ) from error


@contextlib.contextmanager
def _without_segments() -> Iterator[None]:
    """Have models load their base alone: that is what is verified and measured."""
    before = os.environ.get(_UPDATES_POLL)
    os.environ[_UPDATES_POLL] = "0"
    try:
        yield
    finally:
        del os.environ[_UPDATES_POLL]
        if before is not None:
            os.environ[_UPDATES_POLL] = before
