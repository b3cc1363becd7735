"""The op library in a process that is not Python: a small C++ server, with only the shim in LD_PRELOAD."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from support.cpp_server import BEAMS, answer_of, ask_zeros, build_look_alike
from support.processes import ROOT, run
from support.tiny_model import E, L
from support.tiny_run import write_run

SHIM_SOURCE = ROOT / "serving" / "tf_serving" / "preload" / "preload.c"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from nann.export import ExportOptions, export_model

    folder = tmp_path_factory.mktemp("preload")
    export_model(write_run(folder / "run"), folder / "models" / "1", ExportOptions(table_bytes=0))
    return folder / "models" / "1"


def test_a_cpp_process_answers_with_only_the_shim_preloaded(server: Path, model: Path, shim: Path) -> None:
    import numpy as np
    import tensorflow as tf

    found = answer_of(ask_zeros(server, model, L * E, preload=shim))
    loaded = tf.saved_model.load(str(model))
    expected = loaded.signatures["serving_default"](
        comm_seq=tf.zeros([1, L * E], tf.float16), level_topn=tf.constant(BEAMS)
    )
    np.testing.assert_array_equal(found["top_k"], expected["top_k"][0])
    np.testing.assert_array_equal(found["scores"].astype(np.float32), expected["scores"][0])


def test_without_the_shim_the_op_is_unknown(server: Path, model: Path) -> None:
    done = ask_zeros(server, model, L * E)
    assert done.returncode == 1
    assert "Op type not registered 'Nann>IndexHandle' in binary" in done.stderr


def test_a_process_of_another_tensorflow_is_refused(server: Path, model: Path, tmp_path: Path) -> None:
    """In a second; tests/integration/cross_version does it with a library of another version."""
    other = tmp_path / "libnann_preload.so"
    flags = ["-shared", "-fPIC", '-DNANN_TENSORFLOW_VERSION="2.19.1"']
    assert run("gcc", *flags, SHIM_SOURCE, "-o", other).returncode == 0
    done = ask_zeros(server, model, L * E, preload=other)
    assert done.returncode == 1
    assert re.search(
        r"nann: the ops are built for TensorFlow 2\.19\.1, but this process is TensorFlow 2\.\d+", done.stderr
    )


def test_a_process_without_tensorflow_does_not_notice(shim: Path) -> None:
    done = run("bash", "-c", "true", preload=shim)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_library_is_named(server: Path, model: Path, shim: Path, tmp_path: Path) -> None:
    shutil.copy(shim, tmp_path)
    done = ask_zeros(server, model, L * E, preload=tmp_path / shim.name)
    assert done.returncode == 1
    assert "nann: the ops do not load" in done.stderr
    assert str(tmp_path / "libnann_ops.so") in done.stderr


def test_check_preload_finds_every_symbol_in_a_server_that_has_them(shim: Path, tmp_path: Path) -> None:
    library = shim.with_name("libnann_ops.so")
    done = run(ROOT / "tools" / "check_preload", library, build_look_alike(library, tmp_path / "server"))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"server: all \d{3} symbols that .*libnann_ops\.so needs are there", done.stdout)


def test_check_preload_names_the_symbols_that_a_server_lacks(shim: Path) -> None:
    """The wheel's framework alone: the C API is in its other library."""
    import tensorflow as tf

    framework = Path(tf.__file__).parent / "libtensorflow_framework.so.2"
    done = run(ROOT / "tools" / "check_preload", shim.with_name("libnann_ops.so"), framework)
    assert done.returncode == 1
    assert done.stdout == "TF_Version\n"
    assert done.stderr.startswith("1 of the symbols that ")


def test_check_preload_looks_into_the_tensorflow_libraries_that_a_server_links(
    shim: Path, server: Path
) -> None:
    done = run(ROOT / "tools" / "check_preload", shim.with_name("libnann_ops.so"), server)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("library", "server"), [("/etc/passwd", "/bin/true"), ("{library}", "/etc/passwd")])
def test_check_preload_refuses_what_is_no_library(shim: Path, library: str, server: str) -> None:
    library = library.format(library=shim.with_name("libnann_ops.so"))
    done = run(ROOT / "tools" / "check_preload", library, server)
    assert done.returncode == 1
    assert "/etc/passwd: expected" in done.stderr
