"""`nann check`: what an export would do, without one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from nann.cli import main
from nann.errors import NannWarning
from nann.export import ExportOptions, check_run, export_model
from support.tiny_model import D, E, L, TinyModel
from support.tiny_run import N


def _asked(run: Path) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(main, ["check", "--run", str(run), "--json"])
    return done.exit_code, json.loads(done.stdout)


def test_it_says_what_the_export_then_does(run: Path, tmp_path: Path) -> None:
    exported = export_model(run, tmp_path / "models/1")
    shutil.rmtree(run / "index")
    code, found = _asked(run)
    assert (code, found["accepted"], found["reason"]) == (0, True, None)
    assert found["executor"] == exported["executor"] == "native"
    assert found["tile"]["flops_per_item"] == exported["split"]["flops_per_item"]
    assert found["user"]["state"] == {"comm_seq": f"float32 [{L}, {D}]"}
    assert found["item"]["columns"] == exported["split"]["item_columns"]
    assert 0 < found["microseconds_per_item"] < 1_000
    assert not (run / "index").exists()


def test_the_text_names_parts_and_next_step(run: Path) -> None:
    done = CliRunner().invoke(main, ["check", "--run", str(run)])
    assert done.exit_code == 0, done.output
    for text in (
        "Accepted: 500 items",
        "User part",
        "Item part",
        "Tile part",
        "The native executor",
        "Next:",
    ):
        assert text in done.stdout


def test_integers_without_a_vocabulary_are_named(run: Path, tmp_path: Path) -> None:
    line = "as they are sent, for RUN/vocabulary has no file of them: cate_ids (row of cates, 8 rows)."
    check, export = ["check", "--run", str(run)], ["export", "--run", str(run), "--out"]
    assert "as they are sent" not in CliRunner().invoke(main, check).stdout
    assert "as they are sent" not in CliRunner().invoke(main, [*export, str(tmp_path / "models/1")]).stdout
    (run / "vocabulary/cate_ids.npy").unlink()
    for command in (check, [*export, str(tmp_path / "models/2")]):
        printed = CliRunner().invoke(main, command).stdout
        assert line in printed
        assert "Warning" not in printed, "a table of 8 rows is none of 500 items"


class OneRowAnItem(TinyModel):
    """Its table has a row for each item of the corpus, and one for missing ids."""

    def __init__(self) -> None:
        super().__init__()
        self.items = tf.Variable(tf.random.normal([N + 1, E // 2]), name="items")


@pytest.mark.filterwarnings("error::UserWarning:nann")
def test_item_ids_that_are_taken_for_rows_are_warned_of(run: Path, tmp_path: Path) -> None:
    """Of 500 ids, 3 to 3,496, some are rows of the table: each would silently be another item."""
    options = ExportOptions(level_topn=(20, 40, 40, 40, 40, 10))
    assert check_run(run, model=OneRowAnItem())["warnings"] == []
    (run / "vocabulary/item_ids.npy").unlink()
    text = (
        r"item_ids: its values are rows of items \(501 rows\) as they are sent, .* Item ids go from 3 to "
        r"3,496: if item_ids holds item ids, 72 of 500 are taken for another item's row, .* Write RUN/voc"
    )
    found = check_run(run, model=OneRowAnItem())
    assert found["accepted"]
    (warning,) = found["warnings"]
    assert re.match(text, warning)
    with pytest.warns(NannWarning, match=text):
        exported = export_model(run, tmp_path / "models/1", options, model=OneRowAnItem())
    assert exported["warnings"] == [warning]
    assert exported["raw_rows"]["item_ids"] == {"items": 501}
    # Ids that are rows of the table may be meant as rows.
    np.save(run / "embeddings/item_ids.npy", np.arange(1, N + 1))
    assert check_run(run, model=OneRowAnItem())["warnings"] == []


def test_a_vocabulary_one_id_short_is_warned_of(run: Path, tmp_path: Path) -> None:
    """Without its first id all others are rows of the items before them."""
    ids = np.sort(np.load(run / "embeddings/item_ids.npy"))
    np.save(run / "vocabulary/item_ids.npy", ids)
    assert check_run(run, model=OneRowAnItem())["warnings"] == []
    np.save(run / "vocabulary/item_ids.npy", ids[1:])
    text = r"item_ids: RUN/vocabulary/item_ids\.npy has 499 ids, .* \(501 rows\)\. It lacks 1 of 500 items, "
    (warning,) = check_run(run, model=OneRowAnItem())["warnings"]
    assert re.match(text, warning)
    options = ExportOptions(level_topn=(20, 40, 40, 40, 40, 10))
    with pytest.warns(NannWarning, match=text):
        exported = export_model(run, tmp_path / "models/1", options, model=OneRowAnItem())
    assert exported["warnings"] == [warning]


class Bessel(TinyModel):
    """Its scorer has an operation that the native executor lacks."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(user_state["comm_seq"], axis=0)[:D]
        return super().score(user_state, item_embs) + tf.reduce_sum(
            tf.math.bessel_i0e(item_embs * mean), axis=-1
        )


def test_what_tensorflow_runs_has_its_reason_and_advice(run: Path) -> None:
    found = check_run(run, model=Bessel())
    assert found["executor"] == "tensorflow"
    assert found["executor_reason"]
    assert found["advice"].endswith(".")
    assert found["microseconds_per_item"] > 0


class Jitted(TinyModel):
    """Its scorer is one call of a compiled function."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.function(super().score, jit_compile=True, autograph=False)(user_state, item_embs)


def test_flops_inside_a_jitted_function_count(run: Path) -> None:
    plain, jitted = check_run(run, model=TinyModel()), check_run(run, model=Jitted())
    assert jitted["tile"]["flops_per_item"]["before"] == plain["tile"]["flops_per_item"]["before"]


class Mixing(TinyModel):
    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(super().score(user_state, item_embs))


def test_a_refusal_is_the_sentence_of_the_export(run: Path) -> None:
    found = check_run(run, model=Mixing())
    assert not found["accepted"]
    assert "mixes the items of a tile" in found["reason"]
    np.save(run / "vocabulary/cate_ids.npy", np.zeros(0, np.int64))
    code, found = _asked(run)
    assert code == 1
    assert "cate_ids.npy: expected at least one id, found an empty vocabulary" in found["reason"]


@pytest.mark.parametrize(("data", "command"), [(None, "nann check"), ("../data", "nann evaluate")])
def test_index_names_the_next_command_for_this_run(run: Path, data: str | None, command: str) -> None:
    content = {"format": 1, "model": "support.tiny_model:TinyModel", "data": data}
    (run / "run.json").write_text(json.dumps(content))
    done = CliRunner().invoke(main, ["index", "--run", str(run), "--m", "6"])
    assert f"Next: {command} --run {run}" in done.stdout
    assert f"nann export --run {run}" in done.stdout


def test_a_run_without_embeddings_is_refused(run: Path) -> None:
    shutil.rmtree(run / "embeddings")
    code, found = _asked(run)
    assert (code, found["accepted"]) == (1, False)
    assert "embeddings" in found["reason"]
