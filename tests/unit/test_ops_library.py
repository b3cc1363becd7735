"""The op library that is installed: what the loader must find beside it."""

from __future__ import annotations

import re

import nann.ops
from support.processes import output_of


def test_it_needs_only_what_every_server_has() -> None:
    # Nothing of libm: its calls round differently from one version to the next.
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-d", nann.ops.library_path())))
    assert "libstdc++.so.6" in needed
    assert needed <= {"libtensorflow_framework.so.2", "libstdc++.so.6", "libgcc_s.so.1", "libc.so.6"}
