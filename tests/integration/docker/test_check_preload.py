"""tools/check_preload reads the server out of an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nann.ops
from support.cpp_server import build_look_alike
from support.processes import ROOT, run

CHECK = ROOT / "tools" / "check_preload"


def test_an_image_with_all_symbols(image_with: Callable[..., str], tmp_path: Path) -> None:
    library = nann.ops.library_path()
    server = build_look_alike(library, tmp_path / "server")
    image = image_with("nann-test-look-alike", {"/usr/bin/tensorflow_model_server": server})
    done = run(CHECK, library, image)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("nann-test-look-alike: all ")


def test_an_image_without_a_server(base_image: str) -> None:
    done = run(CHECK, nann.ops.library_path(), base_image)
    assert done.returncode == 1
    assert f"{base_image}: expected a file, or an image with /usr/bin/tensorflow_model_server" in done.stderr
