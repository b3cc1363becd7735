"""The table: its rows, the page that is written of them, what is kept between runs."""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nann.bench.statistics import Ratio
from nann.bench.table import _rows
from nann.bench.table._page import format_bound, format_value, write_table
from nann.bench.table._rows import ROWS, kept_results, measure_rows
from nann.bench.table._trained_rows import Found, cheapest_of, pareto_best
from nann.bench.workloads import Check, Outcome, TableOptions
from nann.cli import main
from nann.errors import InvalidInputError
from nann.progress import OnProgress

FASTER = Check.of("faster than stock TensorFlow ops", Ratio(4.2, 4.1, 4.4), 4.0)
MEMORY = Check("memory", 0.12, 0.10, at_least=False, unit="%")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Rows that were measured; none of them is, really."""
    names: list[str] = []

    def measure(function: object, name: str, options: TableOptions, *, on_progress: OnProgress) -> Outcome:
        names.append(name)
        on_progress("rounds", 1, 1)
        if name == "load":
            raise OSError("No space left on device")
        return Outcome([FASTER, MEMORY], {"nann, ms": 1234.5, "scorer": "native, float32"})

    monkeypatch.setattr(_rows, "in_new_process", measure)
    return names


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_a_function_that_takes_its_arguments(name: str) -> None:
    module, function = ROWS[name].function.split(":")
    found = getattr(importlib.import_module(module), function)
    inspect.signature(found).bind(TableOptions(work=Path()), lambda *_: None, **ROWS[name].arguments)


def test_checks_hold_from_their_bound_on() -> None:
    assert Check("", 4.0, 4.0).holds
    assert not Check("", 3.99, 4.0).holds
    assert Check("", 1.5, 1.5, at_least=False).holds
    assert not Check("", 1.51, 1.5, at_least=False).holds
    assert format_value(FASTER.to_json()) == "4.20x (4.10x to 4.40x)"
    assert format_bound(MEMORY.to_json()) == "at most 10.0 %"
    assert format_value(MEMORY.to_json()) == "12.0 %"


def test_rows_are_kept_and_measured_again_one_by_one(tmp_path: Path, measured: list[str]) -> None:
    options = TableOptions(work=tmp_path, scale=0.5)
    stages: list[str] = []
    measure_rows(options, ["split", "trained"], on_progress=lambda stage, *_: stages.append(stage))
    assert stages == ["split: rounds", "trained: rounds"]
    before = kept_results(options)
    assert list(before) == ["trained", "split"]  # as the table has them
    measure_rows(options, ["split"])
    assert measured == ["split", "trained", "split"]
    assert list(kept_results(options)) == ["trained", "split"]
    assert kept_results(options)["trained"] == before["trained"]
    assert kept_results(TableOptions(work=tmp_path)) == {}  # at another scale


def test_a_row_that_fails_costs_no_other(tmp_path: Path, measured: list[str]) -> None:
    options = TableOptions(work=tmp_path)
    failed = measure_rows(options, ["load", "split"])
    assert failed == {"load": "OSError: No space left on device"}
    assert list(kept_results(options)) == ["split"]


def test_unknown_rows_are_refused(tmp_path: Path, measured: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="found nonsense"):
        measure_rows(TableOptions(work=tmp_path), ["split", "nonsense"])
    assert measured == []


def page_of(
    tmp_path: Path, results: dict[str, Any], scale: float = 1.0, elsewhere: list[dict[str, Any]] | None = None
) -> str:
    page = tmp_path / "docs" / "performance.md"
    write_table(results, page, scale=scale, command="nann bench table ...", elsewhere=elsewhere or [])
    return page.read_text()


def test_the_page_has_every_row_with_figure_bound_and_machine(tmp_path: Path, measured: list[str]) -> None:
    options = TableOptions(work=tmp_path, rounds=7)
    measure_rows(options, ["attention-100k"])
    text = page_of(tmp_path, kept_results(options))
    for name, row in ROWS.items():
        assert f"| {name} | {row.work} |" in text
    assert "| faster than stock TensorFlow ops: at least 4.00x | 4.20x (4.10x to 4.40x) | yes |" in text
    assert "| memory: at most 10.0 % | 12.0 % | **no** |" in text
    assert text.count("not measured yet") == len(ROWS) - 1
    assert "| nann, ms | 1,234 |" in text
    assert "| scorer | native, float32 |" in text
    assert "7 rounds" in text
    assert "| cores | " in text
    assert "figures mean nothing" not in text
    assert (tmp_path / "docs" / "performance.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "docs" / "performance.json").read_text())
    assert figures["attention-100k"]["checks"][0]["holds"] is True


def test_figures_of_another_processor_have_a_table_of_their_own(tmp_path: Path, measured: list[str]) -> None:
    options = TableOptions(work=tmp_path)
    measure_rows(options, ["attention-100k"])
    here = kept_results(options)
    there = json.loads(json.dumps(here))
    there["attention-100k"]["machine"] |= {"processor": "Another One", "instructions": "amx_bf16"}
    there["attention-100k"]["checks"][0]["value"] = 5.5
    page_of(tmp_path, there)
    figures = str(tmp_path / "docs" / "performance.json")
    page = tmp_path / "page" / "performance.md"
    arguments = [
        "bench",
        "table",
        "--work",
        str(tmp_path),
        "--no-measure",
        "--out",
        str(page),
        "--also",
        figures,
    ]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    before, _, after = page.read_text().partition("## On another processor: Another One")
    assert "| 4.20x (4.10x to 4.40x) | yes |" in before
    assert "with amx_bf16" in after
    assert "| 5.50x (4.10x to 4.40x) | yes | nann, ms: 1,234; scorer: native, float32 |" in after
    assert "--also docs/performance.json" in before
    assert json.loads(page.with_suffix(".json").read_text()) == here


def test_a_trial_is_no_measurement(tmp_path: Path, measured: list[str]) -> None:
    options = TableOptions(work=tmp_path, scale=0.01)
    measure_rows(options, ["split"])
    assert "**These corpora have 1 % of the items asked for" in page_of(tmp_path, kept_results(options), 0.01)
    assert options.items(1_000_000) == 10_000
    assert options.items(1000) == 3000  # a walk needs a corpus


def test_a_page_without_results_is_a_skeleton(tmp_path: Path) -> None:
    text = page_of(tmp_path, {})
    assert text.count("not measured yet") == len(ROWS)
    assert "png" not in text


def test_pareto_best_beams_agree_more_for_more_items() -> None:
    found = [Found((n,), agreement, items) for n, (agreement, items) in enumerate(
        [(0.5, 100), (0.9, 300), (0.8, 300), (0.7, 400), (0.95, 500), (0.4, 50)]
    )]  # fmt: skip
    assert [of.level_topn[0] for of in pareto_best(found)] == [5, 0, 1, 4]


def test_the_cheapest_beams_are_of_those_that_agree() -> None:
    found = [Found((0,), 0.99, 500), Found((1,), 0.98, 300), Found((2,), 0.97, 100)]
    assert cheapest_of(found).level_topn == (1,)
    near = [*found[2:], Found((3,), 0.965, 50), Found((4,), 0.95, 10)]
    assert cheapest_of(near).level_topn == (3,)  # none does: the cheapest that comes near the best there is
