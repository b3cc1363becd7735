"""The scorer split inside an export: its table, its record, its options, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from nann.cli import main
from nann.errors import VerificationError
from nann.export import ExportOptions, Tuning, export_model, verify_model
from nann.export._item_table import check_split
from nann.export._samples import random_sample
from nann.export.items import read_items
from nann.export.loaded import loaded
from nann.export.scorer import freeze_scorer, split_scorer
from support.tiny_model import D, E, L, TinyModel
from support.tiny_run import N

BEAMS = np.array([[10, 30, 40, 40, 40, 25]], np.int32)


class TwoLayers(TinyModel):
    """The items' part of its scorer costs more than to read its result from a table."""

    def __init__(self) -> None:
        super().__init__()
        random = np.random.default_rng(9)
        self.wide = tf.Variable(random.normal(size=(D, 64)).astype(np.float32) * 0.3)
        self.narrow = tf.Variable(random.normal(size=(64, 24)).astype(np.float32) * 0.3)

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        hidden = tf.nn.relu(tf.matmul(tf.nn.relu(tf.matmul(item_embs, self.wide) + 0.1), self.narrow))
        user = tf.reduce_sum(tf.matmul(user_state["comm_seq"], self.wide[:, :24]), axis=0)
        return tf.linalg.matvec(hidden, tf.tanh(user)) + super().score(user_state, item_embs)


def _manifest(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "assets.extra/nann_manifest.json").read_text())
    return content


def test_the_table_holds_the_items_part(run: Path, tmp_path: Path) -> None:
    model, out = TwoLayers(), tmp_path / "models/1"
    result = export_model(run, out, model=model)
    split = _manifest(out)["scorer"]["split"]
    assert result["split"] == split
    assert split["largest_relative_difference"] <= 1e-5
    assert _manifest(out)["scorer"]["item_tables"] == ["scorer"]
    assert _manifest(out)["tables"]["item"]["scorer"]["shape"] == [N, split["table_width"]]
    table = np.load(out / "assets/item_table_scorer.npy", mmap_mode="r")
    embs = np.load(run / "embeddings/item_embs.npy")
    # Positions are the export's own: the items are found by their ids.
    order = [
        np.flatnonzero(np.load(run / "embeddings/item_ids.npy") == item)[0]
        for item in np.load(out / "assets/item_ids.npy")
    ]
    widths = [column["width"] for column in split["item_columns"]]
    begin = sum(widths[: widths.index(24)])
    first = np.maximum(embs[order] @ model.wide.numpy() + 0.1, 0)
    expected = np.maximum(first @ model.narrow.numpy(), 0)
    np.testing.assert_allclose(table[:, begin : begin + 24], expected, rtol=1e-5, atol=1e-5)
    assert table.offset % 64 == 0
    assert table.strides[0] % 64 == 0


def test_split_and_unsplit_exports_answer_alike(run: Path, tmp_path: Path) -> None:
    answers = []
    # Each export would choose its own beams.
    fixed = Tuning(walk="fixed")
    for number, options in enumerate([{}, {"split": False}, {"item_table_bytes": 0}]):
        out = tmp_path / f"models/{number}"
        export_model(run, out, ExportOptions(**options, tuning=fixed), model=TwoLayers())
        assert verify_model(out)["verified"]["users"]
        state = np.random.default_rng(7).normal(size=(1, L * E)).astype(np.float32)
        inputs = {"comm_seq": state, "level_topn": BEAMS, "exclude_ids": np.zeros((1, 0), np.int64)}
        with loaded(out) as exported:
            answers.append(exported.run("retrieve", inputs))
    for other in answers[1:]:
        np.testing.assert_array_equal(np.sort(other["top_k"]), np.sort(answers[0]["top_k"]))
        np.testing.assert_allclose(other["scores"], answers[0]["scores"], rtol=1e-4)
    assert _manifest(tmp_path / "models/1")["scorer"]["split"] is None
    assert not list(tmp_path.glob("models/[12]/assets/item_table_*"))


def test_another_table_is_refused(run: Path) -> None:
    """What the proof is for: scores that differ by more than rounding stop the export."""
    model, items = TwoLayers(), read_items(run)
    before = freeze_scorer(model, tile_rows=16)
    after = split_scorer(before, num_items=items.num_items, item_table_bytes=2**30)
    sample = random_sample({"comm_seq": ([L, E], "float32")})
    tiles = np.zeros((-(-N // 16) * 16, D), np.float32)
    tiles[:N] = items.embs
    rows = np.concatenate([after.item_function(tf.constant(tile)) for tile in tiles.reshape(-1, 16, D)])[:N]
    assert check_split(before, after, sample, items, {"scorer": rows}) <= 1e-5
    rows[N // 2] *= 1.01
    with pytest.raises(VerificationError, match=r"split scorer.*difference of .* --no-split"):
        check_split(before, after, sample, items, {"scorer": rows})


class Noisy(TinyModel):
    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        # Nothing is added, but no one can know that.
        return super().score(user_state, item_embs) + 0 * tf.random.normal([item_embs.shape[0]])


def test_what_cannot_be_split_is_exported_as_it_is(run: Path, tmp_path: Path) -> None:
    result = export_model(run, tmp_path / "models/1", model=Noisy())
    assert "RandomStandardNormal" in result["split"]["reason"]
    assert _manifest(tmp_path / "models/1")["scorer"]["item_tables"] == ["item_embs"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "Scorer split: "),
        (["--item-table-bytes", "0"], "Scorer split: "),
        (["--no-split"], "Next: nann serve"),
    ],
)
def test_the_command_says_what_was_split(run: Path, tmp_path: Path, options: list[str], text: str) -> None:
    arguments = ["export", "--run", str(run), "--out", str(tmp_path / "models/1"), *options]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    assert text in done.output
    assert ("Scorer split" in done.output) == ("--no-split" not in options)
    assert ("in the item table" in done.output) == (options == [] and "MiB" in done.output)
