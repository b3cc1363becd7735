"""data -> train -> embed -> index -> evaluate, by the command line, on a tiny data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from nann.cli import main
from nann.export import GraphIndex, Level, write_index
from nann.export.loaded import loaded
from nann.export.manifest import read_manifest
from nann.ops import IndexMeta
from nann.run import load_model
from nann.training import read_dataset
from nann.training._asked import choose_users, scores_of_users
from nann.training.ranking import ItemScorer, states_before
from support import small_network
from support.command import run_json

# Each user stays in one of 20 clusters. A model that reads the history ranks the user's cluster first:
# its recall@20 is some 0.9. Popularity ranks the same items for everyone: its recall is 0.06.
# A list of 20 random items of the 400 has a recall of 0.05.
PLANTED = "synthetic:items=400,users=100,events=40,categories=20,stay=1,follow=0,seed=1"

# The next event is of a cluster that follows the last one's. Random vectors of categories find the cluster of
# the history, which is of no use here: a trained model has a recall of 0.91, an untrained one 0.05.
FOLLOWING = "synthetic:items=400,users=100,events=40,categories=40,stay=0,follow=1,seed=1"

# Halfway between a trainer that works (0.89 and more) and one that does not (0.07 and less): over 100 users,
# each is at least eight standard errors away.
LEARNED = 0.5

# A model that knows nothing of categories.
OTHER_FEATURES = """
import tensorflow as tf


class Model:
    user_features = {name: tf.TensorSpec([5], tf.int64) for name in ("item_ids", "shop_ids")}
    user_state = {"user": tf.TensorSpec([64], tf.float32)}
    embedding_dim = 64

    @classmethod
    def from_run(cls, run_dir):
        return cls()

    def embed_user(self, features):
        return {"user": tf.one_hot(features["item_ids"][:, 0] % 64, 64)}

    def embed_item(self, features):
        return tf.one_hot(features["item_ids"] % 64, 64)

    def score(self, user_state, item_embs):
        return tf.linalg.matvec(item_embs, user_state["user"])
"""


def _fail(*arguments: str | Path) -> str:
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return result.stderr


def _write_full_graph(run: Path) -> None:
    """An index in which every item is an entry point and no hop leads anywhere: the walk scores all."""
    items = len(np.load(run / "embeddings" / "item_ids.npy"))
    empty = Level(np.zeros(0, np.int32), np.zeros(items + 1, np.int64))
    meta = IndexMeta(
        format_version=1,
        num_items=items,
        dim=64,
        metric="l2",
        m=4,
        ef_construction=10,
        start_level=1,
        hops_per_level=(1,),
    )
    write_index(run / "index", GraphIndex(meta, np.arange(items, dtype=np.int32), (empty,)))


def _train(
    folder: Path, *, seed: int = 0, learning_rate: float = 0.01, source: str = PLANTED
) -> dict[str, Any]:
    """Prepare the planted data, train and embed, by the command line: FOLDER/data and FOLDER/run."""
    prepared = run_json("data", "prepare", "--source", source, "--out", folder / "data")
    assert (prepared["items"], prepared["users"]) == (400, 100)
    trained = run_json(
        *("train", "--data", folder / "data", "--out", folder / "run", "--epochs", "4", "--seed", str(seed)),
        *("--batch-size", "128", "--learning-rate", str(learning_rate)),
        *small_network.ARGUMENTS,
    )
    assert len(trained["history"]) == 4
    embedded = run_json("embed", "--run", folder / "run")
    assert (embedded["items"], embedded["dim"], embedded["dtype"]) == (400, 64, "float32")
    _write_full_graph(folder / "run")
    return trained


def _evaluate(run: Path, *, entry_beam: int = 400) -> dict[str, Any]:
    walk = ("--walk", "fixed", "--level-topn", f"{entry_beam},1,20")
    return run_json("evaluate", "--run", run, "--brute-force", "--k", "20", *walk)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained, embedded and indexed run, by the command line."""
    folder = tmp_path_factory.mktemp("pipeline")
    history = _train(folder)["history"]
    assert history[-1]["loss"] < history[0]["loss"] - 0.3
    return folder


