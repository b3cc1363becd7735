"""Coverage-guided fuzzing of REST bodies and tensor protos with atheris; `make test-long` runs it.

PYTHONPATH=tests .venv/bin/python tests/fuzz_serving.py -runs=1000000
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import FunctionType

# TensorFlow logs what callers send it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import atheris

from support.serving_fuzz import any_request, seeds


def watch(package: str) -> None:
    """Have atheris see which lines of a package run. Its import hook does not see editable installations."""
    for name, module in list(sys.modules.items()):
        if not name.startswith(package):
            continue
        members = [value for value in vars(module).values() if getattr(value, "__module__", None) == name]
        for member in members:
            for function in vars(member).values() if isinstance(member, type) else [member]:
                if isinstance(function, FunctionType):
                    atheris.instrument_func(function)


def main() -> None:
    """Fuzz from the recorded requests; an input that fails is written to a file and ends the run."""
    watch("nann.serving")
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / str(number)).write_bytes(seed)
        # A longer input finds nothing that a shorter one does not, and takes longer.
        atheris.Setup([*sys.argv, "-max_len=2000", folder], any_request)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
