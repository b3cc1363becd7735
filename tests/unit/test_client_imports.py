"""What importing the client loads, alone and beside TensorFlow. Each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Refuses what the client must not need, whether installed or not.
_BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "tensorflow_serving", "keras", "faiss", "aiohttp", "pandas"}:
            raise ImportError(f"blocked: {name}")
sys.meta_path.insert(0, Blocker())
"""
_USE = """
import numpy as np
from nann.serving.client import NannClient
from nann.serving.protocol.messages import PredictRequest
from nann.serving.protocol.tensors import decode, encode
request = PredictRequest()
encode(np.arange(3), request.inputs["x"])
assert decode(PredictRequest.FromString(request.SerializeToString()).inputs["x"]).tolist() == [0, 1, 2]
NannClient("localhost:1").close()
"""
_TENSORFLOW = """
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
message = predict_pb2.PredictRequest()
message.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
"""


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_none_of_the_heavy_packages() -> None:
    loaded = _run(_USE + "import sys; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert "grpc" in loaded
    assert not {"tensorflow", "tensorflow_serving", "keras", "faiss", "aiohttp", "pandas"} & set(loaded)
    nann_modules = _run(_USE + "import sys; print(*sorted(n for n in sys.modules if n.startswith('nann')))")
    assert {name.rsplit("._", 1)[0] for name in nann_modules.split()} <= {
        "nann",
        "nann.errors",
        "nann.version",
        "nann.serving",
        "nann.serving.client",
        "nann.serving.protocol",
        "nann.serving.protocol.messages",
        "nann.serving.protocol.tensors",
    }


def test_works_where_they_are_not_installed() -> None:
    _run(_BLOCKER + _USE)


def test_query_command_works_where_they_are_not_installed() -> None:
    arguments = ["query", "--target", "localhost:1", "--item-ids", "1", "--timeout", "1"]
    code = f"from nann.cli import main\nmain({arguments})"
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKER + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "localhost:1" in done.stderr
    assert "blocked" not in done.stderr


@pytest.mark.parametrize("code", [_TENSORFLOW + _USE, _USE + _TENSORFLOW], ids=["before", "after"])
def test_tensorflow_may_be_imported_in_the_same_process(code: str) -> None:
    _run(code)


def test_serve_command_names_the_extra_it_needs() -> None:
    code = "from nann.cli import main\nmain(['serve', '--model_base_path', 'models'])"
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKER + code], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "pip install nann[tensorflow]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["data prepare --source x.csv --out y", "train --data x --out y"])
def test_other_commands_name_the_extra_too(command: str) -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras", "pandas", "faiss"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from nann.cli import main
main({command.split()!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install nann[tensorflow]" in done.stderr
    assert "Traceback" not in done.stderr
