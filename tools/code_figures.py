"""code_figures.py [DIR]: how large the product's code is, and the longest of its parts, counted by lizard.

Lines of code leave out tests, documentation, blank lines, comments and docstrings. The length of a function
is that of its text, with its comments and docstring.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import lizard

FOLDERS = ("nann", "ops", "export", "live", "serving", "training", "bench", "tools")
LANGUAGES = {"Python": (".py",), "C++": (".cc", ".h", ".c")}


def figures(root: Path, endings: tuple[str, ...]) -> str:
    """One line about all files of one language below `root` that git tracks."""
    tracked = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=root, capture_output=True, text=True, check=True
    )
    names = [
        name for name in tracked.stdout.splitlines() if name.endswith(endings) and (root / name).is_file()
    ]
    files = {name: lizard.analyze_file(str(root / name)) for name in names}
    functions = [(f.length, f"{name}:{f.name}") for name, file in files.items() for f in file.function_list]
    lengths = sorted(length for length, _ in functions)
    lines = {name: (root / name).read_text().count("\n") for name in names}
    (most, longest), longest_file = max(functions), max(lines, key=lines.__getitem__)
    code, median = sum(file.nloc for file in files.values()), statistics.median(lengths)
    ninetieth = lengths[9 * (len(lengths) - 1) // 10]
    return (
        f"{code:,} lines of code in {len(files)} files; functions: median {median:g} lines, 90th percentile "
        f"{ninetieth}, longest {most} ({longest}); "
        f"longest file {lines[longest_file]} lines ({longest_file})"
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    for language, endings in LANGUAGES.items():
        print(f"{language}: {figures(folder, endings)}")
