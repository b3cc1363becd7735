"""What the authors of odd models read: the answer of an export to each odd case."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import keras

from zoo.odd import export_odd
from zoo.odd_cases import ODD_CASES
from zoo.outcome import described


def answer_of(name: str, folder: Path) -> str | None:
    """The error that the export ends in, on one line and with RUN for the run's folder; None: accepted."""
    keras.backend.clear_session()
    with contextlib.redirect_stdout(sys.stderr):  # Keras shows its progress
        error = export_odd(ODD_CASES[name], folder)
    return None if error is None else described(error).replace(str(folder / "run"), "RUN")


def main() -> None:
    """`PYTHONPATH=tests python -m zoo.odd_outcome FOLDER [NAME ...]`: a JSON object per case; default all."""
    folder, *names = sys.argv[1:]
    for name in names or ODD_CASES:
        print(json.dumps({"case": name, "answer": answer_of(name, Path(folder) / name)}), flush=True)


if __name__ == "__main__":
    main()
