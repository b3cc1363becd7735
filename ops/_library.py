"""Finding and loading the compiled op library."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.resources
from pathlib import Path
from typing import Any

from nann.errors import MissingDependencyError

_LIBRARY = "libnann_ops.so"
_BUILT_FOR = "built_for_tensorflow.txt"
# tensorflow-cpu is the same library without what only GPUs need.
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")
_REBUILD = "Build it again with `make install`, or `pip install --force-reinstall nann[tensorflow]`."


def library_path() -> Path:
    """Path of the compiled op library, for `tf.load_op_library` or LD_PRELOAD.

    Raises MissingDependencyError when this installation holds no compiled library.

    Example:
      >>> library_path().name
      'libnann_ops.so'
    """
    path = _installed(_LIBRARY)
    if path is None:
        raise MissingDependencyError(
            f"{_LIBRARY}: expected beside the Python files of nann.ops, found none. {_REBUILD}"
        )
    return path


@functools.cache
def load_library() -> Any:
    """Load the ops into this process; returns the module of generated op functions, the same on every call.

    A process that loads an export with TensorFlow itself calls this first. Raises MissingDependencyError when
    TensorFlow is not installed, when the library was not built, or when it was built for another minor
    version of TensorFlow than the installed one.

    Example:
      >>> ops = load_library()
      >>> exported = tf.saved_model.load("MODELS/nann/1")  # Keep this object: it owns the index.
      >>> sorted(exported.signatures)
      ['retrieve', 'retrieve_by_ids', 'score', 'serving_default']
    """
    installed = _tensorflow_version()
    built_for = _built_for()
    if _minor(installed) != _minor(built_for):
        raise MissingDependencyError(
            f"{library_path()}: built for TensorFlow {built_for}, but {installed} is installed. {_REBUILD}"
        )
    import tensorflow as tf

    return tf.load_op_library(str(library_path()))


def _tensorflow_version() -> str:
    for distribution in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    raise MissingDependencyError(
        "tensorflow is not installed. Install it with `pip install nann[tensorflow]`."
    )


def _built_for() -> str:
    library_path()  # Where both files are missing, the error names the library.
    path = _installed(_BUILT_FOR)
    return path.read_text().strip() if path else "an unknown version"


def _installed(name: str) -> Path | None:
    # Editable installs keep compiled files in site-packages, away from the Python files.
    path = Path(str(importlib.resources.files("nann.ops").joinpath(name)))
    return path if path.exists() else None


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
