"""What a command prints for the user to copy can be copied, whatever characters the paths have."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.cli._console import shell_command

ROOT = Path(__file__).parents[2]
ODD = "it's :smile: a [b] (c) $HOME \\ *" + "é" * 40  # Longer than a line.


def _next_commands(*arguments: str | Path) -> list[list[str]]:
    """The commands that a command names, as a shell reads them."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert done.exit_code == 0, f"{done.output}{done.exception!r}"
    return [shlex.split(command) for command in re.findall(r"(?:Next.*|or): (nann .*)", done.stdout)]


def test_words_are_quoted_where_a_shell_needs_it() -> None:
    assert shell_command("nann", "index", "--run", Path("RUN/a-b_1")) == "nann index --run RUN/a-b_1"
    assert shlex.split(shell_command("nann", Path(ODD))) == ["nann", ODD]


def test_after_data(tmp_path: Path) -> None:
    out = tmp_path / ODD
    source = "synthetic:items=50,users=20,events=10,seed=1"
    found = _next_commands("data", "prepare", "--source", source, "--out", out)
    assert found == [["nann", "train", "--data", str(out), "--out", "RUN"]]


def test_after_train_and_embed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nann.training

    run = str(tmp_path / ODD)
    trained = SimpleNamespace(training={}, history=[{"step": 1}])
    embedded = {"items": 1, "dim": 1, "embeddings": run}
    monkeypatch.setattr(nann.training, "train", lambda *_, **__: trained, raising=False)
    monkeypatch.setattr(nann.training, "embed", lambda *_, **__: embedded, raising=False)
    assert _next_commands("train", "--data", "DATA", "--out", run) == [["nann", "embed", "--run", run]]
    assert _next_commands("embed", "--run", run) == [["nann", "index", "--run", run]]


def test_after_index(tmp_path: Path) -> None:
    run = tmp_path / ODD
    (run / "embeddings").mkdir(parents=True)
    np.save(run / "embeddings/item_ids.npy", np.arange(9))
    np.save(run / "embeddings/item_embs.npy", np.eye(9, dtype=np.float32))
    assert _next_commands("index", "--run", run, "--m", "4") == [
        ["nann", "check", "--run", str(run)],
        ["nann", "export", "--run", str(run), "--out", "MODELS/nann/1"],
    ]


def _text_before_values(node: ast.JoinedStr) -> list[str]:
    """For each value in an f-string, the text that stands before it."""
    parts: list[Any] = node.values
    return [
        before.value
        for before, value in itertools.pairwise(parts)
        if isinstance(before, ast.Constant) and isinstance(value, ast.FormattedValue)
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "nann" / "cli").glob("*.py")), ids=lambda path: path.name)
def test_no_command_is_pieced_together_without_quotes(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            for text in _text_before_values(node):
                assert not re.search(r"--[\w-]+[ =]$", text), f"{path.name}:{node.lineno}: use shell_command"
