"""Rows of the table on small corpora: that they measure what they say, not how fast it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from nann.bench.peers.stock import against_stock
from nann.bench.table import _size_rows, _split_rows, _trained_rows
from nann.bench.workloads import Outcome, TableOptions
from nann.cli import main


@pytest.fixture(scope="session")
def options(tmp_path_factory: pytest.TempPathFactory) -> TableOptions:
    work = tmp_path_factory.mktemp("rows")
    return TableOptions(work=work, scale=0.001, rounds=2, requests=3, m=8, ef_construction=40)


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


def value(outcome: Outcome, what: str) -> float:
    (check,) = [check for check in outcome.checks if what in check.what]
    return check.value


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_walk_finds_what_the_walk_in_stock_ops_finds(
    options: TableOptions, precision: str, figure: Callable[[str], None]
) -> None:
    outcome = against_stock(
        options, silent, items=100_000, faster=4.0, same_ids=0.99, tuning={"precision": precision}
    )
    shared = value(outcome, "ids shared")
    figure(f"{precision}: ids shared with stock TensorFlow ops: {shared:.4f}, more than 0.99 is asked for")
    assert shared > 0.99
    assert value(outcome, "faster") > 0
    assert outcome.figures["scorer"] == f"native, {precision}"


def test_load_counts_files_and_memory(options: TableOptions) -> None:
    # Each round is two processes that import TensorFlow.
    outcome = _size_rows.load_and_memory(replace(options, rounds=1), silent, items=4_000_000)
    assets = options.work / "large-n4000" / "models" / "large" / "1" / "assets"
    size = sum(path.stat().st_size for path in assets.iterdir())
    assert outcome.figures["files, MB"] == pytest.approx(size / 1e6)
    assert value(outcome, "load time") > 0
    assert value(outcome, "peak memory") > 1


def test_growth_compares_each_size_with_the_next(options: TableOptions) -> None:
    outcome = _size_rows.latency_growth(
        options, silent, sizes=(3_000_000, 4_000_000, 5_000_000), attention=False
    )
    assert [check.what for check in outcome.checks] == [
        "4,000 items / 3,000 items",
        "5,000 items / 4,000 items",
    ]


def test_split_scorers_are_the_unsplit_ones(options: TableOptions) -> None:
    outcome = _split_rows.split_equality(options, silent)
    assert value(outcome, "equal") == 1.0
    assert outcome.figures["scorers"] == 6


def test_brute_force_is_beaten_by_the_walk_of_a_trained_model(
    options: TableOptions, figure: Callable[[str], None]
) -> None:
    outcome = _trained_rows.against_brute_force(options, silent, items=3_000_000)
    fewer = outcome.figures["times fewer items scored"]
    faster = outcome.figures["times faster"]
    assert isinstance(fewer, float)
    assert isinstance(faster, float)
    agreement = value(outcome, "agreement")
    figure(
        f"walk of a trained model: {fewer:.2f} times fewer items scored, agreement {agreement:.3f}; "
        "1.0 and more than 0.5 are asked for"
    )
    assert fewer >= 1.0
    assert value(outcome, "times faster / times fewer") == pytest.approx(faster / fewer)
    assert agreement > 0.5


def test_one_command_makes_the_page(options: TableOptions, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    arguments = ["bench", "table", "--work", str(options.work), "--out", str(page), "--only", "split"]
    result = CliRunner().invoke(main, [*arguments, "--scale", "0.001", "--rounds", "2", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"]["split"]["checks"][0]["holds"] is True
    assert "scorers equal to the unsplit ones" in page.read_text()
    assert page.with_suffix(".png").exists()
