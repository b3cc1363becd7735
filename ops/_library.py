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
# tensorflow-cpu is the same library without the GPU parts.
_DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu")
_REBUILD = "Build it again with `make install`, or `pip install --force-reinstall nann[tensorflow]`."


def library_path() -> Path:
    """Return the path of the compiled op library, for `tf.load_op_library`.

    Raises:
      MissingDependencyError: this installation holds no compiled library.

    Example:
      >>> nann.ops.library_path().name
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
    """Load the ops into this process, once, and return the module of their generated functions.

    Raises:
      MissingDependencyError: TensorFlow is not installed, the library was not built, or it was built for
        another version of TensorFlow than the installed one.

    Example:
      >>> nann.ops.load_library().nann_enter_points(index.resource_handle).numpy().tolist()
      [2]
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
    library_path()  # A missing library is the clearer error.
    path = _installed(_BUILT_FOR)
    return path.read_text().strip() if path else "an unknown version"


def _installed(name: str) -> Path | None:
    # Editable installs keep compiled files in site-packages, away from the Python files.
    path = Path(str(importlib.resources.files("nann.ops").joinpath(name)))
    return path if path.exists() else None


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