def test_the_run_folder_holds_what_the_contract_says(folder: Path) -> None:
    data, run = read_dataset(folder / "data"), folder / "run"
    described = json.loads((run / "run.json").read_text())
    assert described["format"] == 1
    assert described["model"] == "nann.training:ReferenceModel"
    assert described["data"] == "../data"
    item_ids, item_embs = (np.load(run / "embeddings" / f"{name}.npy") for name in ("item_ids", "item_embs"))
    assert item_ids.dtype == np.int64
    assert np.array_equal(item_ids, data.item_ids)
    assert (item_embs.dtype, item_embs.shape) == (np.float32, (400, 64))
    assert np.array_equal(np.load(run / "vocabulary" / "item_ids.npy"), data.item_ids)
    assert np.array_equal(np.load(run / "vocabulary" / "cate_ids.npy"), data.cate_ids)
    model = load_model(run)
    rows = np.array([1, 7, 400])
    expected = model.embed_item({"item_ids": rows, "cate_ids": data.item_cates[rows]}).numpy()
    np.testing.assert_allclose(item_embs[rows - 1], expected, rtol=1e-5, atol=1e-6)


def _assert_learned(result: dict[str, Any], figure: Callable[[str], None]) -> None:
    figure(
        f"recall of the trained model: {result['recall_walk']:.2f}, more than {LEARNED} "
        f"and 5 x popularity's {result['recall_popularity']:.2f} are asked for"
    )
    assert result["recall_walk"] > LEARNED
    assert result["recall_walk"] > 5 * result["recall_popularity"]


def test_the_model_learned_more_than_popularity(folder: Path, figure: Callable[[str], None]) -> None:
    result = _evaluate(folder / "run")
    _assert_learned(result, figure)
    assert result["ratio"] == pytest.approx(result["recall_walk"] / result["recall_popularity"])
    assert result["ratio_low"] < result["ratio"] < result["ratio_high"]
    assert json.loads((folder / "run" / "evaluation.json").read_text()) == result


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_model_learns_from_any_seed(tmp_path: Path, seed: int, figure: Callable[[str], None]) -> None:
    _train(tmp_path, seed=seed)
    _assert_learned(_evaluate(tmp_path / "run"), figure)


def test_the_model_learns_what_follows(tmp_path: Path, figure: Callable[[str], None]) -> None:
    _train(tmp_path, source=FOLLOWING)
    recall = _evaluate(tmp_path / "run")["recall_walk"]
    figure(f"recall of what follows: {recall:.2f}, more than {LEARNED} is asked for")
    assert recall > LEARNED


