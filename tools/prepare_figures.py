"""prepare_figures.py FOLDER LINES...: speed and peak memory of `nann data prepare`, for docs/data.md.

Writes files of made-up lines (tools/userbehavior_lines.py) to FOLDER, prepares each in a process of its own,
and deletes both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from userbehavior_lines import write

LINE = (
    "{:>12,} lines, {:>6,} MiB: {:>6.1f} s, {:>9,.0f} lines/s, {:>6.1f} s of CPU time, peak memory {:.2f} GiB"
)


def measure(folder: Path, lines: int) -> str:
    """Prepare `lines` lines and describe what it took."""
    source, out = folder / f"{lines}.csv", folder / "data"
    write(lines, source)
    command = ["-m", "nann", "data", "prepare", "--source", source, "--out", out, "--overwrite"]
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command, "--json"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"nann data prepare ended with {os.waitstatus_to_exitcode(status)}")
    cpu = usage.ru_utime + usage.ru_stime
    size = source.stat().st_size >> 20
    source.unlink()
    shutil.rmtree(out)
    return LINE.format(lines, size, seconds, lines / seconds, cpu, usage.ru_maxrss / 2**20)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    for count in sys.argv[2:]:
        print(measure(where, int(count)), flush=True)
