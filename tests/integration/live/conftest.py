"""An export that takes segments, a copy for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.live import write_export


@pytest.fixture(scope="session")
def live_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("live"), items=150, share=1.0, walk="fixed")


@pytest.fixture
def model_dir(live_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(live_export, tmp_path / "models" / "nann" / "1"))
