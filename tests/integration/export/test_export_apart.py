"""Exports are verified in a process of their own, and `retrieve_by_ids` at the ends of every vocabulary."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.errors import VerificationError
from nann.export import _apart, verify_model
from nann.export._apart import loaded_apart, start_process
from nann.export._verify import check_vocabulary_ends
from nann.export.loaded import loaded
from support.tiny_model import D, L

BEAMS = [20, 40, 40, 40, 40, 10]


def test_the_other_process_answers_as_this_one(shared_export: Path) -> None:
    ids = np.load(shared_export / "assets/item_ids.npy")[:9]
    inputs = {"comm_seq": np.ones((1, L * D), np.float32), "item_ids": ids[np.newaxis]}
    with loaded_apart(shared_export) as apart, loaded(shared_export) as here:
        assert apart.names == here.names
        np.testing.assert_array_equal(
            apart.run("score", inputs)["scores"], here.run("score", inputs)["scores"]
        )


def test_it_is_one_process_that_has_no_code_of_the_model(shared_export: Path) -> None:
    first = start_process()
    with loaded_apart(shared_export):
        assert start_process() is first


def test_what_it_refuses_is_a_verification_error(shared_export: Path, tmp_path: Path) -> None:
    with loaded_apart(shared_export) as apart:
        with pytest.raises(VerificationError, match="score: expected answers, found"):
            apart.run(
                "score", {"comm_seq": np.ones((1, 3), np.float32), "item_ids": np.ones((1, 1), np.int64)}
            )
        assert "score" in apart.names
    with pytest.raises(VerificationError, match="expected a model that loads"), loaded_apart(tmp_path):
        pass


def test_a_process_that_dies_is_an_error_and_the_next_is_a_new_one(shared_export: Path) -> None:
    process = start_process()
    with loaded_apart(shared_export) as apart:
        os.kill(process._child.pid, signal.SIGKILL)
        process._child.wait()
        with pytest.raises(VerificationError, match="it ended with status -9"):
            apart.run("score", {})
    with loaded_apart(shared_export) as apart:
        assert "score" in apart.names
    assert _apart.start_process() is not process


class _OneRowShort:
    """An export that has no row for the last id of a vocabulary."""

    names = ("retrieve_by_ids",)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def run(self, signature: str, inputs: dict[str, Any]) -> dict[str, Any]:
        item = int(inputs["item_ids"][0, 0])
        self.asked.append(item)
        if item == 30:
            raise VerificationError("indices[0,0] = 3 is not in [0, 3)")
        return {"top_k": np.asarray([[1, 2, -1]]), "scores": np.asarray([[2.0, 1.0, -np.inf]])}


def test_the_last_id_of_a_vocabulary_is_asked() -> None:
    model: Any = _OneRowShort()
    features = {"item_ids": np.asarray([[10, 20]])}
    with pytest.raises(VerificationError, match="item_ids 30, an end of its vocabulary"):
        check_vocabulary_ends(model, features, {"item_ids": np.asarray([10, 20, 30])}, BEAMS)
    assert model.asked == [10, 30]


def test_verify_without_a_run_asks_retrieve_by_ids(
    shared_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nann.export.loaded import LoadedModel

    asked: list[str] = []
    run = LoadedModel.run

    def recorded(self: LoadedModel, signature: str, inputs: Any) -> Any:
        asked.append(signature)
        return run(self, signature, inputs)

    monkeypatch.setattr(LoadedModel, "run", recorded)
    verify_model(shared_export)
    assert asked.count("retrieve_by_ids") == 4  # the first and the last id of two vocabularies
