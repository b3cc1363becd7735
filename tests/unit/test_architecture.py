"""The arrows between packages, and the facts that must stand in one place only."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["nann", "ops", "export", "live", "serving", "training", "bench"]

# The ground floor, which everything may import and which imports nothing else of ours.
GROUND_FLOOR = {"nann.errors", "nann.files", "nann.lazy", "nann.progress", "nann.run", "nann.version"}

# What each part may import of ours besides the ground floor and itself; the longest matching prefix counts.
ARROWS = {
    **{module: set() for module in GROUND_FLOOR},
    "nann": set(),
    "nann.cli": {"nann"},
    "nann.ops": set(),
    "nann.export": {"nann.ops"},
    "nann.live": {"nann.export", "nann.ops"},
    "nann.training": {"nann.export", "nann.ops"},
    "nann.bench": {"nann.export", "nann.live", "nann.ops", "nann.serving.client", "nann.training"},
    "nann.serving": set(),
    "nann.serving.client": {"nann.serving.protocol"},
    "nann.serving.protocol": set(),
    "nann.serving.server": {"nann.ops", "nann.serving.protocol"},
}
# Folders that have no modules of their own but `__init__`: all others belong to one of the parts above.
HOLLOW = {"nann", "nann.serving"}
# The client and the protocol are installed alone: of the ground floor they need the errors only.
ALONE = {package: {"nann.errors"} for package in ("nann.serving.client", "nann.serving.protocol")}


@functools.cache
def modules() -> dict[str, Path]:
    """Module name as imported -> file."""
    found = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if package == "nann" else ("nann", *parts)
            found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """What of ours a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in names if name == "nann" or name.startswith("nann.")}


