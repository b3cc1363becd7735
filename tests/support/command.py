"""The command line, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from nann.cli import main


def run_json(*arguments: str | Path) -> dict[str, Any]:
    """What `nann ARGUMENTS --json` prints; fails the test when the command fails."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    output: dict[str, Any] = json.loads(result.stdout)
    return output
