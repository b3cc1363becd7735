"""A loaded version of a model: a SavedModel in its own TensorFlow session."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2

from nann.files import without_patterns
from nann.serving.server._c_session import CSession
from nann.serving.server._messages import read_text_message
from nann.serving.server._status import Code, StatusError, not_found

_SAVED_MODEL_FILE = "saved_model.pb"
_VARIABLES_INDEX = Path("variables") / "variables.index"
# An export of this project has one.
MANIFEST = Path("assets.extra") / "nann_manifest.json"


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How the TensorFlow sessions run.

    tags: the tags of the meta graph to load from a SavedModel.
    intra_op_threads: threads that one op may use; 0 lets TensorFlow choose.
    inter_op_threads: ops that may run at once; 0 lets TensorFlow choose.
    config_file: a text `ConfigProto` that these are added to. Without it, TensorFlow's threads do not spin.

    >>> from nann.serving.server import SessionOptions
    >>> SessionOptions(intra_op_threads=4).config().intra_op_parallelism_threads
    4
    """

    tags: tuple[str, ...] = ("serve",)
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    config_file: Path | None = None

    def config(self) -> Any:
        """Return the `ConfigProto`.

        Raises:
          InvalidFileError: the config file cannot be read or parsed.
        """
        config = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        if self.config_file is not None:
            read_text_message(self.config_file, config)
        else:
            # Threads that spin while they wait for work take the processor from other requests: under load, a
            # quarter of a search's time.
            config.experimental.disable_thread_spinning = True
        if self.intra_op_threads:
            config.intra_op_parallelism_threads = self.intra_op_threads
        if self.inter_op_threads:
            config.inter_op_parallelism_threads = self.inter_op_threads
        # These graphs would be kept for debugging only, and take memory.
        config.experimental.disable_output_partition_graphs = True
        return config


class Servable:
    """A loaded SavedModel.

    It owns its graph and its resources: two versions of a model share no variables or tables, even if these
    have the same names.

    signatures: name -> `SignatureDef`.
    fetches_all: whether a run should fetch all outputs of a signature, also those that a request leaves out.
      The outputs of a search come from one op, and TensorFlow takes 0.1 s to prepare a run for each new set
      of outputs.

    Threads: `run` may be called from many threads at once. `close` may be called once, after all runs ended.
    """

    def __init__(self, path: Path, options: SessionOptions) -> None:
        """Load the SavedModel in `path`.

        Raises:
          StatusError: the SavedModel cannot be read or initialised, with TensorFlow's code and text.
          OSError: the folder cannot be opened.
        """
        try:
            meta_graph = _read_meta_graph(path, options.tags)
        except DecodeError as error:
            raise _unreadable(path, options) from error
        _check_variables(path, meta_graph)
        self.path = path
        self.fetches_all = (path / MANIFEST).is_file()
        # Copies: the messages themselves would keep the whole graph in memory.
        self.signatures: Mapping[str, Any] = {
            name: copy.deepcopy(signature) for name, signature in meta_graph.signature_def.items()
        }
        with without_patterns(path) as folder:
            self.session = CSession(folder, options.tags, options.config())

    def run(
        self, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str], *, timeout_ms: int | None
    ) -> list[NDArray[Any]]:
        """Return the values of the tensors named in `fetches`, given the values of those in `feeds`.

        `timeout_ms` is the longest time that the run may take; None sets no limit.

        Raises:
          StatusError: the run failed, with TensorFlow's code and text; DEADLINE_EXCEEDED after `timeout_ms`.
        """
        return self.session.run(feeds, fetches, timeout_ms=timeout_ms)

    def close(self) -> None:
        """Release the session and everything it holds: variables, index resources, mapped files."""
        self.session.close()


def _read_meta_graph(path: Path, tags: Sequence[str]) -> Any:
    """Return the meta graph of a SavedModel with these tags.

    TensorFlow's C++ loader reads a text file where this one is missing, and has other codes for the rest.

    Raises:
      StatusError: there is no file, or no meta graph with these tags in it.
      DecodeError: the file cannot be parsed.
    """
    file = path / _SAVED_MODEL_FILE
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found(
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`{_SAVED_MODEL_FILE}`)\nSpecified file path: {path}"
        ) from error
    for meta_graph in saved_model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise not_found(
        f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect "
        "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
    )


def _unreadable(path: Path, options: SessionOptions) -> StatusError:
    """Return TensorFlow's own error for a file that cannot be parsed: a file that ends early has another."""
    try:
        with without_patterns(path) as folder:
            CSession(folder, options.tags, options.config()).close()
    except StatusError as error:
        return StatusError(error.code, error.message.replace(str(folder), str(path)))
    return StatusError(Code.DATA_LOSS, f"Can't parse {path / _SAVED_MODEL_FILE} as binary proto")


def _check_variables(path: Path, meta_graph: Any) -> None:
    """Check that the variables that a graph restores are there.

    TensorFlow's C++ loader leaves them uninitialised otherwise, and every request would fail.
    """
    if meta_graph.HasField("saver_def") and not (path / _VARIABLES_INDEX).is_file():
        raise not_found(f"{path / _VARIABLES_INDEX.parent} is not a valid checkpoint: it has no index file")
