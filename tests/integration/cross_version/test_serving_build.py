"""What the official server preloads: old C++ ABI, nothing of TensorFlow linked, runs on Ubuntu 22.04."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import nann.ops
from support import tensorflow_versions
from support.processes import ROOT, output_of, run

# The newest that Ubuntu 22.04 has: the official images are made of it.
NEWEST_ALLOWED = {"GLIBC": (2, 35), "GLIBCXX": (3, 4, 30), "CXXABI": (1, 3, 13)}


@pytest.fixture(scope="module", params=tensorflow_versions.supported())
def libraries(request: pytest.FixtureRequest) -> Path:
    """Folder of the op library and the shim, built for one of the supported versions."""
    version: str = request.param
    if version != tensorflow_versions.installed():
        return tensorflow_versions.preload_libraries(version)
    # As `make preload` does, without a second copy of the installed TensorFlow.
    build = ROOT / "build" / "cmake" / f"preload-{version}"
    options = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", f"-DPython3_EXECUTABLE={sys.executable}"]
    output_of("cmake", "-S", ROOT, "-B", build, *options, "-DNANN_OLD_ABI=ON")
    output_of("cmake", "--build", build)
    return build / "ops"


def test_nothing_of_tensorflow_is_linked(libraries: Path) -> None:
    needed = re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-d", libraries / "libnann_ops.so"))
    assert set(needed) == {"libstdc++.so.6", "libgcc_s.so.1", "libc.so.6"}


def test_every_undefined_name_is_of_the_old_abi(libraries: Path) -> None:
    undefined = output_of("nm", "-D", "--undefined-only", libraries / "libnann_ops.so")
    assert "tensorflow8OpKernel" in undefined
    assert "cxx11" not in undefined


def test_only_names_of_the_standard_library_are_visible(libraries: Path) -> None:
    defined = output_of("nm", "-D", "--demangle", "--defined-only", libraries / "libnann_ops.so")
    assert [line for line in defined.splitlines() if "nann" in line or "tensorflow" in line] == []


@pytest.mark.parametrize("name", NEWEST_ALLOWED)
def test_it_loads_on_ubuntu_22_04(libraries: Path, name: str) -> None:
    found = re.findall(rf"\b{name}_([\d.]+)", output_of("objdump", "-T", libraries / "libnann_ops.so"))
    assert found
    assert max(tuple(map(int, version.split("."))) for version in found) <= NEWEST_ALLOWED[name]


def test_check_preload_says_what_a_server_of_the_new_abi_lacks(libraries: Path) -> None:
    # The library of the wheel has the new ABI: it links with the wheel, and cannot carry this build.
    done = run(ROOT / "tools" / "check_preload", libraries / "libnann_ops.so", nann.ops.library_path())
    assert done.returncode == 1
    assert "tensorflow::OpKernel" in done.stdout
    assert "are missing in" in done.stderr
