"""Options of `nann bench` from a file and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nann.bench.load import _run
from nann.cli import main

RESULT: dict[str, Any] = {"beams": []}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[_run.BenchOptions]:
    """The options that the command would have measured."""
    seen: list[_run.BenchOptions] = []

    def run_bench(options: _run.BenchOptions, **_: Any) -> dict[str, Any]:
        seen.append(options)
        return RESULT

    monkeypatch.setattr(_run, "run_bench", run_bench)
    return seen


def config(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    return ["bench", "run", "--config", str(path)]


def test_a_file_gives_what_the_command_line_does_not(tmp_path: Path, asked: list[_run.BenchOptions]) -> None:
    arguments = config(
        tmp_path,
        """
        target = "localhost:8500"
        model-dir = "models/nann/1"
        concurrency = [1, 16]
        qps = [12.5, 100]
        level-topn = [[100, 200, 200], [50, 60, 70]]
        seconds = 3
        arrivals = "constant"
        seed = 5
        """,
    )
    result = CliRunner().invoke(main, [*arguments, "--seconds", "7", "--concurrency", "2"])
    assert result.exit_code == 0, result.output
    options = asked[0]
    assert options.target == "localhost:8500"
    assert options.model_dir == Path("models/nann/1")
    assert options.level_topn == ((100, 200, 200), (50, 60, 70))
    assert options.qps == (12.5, 100.0)
    assert (options.arrivals, options.seed) == ("constant", 5)
    assert (options.seconds, options.concurrency) == (7.0, (2,))
    assert options.timeout == 10.0  # in neither


def test_stages_are_the_levels_of_load(asked: list[_run.BenchOptions]) -> None:
    arguments = ["bench", "run", "--target", "h:1", "--concurrency", "1,4", "--qps", "9,20.5"]
    CliRunner().invoke(main, [*arguments, "--max-in-flight", "32"])
    stages = [(stage.callers, stage.qps) for stage in asked[0].stages()]
    assert stages == [(1, None), (4, None), (32, 9.0), (32, 20.5)]
    CliRunner().invoke(main, ["bench", "run", "--target", "h:1", "--concurrency", "", "--qps", "9"])
    assert [(stage.callers, stage.qps) for stage in asked[1].stages()] == [(64, 9.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("durations = 3", "found 'durations'"),
        ("seconds = ", "expected a TOML file"),
        ("seconds = 'long'", "is not a valid float"),
        ("arrivals = 'sometimes'", "'sometimes' is not one of"),
    ],
)
def test_a_file_of_other_things_is_refused(tmp_path: Path, text: str, message: str) -> None:
    result = CliRunner().invoke(main, config(tmp_path, text))
    assert result.exit_code != 0
    assert message in result.output


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["bench", "run", "--config", str(tmp_path / "none.toml")])
    assert result.exit_code != 0
    assert "none.toml" in result.output


def test_unknown_metrics_and_malformed_recalls_are_refused(tmp_path: Path) -> None:
    for arguments, message in (
        (["--metrics", "ip,cosine"], "expected ip, l2 or ip,l2; found 'ip,cosine'"),
        (["--recalls", "10"], "expected pairs such as 10:0.95,200:0.9; found '10'"),
        (["--recalls", ""], "expected pairs such as 10:0.95,200:0.9; found ''"),
    ):
        result = CliRunner().invoke(main, ["bench", "peers", "--work", str(tmp_path), *arguments])
        assert result.exit_code != 0
        assert message in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to measure"),
        (["--target", "h:1", "--saved-model", "m"], "not both"),
        (["--target", "h:1", "--concurrency", ""], "expected --concurrency or --qps"),
        (["--target", "h:1", "--switch-to", "m"], "Give all three"),
        (["--target", "h:1", "--concurrency", "0"], "at least 1 caller"),
        (["--target", "h:1", "--qps", "some"], "expected numbers with commas"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["bench", "run", *arguments])
    assert result.exit_code != 0
    assert message in " ".join(result.output.split())
