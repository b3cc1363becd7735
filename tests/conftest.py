"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say by how much the tests of learning passed or failed: their properties named `margin`."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in getattr(report, "user_properties", ()):
                if name == "margin" and report.when == "call":
                    terminalreporter.write_line(f"margin {report.nodeid}: {value}")
