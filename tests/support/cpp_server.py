"""Processes that are TensorFlow without Python, and files that look like them."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from support.processes import ROOT, output_of, run

BEAMS = np.array([20, 30, 30, 30, 30, 10], np.int32)


def build_server() -> Path:
    """Compile load_model.cc and link it with the libraries of the installed TensorFlow.

    TensorFlow's headers take half a minute: the binary is kept in build/, by what it is made of, and only one
    process at a time compiles it.
    """
    import tensorflow as tf

    wheel = Path(tf.__file__).parent
    libraries = ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    source = ROOT / "tests" / "integration" / "preload" / "load_model.cc"
    command = [
        *["g++", "-std=c++17", "-w", "-DEIGEN_MAX_ALIGN_BYTES=64", "-isystem", wheel / "include", source],
        *[f"-L{wheel}", f"-Wl,-rpath,{wheel}", "-Wl,--no-as-needed", *libraries],
    ]
    made_of = f"{command} {tf.__version__}".encode() + source.read_bytes()
    folder = ROOT / "build" / "load_model" / hashlib.sha256(made_of).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    binary = folder / "load_model"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            output_of(*command, "-o", folder / "writing")
            (folder / "writing").rename(binary)
    return binary


def ask(
    server: Path, model: Path, signature: str, inputs: Mapping[str, Any], *, preload: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Have a process of `build_server` load `model` and answer one request; it need not succeed."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        files = [f"{name}={folder}/{number}" for number, name in enumerate(inputs)]
        for number, value in enumerate(inputs.values()):
            (Path(folder) / str(number)).write_bytes(tf.make_tensor_proto(value).SerializeToString())
        return run(server, model, signature, *files, preload=preload)


def ask_zeros(
    server: Path, model: Path, width: int, *, preload: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The same by `serving_default`, with a `comm_seq` of zeros."""
    inputs = {"comm_seq": np.zeros((1, width), np.float16), "level_topn": BEAMS}
    return ask(server, model, "serving_default", inputs, preload=preload)


def answer_of(done: subprocess.CompletedProcess[str]) -> dict[str, npt.NDArray[np.float64]]:
    """The outputs by name, flat, of a process that must have succeeded."""
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ") for line in done.stdout.splitlines()]
    return {name: np.array(values, np.float64) for name, *values in lines}


def names_lacking(library: Path) -> set[str]:
    """What a library expects of the process that loads it, besides the C and C++ libraries."""
    undefined = output_of("nm", "-D", "--undefined-only", library).split("\n")
    return {line.split()[-1] for line in undefined if line and "@" not in line and " U " in line}


def build_look_alike(library: Path, binary: Path) -> Path:
    """Write an executable that defines every name `library` lacks, as a static server; it does nothing."""
    names = names_lacking(library)
    source = binary.with_suffix(".s")
    source.write_text("".join(f'.globl "{name}"\n"{name}":\n' for name in sorted({*names, "TF_Version"})))
    output_of("gcc", "-nostdlib", "-Wl,--export-dynamic", "-Wl,--entry=TF_Version", source, "-o", binary)
    return binary
