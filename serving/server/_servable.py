"""A loaded version of a model: a SavedModel in its own TensorFlow session."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.client import pywrap_tf_session

from nann.files import without_patterns
from nann.serving.server._messages import read_text_message
from nann.serving.server._status import Code, StatusError, as_status, not_found

_SAVED_MODEL_FILE = "saved_model.pb"


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """How the TensorFlow sessions run.

    tags: the tags of the meta graph to load from a SavedModel.
    intra_op_threads: threads that one op may use; 0 lets TensorFlow choose.
    inter_op_threads: ops that may run at once; 0 lets TensorFlow choose.
    config_file: a text `ConfigProto` that these are added to.

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

    Threads: `run` may be called from many threads at once. `close` may be called once, after all runs ended.
    """

    def __init__(self, path: Path, options: SessionOptions) -> None:
        """Load the SavedModel in `path`.

        Raises:
          Exception: the SavedModel cannot be read or initialised. The type depends on where loading failed;
            `as_status` turns it into a code and a text.
        """
        _check_saved_model(path, options.tags)
        self.path = path
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph, config=options.config())
        try:
            with self._graph.as_default(), without_patterns(path) as folder:
                meta_graph = tf.compat.v1.saved_model.loader.load(
                    self._session, list(options.tags), str(folder)
                )
        except BaseException:
            self.close()
            raise
        self.signatures: Mapping[str, Any] = dict(meta_graph.signature_def)
        self._tensors: dict[str, Any] = {}

    def run(
        self, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str], *, timeout_ms: int | None
    ) -> list[NDArray[Any]]:
        """Return the values of the tensors named in `fetches`, given the values of those in `feeds`.

        `timeout_ms` is the longest time that the run may take; None sets no limit.

        Raises:
          StatusError: the run failed, with TensorFlow's code and text; DEADLINE_EXCEEDED after `timeout_ms`.
        """
        # This is what the public Session.run calls in the end. Session.run takes 0.1 ms longer, and it
        # rewrites error messages so that they point to Python source that only the author of a model has.
        options = None
        if timeout_ms is not None:
            run_options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms)
            options = pywrap_tf_session.TF_NewBufferFromString(run_options.SerializeToString())
        try:
            values = self._session._call_tf_sessionrun(
                options,
                {self._output(name): value for name, value in feeds.items()},
                [self._output(name) for name in fetches],
                [],
                None,
            )
            # TensorFlow returns a scalar as a NumPy scalar or, if it is a string, as bytes.
            return [np.asarray(value, object if isinstance(value, bytes) else None) for value in values]
        except Exception as error:
            raise as_status(error) from error
        finally:
            if options is not None:
                pywrap_tf_session.TF_DeleteBuffer(options)

    def _output(self, name: str) -> Any:
        """Return the C API's handle of a tensor. Handles are cached, since a loaded graph never changes."""
        output = self._tensors.get(name)
        if output is None:
            node, _, index = name.partition(":")
            try:
                operation = self._graph.get_operation_by_name(node)
            except KeyError as error:
                raise not_found(f"Tensor {name}, specified in a signature, is not in the graph") from error
            count = len(operation.outputs)
            if int(index or 0) >= count:
                raise StatusError(
                    Code.OUT_OF_RANGE,
                    f"Node '{node}' (type: '{operation.type}', num of outputs: {count}) "
                    f"does not have output {int(index or 0)}",
                )
            output = self._tensors[name] = operation.outputs[int(index or 0)]._as_tf_output()
        return output

    def close(self) -> None:
        """Release the session and everything it holds: variables, index resources, mapped files."""
        self._session.close()
        self._tensors = {}
        del self._session, self._graph
        # The Python objects of a graph refer to each other in cycles, so only the collector frees them.
        gc.collect()


def _check_saved_model(path: Path, tags: Sequence[str]) -> None:
    """Check the main file of a SavedModel.

    Problems are reported in the words of TensorFlow's C++ loader, as TensorFlow Serving does. The Python
    loader has other words for them.
    """
    file = path / _SAVED_MODEL_FILE
    try:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise not_found(
            "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
            f"`{_SAVED_MODEL_FILE}`)\nSpecified file path: {path}"
        ) from error
    except DecodeError as error:
        raise StatusError(Code.DATA_LOSS, f"Can't parse {file} as binary proto") from error
    if not any(set(graph.meta_info_def.tags) == set(tags) for graph in saved_model.meta_graphs):
        raise not_found(
            f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}. To inspect "
            "available tag-sets in the SavedModel, please use the SavedModel CLI: `saved_model_cli`"
        )
