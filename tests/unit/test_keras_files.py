"""Networks that are loaded from .keras files: whose layers and whose Keras they are."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from nann.errors import InvalidFileError, InvalidInputError
from nann.run.guard import own_code
from nann.run.keras_files import load_network

_PACKAGE = """
import keras

@keras.saving.register_keras_serializable(package="doubling_layers")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return 2.0 * x
"""


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network with a layer of a package that the process has forgotten."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "doubling_layers.py").write_text(_PACKAGE)
    monkeypatch.syspath_prepend(str(folder))
    import doubling_layers  # type: ignore[import-not-found]

    vector = keras.Input([3], name="item")
    file = tmp_path / "scorer.keras"
    keras.Model(vector, doubling_layers.Doubled()(vector)).save(file)
    del sys.modules["doubling_layers"]
    keras.saving.get_custom_objects().pop("doubling_layers>Doubled")
    return file


def test_packages_of_layers_are_imported(saved: Path) -> None:
    network = load_network(saved)
    np.testing.assert_array_equal(network(np.ones([1, 3], np.float32)), [[2.0, 2.0, 2.0]])


def test_a_package_that_is_missing_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [each for each in sys.path if not each.endswith("packages")])
    with pytest.raises(InvalidFileError, match=r"found no doubling_layers\. Install"):
        load_network(saved)


def test_a_layer_of_no_package_is_named(tmp_path: Path) -> None:
    class Lost(keras.layers.Layer):
        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return x

    Lost.__module__ = "builtins"
    vector, file = keras.Input([3], name="item"), tmp_path / "scorer.keras"
    keras.Model(vector, Lost()(vector)).save(file)
    with pytest.raises(InvalidInputError, match=r"Could not locate class 'Lost'.*from_keras takes networks"):
        load_network(file)


def test_python_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    vector, file = keras.Input([3], name="item"), tmp_path / "scorer.keras"
    keras.Model(vector, keras.layers.Lambda(lambda x: 2.0 * x)(vector)).save(file)
    with pytest.raises(InvalidInputError, match=r"safe_mode=False\) if you trust it"):
        load_network(file)


def test_a_network_of_keras_2_needs_tf_keras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "user.keras"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "2.21.0"}))
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    monkeypatch.setattr("nann.run.keras_files.find_spec", lambda name: None)
    with pytest.raises(InvalidFileError, match=r"found one of Keras 2\. Install tf_keras"):
        load_network(file)


def test_a_file_of_keras_2_that_keras_3_was_given() -> None:
    with pytest.raises(InvalidInputError, match=r"load it by tf_keras\.models\.load_model"), own_code("m"):
        raise TypeError("Could not locate class 'Functional'. Make sure custom classes are decorated.")


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_what_is_no_network_ends_in_a_sentence(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "user.keras"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"user\.keras: expected code that runs"):
        load_network(file)
