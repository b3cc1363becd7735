"""A folder of unfinished work that a later run of the same plan continues."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nann.errors import InvalidFileError, NannError
from nann.files import only_process, read_json, write_json

_PLAN, _LOCK = "plan.json", "lock"


@contextmanager
def work_folder(work: Path, plan: Mapping[str, Any], *, what: str) -> Iterator[Path]:
    """Yield the folder `work`, with what an earlier run of the same plan left in it; delete it at the end.

    After a kill, or an error of the system such as a full disk, `work` stays for the next run. Hidden files
    in it are half-written and are deleted.

    plan: what must be the same for the work to be continued, as JSON has it.
    what: what is written, for the message: "the only run that prepares this data set".

    Raises InvalidInputError when another process works in the folder.

    Example:
      >>> with work_folder(Path(".DATA.preparing"), {"rows": 3}, what="the only run here") as work:
      ...     (work / "part-0").touch()
    """
    work.mkdir(parents=True, exist_ok=True)
    found = f"{work}: expected to be {what}, found another. Wait for it."
    with only_process(work / _LOCK, otherwise=found):
        try:
            _clear_unless_planned(work, dict(plan))
            yield work
        except NannError:
            shutil.rmtree(work, ignore_errors=True)
            raise
    shutil.rmtree(work, ignore_errors=True)


def _clear_unless_planned(work: Path, plan: dict[str, Any]) -> None:
    """Delete what an earlier run left, except what this one can go on with."""
    path = work / _PLAN
    try:
        same = path.exists() and read_json(path, what="a plan", next_step="") == plan
    except InvalidFileError:
        same = False
    for each in work.iterdir():
        if each.name != _LOCK and (not same or each.name.startswith(".")):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
    if not same:
        write_json(path, plan)
