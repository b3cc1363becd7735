"""Every public class and function of nann.export and nann.ops shows an example, and what it shows is so."""

from __future__ import annotations

import ast
import doctest
import inspect
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import keras
import numpy as np
import pytest
import tensorflow as tf

import nann.export
import nann.ops
from nann.files import link_or_copy


def _public(package: ModuleType) -> list[Any]:
    """The classes and functions that the package re-exports, by the lines `from module import X as X`."""
    nodes = ast.walk(ast.parse(inspect.getsource(package)))
    aliases = [alias for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names]
    values = [getattr(package, alias.name) for alias in aliases if alias.asname == alias.name]
    # Constants and aliases of types have no docstring of their own.
    return [value for value in values if getattr(value, "__module__", "").startswith("nann.")]


PUBLIC = [value for package in (nann.export, nann.ops) for value in _public(package)]


def _copy_linked(source: Path, target: Path) -> None:
    """A folder of one's own in which nothing is written through a link."""
    for path in source.rglob("*"):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, target / path.relative_to(source))


@pytest.fixture
def names(
    shared_run: Path, shared_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """What the examples use: RUN, its export, ORIGINAL, vectors, the index of `IndexResource`'s example."""
    _copy_linked(shared_run, tmp_path / "RUN")
    _copy_linked(shared_export, tmp_path / "MODELS/nann/1")
    _copy_linked(shared_run / "index", tmp_path / "ORIGINAL")
    link_or_copy(tmp_path / "RUN/embeddings/item_ids.npy", tmp_path / "IDS.npy")
    link_or_copy(tmp_path / "RUN/embeddings/item_embs.npy", tmp_path / "ITEMS.npy")
    graph = faiss.IndexHNSWFlat(8, 4)
    graph.add(np.load(tmp_path / "ITEMS.npy"))
    faiss.write_index(graph, str(tmp_path / "items.faiss"))
    monkeypatch.chdir(tmp_path)
    index = nann.ops.IndexResource(
        index_dir="RUN/index",
        item_ids="RUN/embeddings/item_ids.npy",
        item_tables={"item_embs": "RUN/embeddings/item_embs.npy"},
        user_tables={"item_ids": "RUN/vocabulary/item_ids.npy"},
    )
    modules = {"keras": keras, "np": np, "tf": tf, "Path": Path}
    return {**modules, "index": index, **{value.__name__: value for value in PUBLIC}}


def test_what_is_public() -> None:
    assert {value.__name__ for value in PUBLIC} >= {"export_model", "ExportOptions", "beam_search", "Level"}


@pytest.mark.parametrize("value", PUBLIC, ids=lambda value: value.__name__)
def test_example(value: Any, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(value), names, value.__name__, None, 0)
    assert test.examples, "expected an example in the docstring"
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test, out=printed.append).failed == 0, "".join(printed)