@pytest.mark.parametrize("fault", ["negated loss", "no learning"])
def test_a_trainer_that_does_not_learn_is_seen(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """The test before this one fails for these trainers, far below its threshold."""
    gradient = tf.GradientTape.gradient

    def negated(*arguments: Any) -> list[tf.Tensor]:
        return [-tf.convert_to_tensor(one) for one in gradient(*arguments)]

    if fault == "negated loss":
        monkeypatch.setattr(tf.GradientTape, "gradient", negated)
    # A step of this length leaves every float32 weight as it was.
    _train(tmp_path, learning_rate=1e-30 if fault == "no learning" else 0.01, source=FOLLOWING)
    recall = _evaluate(tmp_path / "run")["recall_walk"]
    figure(f"recall after {fault}: {recall:.2f}, less than {LEARNED / 2} is asked for")
    assert recall < LEARNED / 2


def test_a_walk_over_everything_is_brute_force(folder: Path) -> None:
    result = _evaluate(folder / "run")
    assert result["agreement"] > 0.999
    assert result["recall_walk"] == pytest.approx(result["recall_brute_force"], abs=0.01)
    assert result["items_scored_mean"] == 400
    assert (result["users"] + result["users_skipped"], result["level_topn"]) == (100, [400, 1, 20])


def test_a_narrow_walk_misses_items_and_says_so(folder: Path) -> None:
    """10 entry points are kept before the seen ones are dropped, so lists are short."""
    assert _evaluate(folder / "run", entry_beam=10)["agreement"] <= 0.5


def test_brute_force_is_left_out_unless_asked(folder: Path) -> None:
    result = run_json("evaluate", "--run", folder / "run", "--users", "10")
    assert result["recall_brute_force"] is None
    assert result["agreement"] is None
    assert result["users"] + result["users_skipped"] == 10


def test_people_get_a_table(folder: Path) -> None:
    result = CliRunner().invoke(
        main, ["evaluate", "--run", str(folder / "run"), "--users", "10", "--brute-force"]
    )
    assert result.exit_code == 0
    for figure in ("recall@50 of the walk", "brute force", "popularity", "agreement@50", "items scored"):
        assert figure in result.stdout


def test_half_precision_embeddings(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    run = tmp_path / "copy" / "run"
    assert run_json("embed", "--run", run, "--dtype", "float16")["dtype"] == "float16"
    halves, whole = (np.load(f / "run" / "embeddings" / "item_embs.npy") for f in (tmp_path / "copy", folder))
    assert halves.dtype == np.float16
    np.testing.assert_allclose(halves, whole, rtol=2e-3, atol=1e-4)
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    assert _evaluate(run)["agreement"] > 0.97


def _copied(folder: Path, tmp_path: Path) -> Path:
    """The run, in a copy that a test may change."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy" / "run"


def test_a_temporary_export_is_measured_and_deleted(folder: Path, tmp_path: Path) -> None:
    run = _copied(folder, tmp_path)
    before = set(run.iterdir())
    result = run_json("evaluate", "--run", run, "--users", "10")
    measured = {name: result[name] for name in ("model", "executor", "precision")}
    assert measured == {"model": None, "executor": "native", "precision": "float32"}
    assert result["walk"] in ("adaptive", "all")
    assert set(run.iterdir()) == before | {run / "evaluation.json"}


def test_an_export_is_measured_as_it_serves(folder: Path, tmp_path: Path) -> None:
    """Its executor, precision, walk and beams; of the run it needs the data set and the model alone."""
    run, model_dir = _copied(folder, tmp_path), tmp_path / "models" / "nann" / "1"
    options = ["--precision", "bfloat16", "--accuracy", "0.5", "--walk", "adaptive"]
    run_json("export", "--run", run, "--out", model_dir, *options, "--level-topn", "30,1,7")
    shutil.rmtree(run / "embeddings")
    shutil.rmtree(run / "index")
    result = run_json("evaluate", "--run", run, "--model", model_dir, "--k", "20", "--brute-force")
    measured = {name: result[name] for name in ("model", "executor", "precision", "walk", "level_topn")}
    assert measured == {
        "model": str(model_dir),
        "executor": "native",
        "precision": "bfloat16",
        "walk": "adaptive",
        "level_topn": [30, 1, 20],
    }
    # The pool of an adaptive walk holds k items besides those that a user had, and all 400 are scored.
    assert result["agreement"] > 0.9
    assert result["items_scored_mean"] == 400


def test_brute_force_scores_every_item_as_the_model_does(folder: Path, tmp_path: Path) -> None:
    """By the export's native executor, against the model's own function."""
    run, model_dir = folder / "run", tmp_path / "1"
    run_json("export", "--run", run, "--out", model_dir, "--walk", "fixed", "--level-topn", "30,1,7")
    assert read_manifest(model_dir)["scorer"]["executor"] == "native"
    dataset, model = read_dataset(folder / "data"), load_model(run)
    examples, _ = choose_users(dataset, most=5, seed=0)
    scorer = ItemScorer(model, np.load(run / "embeddings" / "item_embs.npy"))
    expected = [scorer.scores(state, np.arange(400)) for state in states_before(model, dataset, examples)]
    with loaded(model_dir) as exported:
        found = list(scores_of_users(run, exported, dataset, examples))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_export_of_another_run_is_refused(folder: Path, tmp_path: Path) -> None:
    run, models = _copied(folder, tmp_path), tmp_path / "models"
    run_json(
        "export", "--run", run, "--out", models / "shards" / "1", "--shards", "2", "--level-topn", "10,1,5"
    )
    shard = models / "shards-0-of-2" / "1"
    assert "not a shard" in _fail("evaluate", "--run", run, "--model", shard)
    np.save(run / "embeddings" / "item_ids.npy", np.arange(1001, 1401))
    (run / "attributes.parquet").unlink()  # Of the items that it had.
    run_json("export", "--run", run, "--out", models / "others" / "1")
    error = _fail("evaluate", "--run", run, "--model", models / "others" / "1")
    assert "expected the 400 item ids of the run's data set" in " ".join(error.split())
    assert "nann_manifest.json" in _fail("evaluate", "--run", run, "--model", models / "nothing")


def test_brute_force_needs_an_export_of_the_same_checkpoint(folder: Path, tmp_path: Path) -> None:
    """The user's state comes from the run's model: with another one, agreement would mean nothing."""
    run, model_dir = _copied(folder, tmp_path), tmp_path / "models" / "nann" / "1"
    run_json("export", "--run", run, "--out", model_dir)
    checkpoints = tf.train.get_checkpoint_state(str(run / "checkpoints")).all_model_checkpoint_paths
    # An epoch before the last.
    tf.compat.v1.train.update_checkpoint_state(str(run / "checkpoints"), checkpoints[0])
    evaluate = ("evaluate", "--run", run, "--model", model_dir, "--users", "10")
    assert run_json(*evaluate)["users"] > 0
    error = " ".join(_fail(*evaluate, "--brute-force").split())
    assert "expected an export of the run's model as it is now" in error
    assert "nann export" in error


def test_a_model_of_other_features_is_refused(folder: Path, tmp_path: Path) -> None:
    run = _copied(folder, tmp_path)
    (run / "other_features.py").write_text(OTHER_FEATURES)
    described = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**described, "model": "other_features:Model"}))
    (run / "requests.npz").unlink()  # of the other features
    error = " ".join(_fail("evaluate", "--run", run).split())
    assert "user_features shop_ids: expected a feature of the data set (item_ids, cate_ids), found" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--level-topn", "100,200"], "level_topn: expected 3 integers"),
        (["--level-topn", "100,0,10"], "expected values 1..65536"),
        (["--level-topn", "a,b,c"], "expected whole numbers with commas"),
        (["--k", "0"], "k: expected 1 or more"),
        (["--users", "-1"], "expected 0 or more"),
    ],
)
def test_bad_evaluate_options_are_refused(folder: Path, arguments: list[str], expected: str) -> None:
    assert expected in " ".join(_fail("evaluate", "--run", folder / "run", *arguments).split())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--epochs", "-1"], "expected epochs of 0 and above"),
        (["--learning-rate", "nan"], "expected a positive, finite learning_rate"),
        (["--dropout", "1"], "expected dropout in [0, 1)"),
        (["--popularity-power", "2"], "expected popularity_power in [0, 1]"),
    ],
)
def test_bad_train_options_are_refused(
    folder: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    error = _fail("train", "--data", folder / "data", "--out", tmp_path / "run", *arguments)
    assert expected in " ".join(error.split())
    assert not (tmp_path / "run").exists()


def test_a_run_without_its_parts_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    run = tmp_path / "copy" / "run"
    assert "nann train" in _fail("embed", "--run", tmp_path / "copy" / "nowhere")
    shutil.rmtree(run / "index")
    assert "nann index" in _fail("evaluate", "--run", run)
    shutil.rmtree(run / "embeddings")
    assert "nann embed" in _fail("evaluate", "--run", run)
    shutil.rmtree(tmp_path / "copy" / "data")
    assert "expected the run's data set, found no folder" in _fail("embed", "--run", run)


def test_an_index_of_other_items_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    run = tmp_path / "copy" / "run"
    np.save(run / "embeddings" / "item_ids.npy", np.arange(1, 301))
    _write_full_graph(run)
    np.save(run / "embeddings" / "item_ids.npy", np.load(folder / "run" / "embeddings" / "item_ids.npy"))
    assert "expected an index of the 400 embedded items, found one of 300" in _fail("evaluate", "--run", run)
    np.save(run / "embeddings" / "item_ids.npy", np.arange(1, 401))
    assert "Run `nann embed` again" in _fail("evaluate", "--run", run)


def test_another_model_than_the_reference_is_loaded_by_name(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    path = tmp_path / "copy" / "run" / "run.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "model": "nowhere_to_be_found:Model"}))
    error = " ".join(_fail("embed", "--run", tmp_path / "copy" / "run").split())
    assert "model: expected an importable module, found 'nowhere_to_be_found'" in error


def test_a_sweep_measures_walks_and_beams(folder: Path, tmp_path: Path) -> None:
    run = _copied(folder, tmp_path)
    result = run_json("evaluate", "--run", run, "--sweep", "--k", "20", "--users", "40")
    assert json.loads((run / "sweep.json").read_text()) == result
    assert (run / "sweep.png").read_bytes().startswith(b"\x89PNG")
    points = result["points"]
    assert list(dict.fromkeys(point["walk"] for point in points)) == ["fixed", "adaptive", "proxy", "all"]
    every_item = points[-1]
    assert (every_item["agreement"], every_item["agreement_worst_5_percent"]) == (1.0, 1.0)
    assert every_item["items_scored"] == 400
    users = set(read_dataset(tmp_path / "copy" / "data").user_ids.tolist())
    for point in points:
        assert point["agreement_low"] <= point["agreement"] <= point["agreement_high"]
        assert point["agreement_worst_5_percent"] <= point["agreement"]
        assert len(point["worst_users"]) == -(-result["users"] // 20)
        assert users >= set(point["worst_users"])
    enough = [point for point in points if point["agreement"] >= 0.98]
    assert result["recommended"] == min(enough, key=lambda point: point["milliseconds"])
    people = CliRunner().invoke(main, ["evaluate", "--run", str(run), "--sweep", "--walk", "all"])
    assert people.exit_code == 0
    assert "Least served users" in people.stdout
    assert "Fastest with an agreement of 0.98 or more: the all walk with --level-topn" in people.stdout
    assert "--plot needs --sweep" in _fail("evaluate", "--run", run, "--plot", tmp_path / "x.png")
    assert "--target needs --sweep" in _fail("evaluate", "--run", run, "--target", "0.9")
    assert "expected a share in (0, 1]" in _fail("evaluate", "--run", run, "--sweep", "--target", "1.5")
