"""`nann train --config`: a model and its training from a file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from nann import training
from nann.cli import main

FILE = """
data = "DATA"
model = "mixture"
width = 48
parts = 4
learning-rate = 1e-3
deterministic = true
set = {gate = 32, name = "small"}
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the command would have trained."""
    seen: list[dict[str, Any]] = []

    def train(data: Path, out: Path, options: Any, **further: Any) -> Any:
        seen.append({"data": data, "out": out, "options": options, **further})
        return SimpleNamespace(training={}, history=[{"step": 1}])

    monkeypatch.setattr(training, "train", train)
    return seen


def test_a_file_names_a_model_its_sizes_and_its_training(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text(FILE)
    result = CliRunner().invoke(main, ["train", "--config", str(file), "--out", "RUN", "--width", "64"])
    assert result.exit_code == 0, result.output
    (call,) = asked
    assert (call["data"], call["out"], call["model"]) == (Path("DATA"), Path("RUN"), "mixture")
    assert call["sizes"] == {"width": 64, "parts": 4, "gate": 32, "name": "small"}
    assert (call["options"].learning_rate, call["options"].deterministic) == (1e-3, True)


def test_options_are_named_as_the_command_line_does(tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    file = tmp_path / "mixture.toml"
    file.write_text("settings = ['gate=32']")
    result = CliRunner().invoke(main, ["train", "--config", str(file), "--out", "RUN"])
    assert result.exit_code != 0
    assert "found 'settings'" in result.output
    file.write_text("data = 'DATA'\nset = ['gate=32']\nmlp = [64, 32]")
    CliRunner().invoke(main, ["train", "--config", str(file), "--out", "RUN"], catch_exceptions=False)
    assert asked[0]["sizes"] == {"gate": 32, "mlp": (64, 32)}
