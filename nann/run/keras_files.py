"""A saved network of Keras: which Keras wrote it, and which packages its layers come from."""

from __future__ import annotations

import importlib
import json
import re
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nann.errors import InvalidFileError
from nann.run.guard import own_code

_METADATA, _CONFIG = "metadata.json", "config.json"
# Keras' own modules, and what the config of a file names without an import.
_KNOWN = frozenset(["__main__", "builtins", "keras", "tf_keras"])


def load_network(file: Path) -> Any:
    """The network in a .keras file, for inference. Keras 2 wrote some, which tf_keras reads.

    Imports the installed packages that define its layers, as `keras_rs`: Keras knows layers of what is
    imported only. Raises InvalidFileError and InvalidInputError.
    """
    is_of_keras_2 = str(_part(file, _METADATA).get("keras_version", "")).startswith("2.")
    if is_of_keras_2 and find_spec("tf_keras") is None:
        raise InvalidFileError(
            f"{file}: expected a network of Keras 3, found one of Keras 2. Install tf_keras in the version "
            f"of TensorFlow, which reads it."
        )
    packages = {module.partition(".")[0] for module in _modules(_part(file, _CONFIG))} - _KNOWN
    missing = sorted(package for package in packages if find_spec(package) is None)
    with own_code(f"{file}", lambda: "keras.saving.load_model"):
        for package in sorted(packages.difference(missing)):
            importlib.import_module(package)
        keras = importlib.import_module("tf_keras" if is_of_keras_2 else "keras")
        try:
            return keras.saving.load_model(file, compile=False)
        except TypeError as error:
            if not missing:
                raise
            raise InvalidFileError(
                f"{file}: expected the packages that define its layers, found no {', '.join(missing)}. "
                f"Install them, or put their folder on PYTHONPATH."
            ) from error


def _part(file: Path, name: str) -> dict[str, Any]:
    """A JSON file of the archive; {} where there is none: Keras says what is wrong with it."""
    try:
        with zipfile.ZipFile(file) as archive:
            found = json.loads(archive.read(name))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return {}
    return found if isinstance(found, dict) else {}


def _modules(config: Any) -> Iterator[str]:
    """The modules that define the classes of a config."""
    if isinstance(config, list):
        for each in config:
            yield from _modules(each)
    elif isinstance(config, dict):
        module = config.get("module")
        if isinstance(module, str) and "class_name" in config and re.fullmatch(r"[\w.]+", module):
            yield module
        for each in config.values():
            yield from _modules(each)
