"""`assets.extra/nann_manifest.json`: the description of an export and the checksums of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nann.errors import InvalidFileError, VerificationError
from nann.files import read_json, write_json

FORMAT_VERSION = 1
MANIFEST = "assets.extra/nann_manifest.json"
# Read at a time; large enough that hashing, not calls, takes the time.
_BLOCK_BYTES = 2**22


def write_manifest(model_dir: Path, content: dict[str, Any], on_progress: Callable[[int, int], None]) -> None:
    """Write `content`, and size and sha256 of every file below `model_dir`."""
    document = {"format_version": FORMAT_VERSION, **content, "files": _sums(model_dir, on_progress)}
    write_json(model_dir / MANIFEST, document)


def read_manifest(model_dir: Path) -> dict[str, Any]:
    """Read the manifest of an export; InvalidFileError when it is missing, damaged or of another format."""
    path = model_dir / MANIFEST
    next_step = "Name a version folder that `nann export` wrote, such as MODELS/nann/1."
    manifest = read_json(path, what="the manifest of an export", next_step=next_step)
    found = manifest.get("format_version")
    if found != FORMAT_VERSION:
        raise InvalidFileError(
            f"{path}: expected format_version {FORMAT_VERSION}, found {found!r}. {next_step}"
        )
    return manifest


def describe_scorer(manifest: dict[str, Any]) -> dict[str, str]:
    """How the export searches, by name: executor, precision, walk (fixed, adaptive, proxy or all)."""
    scorer = manifest["scorer"]
    # Manifests before bfloat16 name the precision alone, and older ones have no `walk` or `expand`.
    precision = scorer.get("precision") or "float32"
    return {
        "executor": scorer["executor"],
        "precision": precision["precision"] if isinstance(precision, dict) else precision,
        "walk": scorer.get("walk") or ("adaptive" if scorer.get("expand") else "fixed"),
    }


def check_sums(model_dir: Path, manifest: dict[str, Any], on_progress: Callable[[int, int], None]) -> None:
    """Raise VerificationError that names the first file that is missing, added or changed."""
    expected: dict[str, Any] = manifest["files"]
    found = _sums(model_dir, on_progress)
    again = "Copy the export again, or export again."
    for name in sorted({*expected, *found}):
        path = model_dir / name
        if name not in found:
            raise VerificationError(
                f"{path}: expected a file of {expected[name]['bytes']} bytes, found none. {again}"
            )
        if name not in expected:
            raise VerificationError(f"{path}: expected only the files of {MANIFEST}, found another. {again}")
        if found[name] != expected[name]:
            raise VerificationError(
                f"{path}: expected {_described(expected[name])}, found {_described(found[name])}. {again}"
            )


def _described(entry: dict[str, Any]) -> str:
    return f"{entry['bytes']} bytes with sha256 {entry['sha256']}"


def _sums(model_dir: Path, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    files = sorted(path for path in model_dir.rglob("*") if path.is_file())
    names = {path.relative_to(model_dir).as_posix(): path for path in files}
    names.pop(MANIFEST, None)
    total = sum(path.stat().st_size for path in names.values())
    done = 0
    sums = {}
    for name, path in names.items():
        sum_, size = hashlib.sha256(), 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                sum_.update(block)
                size += len(block)
                on_progress(done + size, total)
        done += size
        sums[name] = {"bytes": size, "sha256": sum_.hexdigest()}
    return sums