def imported_modules(module: str) -> set[str]:
    """The modules of ours that a module imports anywhere, or names in a string, as `lazy_names` does."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A name that is a module is imported from its file, any other from the package's.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else str(node.module) for name in names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Names of packages around the module are no imports: they are where its templates lie, say.
            name = node.value.partition(":")[0]
            found |= set() if is_within(module, name) else {name}
    return found & modules().keys()


def is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_follow_the_arrows(module: str) -> None:
    path = modules()[module]
    if module == "nann.__main__":
        return  # The command line started with python -m.
    package = max((prefix for prefix in ARROWS if is_within(module, prefix)), key=len)
    assert package not in HOLLOW or module == package, f"{module}: ARROWS does not say what it may import"
    allowed = ARROWS[package] | ALONE.get(package, GROUND_FLOOR) | ({package} - HOLLOW)
    for name in imports(path):
        # `from nann import ops` reads as nann.ops.
        assert any(is_within(name, prefix) for prefix in allowed), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_private_modules_are_used_in_their_own_package_only(module: str) -> None:
    for name in imports(modules()[module]):
        parts = name.split(".")
        private = next((i for i, part in enumerate(parts) if re.match("_[a-z]", part)), None)
        if private is not None:
            assert is_within(module, ".".join(parts[:private])), f"{module} imports {name}"


def test_no_import_goes_round() -> None:
    """Imports inside functions count, and the commands that `nann.cli` imports by name when they run."""
    waiting = {module: imported_modules(module) for module in modules()}
    waiting["nann.cli"] |= {module for module in modules() if is_within(module, "nann.cli")} - {"nann.cli"}
    while waiting:
        ready = [module for module, needed in waiting.items() if not needed & (waiting.keys() - {module})]
        assert ready, f"these import each other in a circle, or wait for it: {sorted(waiting)}"
        for module in ready:
            del waiting[module]


def test_the_core_and_its_headers_know_no_tensorflow() -> None:
    core = ROOT / "ops" / "core"
    for path in sorted(core.rglob("*.*")):
        for include in re.findall(r'#include [<"]([^>"]+)', path.read_text()):
            assert not include.startswith(("tensorflow/", "tsl/", "xla/")), f"{path.name}: {include}"
            inside = not include.startswith("..") or core in (path.parent / include).resolve().parents
            assert inside, f"{path.name}: {include}"


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("ops/kernels", {"ops/core", "ops/kernels"}),
        ("ops/defs", {"ops/defs"}),
        ("serving/server/front", {"serving/server"}),
        ("serving/tf_serving", {"serving/tf_serving"}),
    ],
)
def test_native_code_includes_what_it_may(folder: str, allowed: set[str]) -> None:
    paths = [path for path in sorted((ROOT / folder).rglob("*.*")) if path.suffix in (".c", ".cc", ".h")]
    assert paths
    for path in paths:
        for include in re.findall(r'#include "([^"]+)', path.read_text()):
            if "/" in include and not include.startswith(("..", "ops/", "serving/")):
                continue  # Of a library.
            start = ROOT if include.startswith(("ops/", "serving/")) else path.parent
            inside = (start / include).resolve().relative_to(ROOT).parts[:2]
            assert "/".join(inside) in allowed, f"{path.name}: {include}"


def test_cmake_lists_every_source_of_the_front() -> None:
    folder = ROOT / "serving" / "server" / "front"
    listed = re.findall(r"\w+\.cc", (folder / "sources.cmake").read_text())
    assert sorted(listed) == sorted(path.name for path in folder.glob("*.cc"))


@pytest.mark.parametrize(("package", "cmake"), [("ops", "sources.cmake"), ("tests/cc", "CMakeLists.txt")])
def test_cmake_and_bazel_list_every_source(package: str, cmake: str) -> None:
    folder = ROOT / package
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".cc", ".h")}
    sources = {name for name in present if name.endswith(".cc")}
    assert set(re.findall(r"[\w/]+\.cc", (folder / cmake).read_text())) == sources
    # Bazel's language reads as Python. Headers are listed too: a build in a sandbox sees no other files.
    build = ast.parse((folder / "BUILD").read_text())
    assert {name for name in _strings(build) if name.endswith((".cc", ".h"))} == present
    headers = [node.value for node in ast.walk(build) if isinstance(node, ast.keyword) and node.arg == "hdrs"]
    assert not {name for each in headers for name in _strings(each) if name.endswith(".cc")}


def _strings(tree: ast.AST) -> set[str]:
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def test_bazel_knows_every_label_of_abseil() -> None:
    """Without Bazel: a label that WORKSPACE does not give fails the build in CI only."""
    used = set()
    for package in ("ops", "tests/cc"):
        used |= set(re.findall(r'"@com_google_absl(//absl/[\w/:]+)"', (ROOT / package / "BUILD").read_text()))
    given = set(re.findall(r'"(//absl/[\w/:]+)"', (ROOT / "WORKSPACE").read_text()))
    assert {label if ":" in label else f"{label}:{label.rsplit('/')[-1]}" for label in used} == given


def test_the_version_stands_in_one_file() -> None:
    version = re.search(r'"(.+)"', (ROOT / "nann" / "version.py").read_text())
    assert version is not None
    files = [ROOT / "pyproject.toml", ROOT / "CMakeLists.txt", *(ROOT / "ops").rglob("*.cmake")]
    assert not [path.name for path in files if f'"{version[1]}"' in path.read_text()]


def test_the_supported_tensorflow_versions_stand_in_one_file() -> None:
    """Ranges, that is: requirements.txt is made from them, builds and documents name one release."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kinds = ("", ".cmake", ".py", ".sh", ".toml", ".txt")
    names = [name for name in tracked.splitlines() if not name.startswith("tests/data/")]
    files = [ROOT / name for name in names if (ROOT / name).suffix in kinds]
    ranges = re.compile(r"tensorflow[\w-]*\s*[<>~!]=?\s*\d")
    # Files without an ending may be binary.
    texts = [(path.name, path.read_text(errors="replace")) for path in files if path.is_file()]
    assert [name for name, text in texts if ranges.search(text)] == ["pyproject.toml"]


@pytest.mark.parametrize(
    "module",
    [
        *("nann", "nann.cli", "nann.ops", "nann.export", "nann.live", "nann.training"),
        *("nann.bench.load", "nann.bench.peers", "nann.bench.table"),
    ],
)
def test_importing_a_package_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print([m for m in ('tensorflow', 'keras', 'faiss') if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"


def test_files_stay_readable_in_length() -> None:
    endings = (".py", ".cc", ".h")
    folders = [ROOT / name for name in [*PACKAGES, "tests", "tools"]]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in endings]
    long = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name: lines for name, lines in long.items() if lines > 420} == {}
