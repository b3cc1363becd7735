"""The examples in the docstrings of nann.ops, run over an index of five items."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import nann.ops
from nann.export import GraphIndex, Level, write_index
from nann.ops import IndexMeta

PUBLIC = [
    name
    for name in dir(nann.ops)
    if not name.startswith("_")
    and getattr(getattr(nann.ops, name), "__module__", "").startswith("nann.ops.")
    and callable(getattr(nann.ops, name))
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the examples: items 10 to 50 in a chain, entered at item 30."""
    meta = IndexMeta(1, 5, 2, "l2", m=1, ef_construction=1, start_level=1, hops_per_level=(2,))
    chain = Level(np.array([1, 0, 2, 1, 3, 2, 4, 3], np.int32), np.array([0, 1, 3, 5, 7, 8]))
    write_index(tmp_path / "index", GraphIndex(meta, np.array([2], np.int32), (chain,)))
    np.save(tmp_path / "item_ids.npy", np.array([10, 20, 30, 40, 50]))
    np.save(tmp_path / "item_embs.npy", np.array([[i, 1] for i in range(5)], np.float32))
    np.save(tmp_path / "words.npy", np.array([5, 8]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def index_of(folder: Path) -> nann.ops.IndexResource:
    return nann.ops.IndexResource(
        index_dir=folder / "index",
        item_ids=folder / "item_ids.npy",
        item_tables={"item_embs": folder / "item_embs.npy"},
        user_tables={"words": folder / "words.npy"},
    )


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings(name: str, folder: Path) -> None:
    names = {"nann": nann, "np": np, "tf": tf, "index": index_of(folder)}
    text = inspect.getdoc(getattr(nann.ops, name)) or ""
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert test.examples, "expected an example"
    printed: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)
