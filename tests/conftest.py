"""What all tests share: no deadlines, lines of figures after a run, and no skipped test in CI."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import Any

import hypothesis
import pytest

# An example may take as long as a slow machine needs.
hypothesis.settings.register_profile("nann", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("nann")

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def figure(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Print a line after the tests."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the lines of a process of pytest-xdist."""
    node.config.stash.setdefault(_FIGURES, []).extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # this is such a process
        session.config.workeroutput["figures"] = session.config.stash.get(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_a_skip_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_a_skip_in_ci(report)
    return report


def _refuse_a_skip_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure: CI has all that tests need, and says when that is no longer true."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        _, _, reason = report.longrepr  # what pytest has for a skip: file, line, reason
        report.outcome = "failed"
        report.longrepr = f"no test is skipped where the environment variable CI is set; found: {reason}"
