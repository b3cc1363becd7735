"""What an export chooses by measuring: executor, precision, walk and beams."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from nann.errors import InvalidInputError, VerificationError
from nann.export import (
    ExportOptions,
    Tuning,
    _precision,
    _split_model,
    _walk_choice,
    export_model,
    verify_model,
)
from nann.export._calibrate import Agreement, narrowest
from nann.export.loaded import loaded
from nann.export.scorer import Scorer, jit_scorer
from nann.training._model import ModelConfig, ReferenceModel
from support.tiny_model import D, E, L, TinyModel
from support.tiny_run import N, write_run

BEAMS = [10, 30, 40, 40, 40, 25]


class BesselModel(TinyModel):
    """One step of its scorer is nothing that the native executor knows."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return super().score(user_state, tf.math.bessel_i0e(item_embs))


class PositiveModel(TinyModel):
    """A sum of positive products."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        user = tf.reduce_mean(user_state["comm_seq"], axis=0, keepdims=True)
        return tf.matmul(tf.nn.relu(item_embs * user), tf.ones([D, 1]))[:, 0]


class ProductModel(TinyModel):
    """An inner product."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(item_embs, tf.reduce_mean(user_state["comm_seq"], axis=0)[:D])


# Numbers that differ in bits which float16 keeps and bfloat16 does not: 4 and up to three 256ths more. A walk
# by float16 is the one by float32 to the last bit; to bfloat16 all items are the same.
STEEP = 4 + np.random.default_rng(8).integers(0, 4, (N, D)).astype(np.float32) / 256


@pytest.fixture(scope="module")
def runs(shared_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs by what their embeddings are; float16 has no number of the `large` ones."""
    folder = tmp_path_factory.mktemp("steep")
    return {
        "random": shared_run,
        "steep": write_run(folder / "steep", embs=STEEP),
        "large": write_run(folder / "large", embs=STEEP * 2**20),
    }


def tuned(**tuning: Any) -> ExportOptions:
    """The beams of these tests, and this tuning."""
    return ExportOptions(level_topn=BEAMS, tuning=Tuning(**tuning))


def manifest_of(model_dir: Path) -> Any:
    return json.loads((model_dir / "assets.extra/nann_manifest.json").read_text())


def answers(model_dir: Path, beams: list[int]) -> dict[str, Any]:
    state = np.random.default_rng(7).normal(size=(3, L * E)).astype(np.float32)
    request = {
        "comm_seq": state,
        "level_topn": np.array([beams] * 3, np.int32),
        "exclude_ids": np.full((3, 1), -1, np.int64),
    }
    with loaded(model_dir) as model:
        return model.run("retrieve", request)


def test_both_executors_answer_alike(shared_run: Path, tmp_path: Path) -> None:
    native = export_model(shared_run, tmp_path / "m/1", tuned())
    plain = export_model(shared_run, tmp_path / "m/2", tuned(executor="tensorflow"))
    assert (native["executor"], plain["executor"]) == ("native", "tensorflow")
    found, expected = answers(tmp_path / "m/1", BEAMS), answers(tmp_path / "m/2", BEAMS)
    np.testing.assert_array_equal(np.sort(found["top_k"]), np.sort(expected["top_k"]))
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tuning", "tile_rows"),
    [
        ({"executor": "tensorflow"}, 48),
        ({"jit": True}, 48),
        ({"executor": "tensorflow", "walk": "all"}, 128),
        ({"executor": "tensorflow", "walk": "fixed"}, 128),
        ({}, 128),
    ],
)
def test_tensorflow_has_short_tiles_in_short_hops(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: dict[str, Any], tile_rows: int
) -> None:
    monkeypatch.setattr(_split_model, "_FEW_ITEMS", 0)
    export_model(shared_run, tmp_path / "m/1", tuned(**tuning))
    assert manifest_of(tmp_path / "m/1")["scorer"]["tile_rows"] == tile_rows


def test_a_compiled_scorer_answers_alike(shared_run: Path, tmp_path: Path) -> None:
    jit = export_model(shared_run, tmp_path / "m/1", tuned(jit=True))
    export_model(shared_run, tmp_path / "m/2", tuned())
    assert (jit["executor"], jit["jit"]) == ("tensorflow", True)
    assert manifest_of(tmp_path / "m/1")["scorer"]["jit"]
    assert b"_XlaMustCompile" in (tmp_path / "m/1/saved_model.pb").read_bytes()
    found, expected = answers(tmp_path / "m/1", BEAMS), answers(tmp_path / "m/2", BEAMS)
    np.testing.assert_array_equal(np.sort(found["top_k"]), np.sort(expected["top_k"]))
    np.testing.assert_allclose(found["scores"], expected["scores"], rtol=2e-5, atol=1e-5)


def test_what_is_not_compiled_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="jit: expected TensorFlow to run the scorer"):
        Tuning(jit=True, executor="native")
    open_shape = tf.function(
        lambda user, items: tf.reduce_sum(user) + items[:, 0],
        input_signature=[tf.TensorSpec([None], name="events"), tf.TensorSpec([8, D])],
    )
    with pytest.raises(InvalidInputError, match=r"jit: expected user tensors of fixed shape, found events"):
        jit_scorer(Scorer(open_shape.get_concrete_function(), ("item_embs",), 8))


def test_what_the_native_executor_cannot_run_is_left_to_tensorflow(shared_run: Path, tmp_path: Path) -> None:
    result = export_model(shared_run, tmp_path / "1", tuned(), model=BesselModel())
    # The split leaves such an operation where it is only when it cannot be a column of the item table.
    unsplit = export_model(
        shared_run, tmp_path / "2", ExportOptions(level_topn=BEAMS, split=False), model=BesselModel()
    )
    assert unsplit["executor"] == "tensorflow"
    assert "BesselI0e" in unsplit["executor_reason"]
    assert result["verified"]["largest_relative_difference"] < 1e-5
    with pytest.raises(InvalidInputError, match=r"native executor can run, found node .*BesselI0e"):
        export_model(
            shared_run,
            tmp_path / "3",
            ExportOptions(split=False, tuning=Tuning(executor="native")),
            model=BesselModel(),
        )
    assert not (tmp_path / "3").exists()


def test_the_reference_model_runs_natively(tmp_path: Path) -> None:
    """The network of the paper, with its attention, batch norms and PReLUs."""
    model = ReferenceModel(
        ModelConfig(items=60, categories=7, sequence_length=L, feature_dim=E // 2, embedding_dim=D)
    )
    result = export_model(write_run(tmp_path / "run"), tmp_path / "1", tuned(), model=model)
    assert (result["executor"], result["executor_reason"]) == ("native", None)
    assert result["split"]["reason"] is None


@pytest.mark.parametrize(
    ("precision", "stored"), [("bfloat16", "uint16"), ("float16", "float16"), ("int8", "uint8")]
)
def test_a_narrow_walk_has_the_scores_of_float32(
    shared_run: Path, tmp_path: Path, precision: Any, stored: str
) -> None:
    export_model(shared_run, tmp_path / "1", tuned())
    options = tuned(precision=precision, accuracy=0.8)
    narrow = export_model(shared_run, tmp_path / "2", options)["precision"]
    assert narrow["precision"] == precision
    assert narrow["agreements"][precision] >= 0.8
    tables = manifest_of(tmp_path / "2")["tables"]["item"]
    assert {table["dtype"] for name, table in tables.items() if name.endswith(f"_{precision}")} == {stored}
    found, expected = answers(tmp_path / "2", BEAMS), answers(tmp_path / "1", BEAMS)
    for row in range(3):
        both = np.intersect1d(found["top_k"][row], expected["top_k"][row])
        assert both.size >= 0.7 * 25
        of_found = dict(zip(found["top_k"][row], found["scores"][row], strict=True))
        of_expected = dict(zip(expected["top_k"][row], expected["scores"][row], strict=True))
        for item in both:  # Scored again in float32.
            assert of_found[item] == pytest.approx(of_expected[item], rel=2e-5, abs=1e-5)
    verify_model(tmp_path / "2", run_dir=shared_run)


def clock(**milliseconds: float) -> Callable[..., dict[str, float]]:
    """A clock by which requests take so long."""
    return lambda index, sample, walks: {name: milliseconds[name] for name in walks}


def narrow_tables(model_dir: Path) -> set[str]:
    """The precisions of the narrow tables that an export has."""
    names = [path.stem.rpartition("_")[2] for path in (model_dir / "assets").glob("item_table_*")]
    return set(names) & {"bfloat16", "float16", "int8"}


@pytest.mark.parametrize(
    ("run", "model", "accuracy", "chosen", "tried"),
    [
        ("random", TinyModel, 0.8, "bfloat16", {"bfloat16", "float16", "int8"}),
        ("random", ProductModel, 0.8, "float32", set()),
        ("steep", PositiveModel, 0.999, "float16", {"bfloat16", "float16", "int8"}),
        ("large", PositiveModel, 0.999, "float32", {"bfloat16", "int8"}),
    ],
)
def test_the_fastest_precision_that_is_accurate_is_chosen(
    runs: dict[str, Path],
    tmp_path: Path,
    run: str,
    model: Any,
    accuracy: float,
    chosen: str,
    tried: set[str],
    figure: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_precision, "milliseconds", clock(bfloat16=1.0, int8=1.1, float16=1.2, float32=1.5))
    options = tuned(precision="auto", accuracy=accuracy)
    result = export_model(runs[run], tmp_path / "1", options, model=model())
    agreements = result["precision"]["agreements"]
    figure(f"{run} embeddings, {model.__name__}: agreements {agreements}")
    assert result["executor"] == "native"
    assert result["precision"]["precision"] == chosen
    assert agreements.keys() == tried
    assert all(agreements[name] >= accuracy for name in {chosen} - {"float32"})
    accurate = {name for name in tried if agreements[name] >= accuracy}
    timed = {"float32", *accurate} if accurate else set()
    assert result["precision"]["milliseconds"].keys() == timed
    assert narrow_tables(tmp_path / "1") == {chosen} - {"float32"}


@pytest.mark.parametrize(
    ("chosen", "times"),
    [
        ("int8", {"bfloat16": 1.0, "float16": 1.3, "int8": 1.04, "float32": 1.3}),
        ("bfloat16", {"bfloat16": 1.0, "float16": 1.0, "int8": 1.06, "float32": 1.0}),
        ("float32", {"bfloat16": 1.06, "float16": 1.06, "int8": 1.06, "float32": 1.0}),
    ],
)
def test_of_precisions_as_fast_the_smallest_is_chosen(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, times: dict[str, float]
) -> None:
    monkeypatch.setattr(_precision, "milliseconds", clock(**times))
    options = tuned(precision="auto", accuracy=0.8)
    result = export_model(shared_run, tmp_path / "1", options)["precision"]
    assert (result["precision"], result["milliseconds"]) == (chosen, times)
    assert narrow_tables(tmp_path / "1") == {chosen} - {"float32"}


@pytest.mark.parametrize(("wide_takes", "chosen"), [(1.0, "bfloat16"), (0.9, "float32")])
def test_the_precision_is_compared_with_float32_by_the_walk_that_is_chosen(
    shared_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide_takes: float, chosen: str
) -> None:
    times = {"bfloat16": 1.0, "float16": 1.2, "int8": 1.2, "float32": 1.2}
    monkeypatch.setattr(_precision, "milliseconds", clock(**times))
    times = {"adaptive": 1.0, "all": 9.0, "adaptive in float32": wide_takes}
    monkeypatch.setattr(_walk_choice, "milliseconds", clock(**times))
    tuning = Tuning(walk="adaptive", precision="auto", accuracy=0.8, target_agreement=0.5)
    result = export_model(shared_run, tmp_path / "1", ExportOptions(tuning=tuning))
    assert result["precision"]["precision"] == chosen
    assert result["precision"]["milliseconds"] == {"bfloat16": 1.0, "float32": wide_takes}
    assert result["calibration"]["milliseconds"] == (wide_takes if chosen == "float32" else 1.0)
    assert narrow_tables(tmp_path / "1") == {chosen} - {"float32"}
    verify_model(tmp_path / "1", run_dir=shared_run)


@pytest.mark.parametrize(
    ("run", "model", "precision", "error", "message"),
    [
        (
            "steep",
            PositiveModel,
            "bfloat16",
            VerificationError,
            r"expected bfloat16 to find 99\.9% of float32's results",
        ),
        (
            "steep",
            PositiveModel,
            "int8",
            VerificationError,
            r"expected int8 to find 99\.9% of float32's results",
        ),
        (
            "random",
            ProductModel,
            "bfloat16",
            InvalidInputError,
            "found a distance, which is computed in float32",
        ),
        (
            "large",
            PositiveModel,
            "float16",
            InvalidInputError,
            r"expected numbers up to 65,504 .*, found [1-9],\d{3},\d{3}",
        ),
    ],
)
def test_a_precision_that_loses_too_much_is_refused(
    runs: dict[str, Path],
    tmp_path: Path,
    run: str,
    model: Any,
    precision: Any,
    error: type[Exception],
    message: str,
) -> None:
    options = tuned(precision=precision, accuracy=0.999)
    with pytest.raises(error, match=message):
        export_model(runs[run], tmp_path / "1", options, model=model())
    assert not (tmp_path / "1").exists()


def test_the_adaptive_walk_is_exported_and_verified(shared_run: Path, tmp_path: Path) -> None:
    options = tuned(walk="adaptive", expand=4)
    result = export_model(shared_run, tmp_path / "1", options)
    assert result["expand"] == 4
    verify_model(tmp_path / "1", run_dir=shared_run)
    verify_model(tmp_path / "1")


def test_a_reordered_export_answers_the_same(tmp_path: Path) -> None:
    """Positions are internal: with ids as the tie-break, only they change."""
    run = write_run(tmp_path / "run", items=2000)
    export_model(run, tmp_path / "m/1", tuned())
    export_model(run, tmp_path / "m/2", ExportOptions(level_topn=BEAMS, reorder=True))
    plain, reordered = answers(tmp_path / "m/1", BEAMS), answers(tmp_path / "m/2", BEAMS)
    np.testing.assert_array_equal(plain["items_scored"], reordered["items_scored"])
    np.testing.assert_array_equal(np.sort(plain["top_k"]), np.sort(reordered["top_k"]))
    ids = [np.load(tmp_path / f"m/{version}/assets/item_ids.npy") for version in (1, 2)]
    assert (ids[0] != ids[1]).any()
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["1", "2"]


@pytest.mark.parametrize("walk", ["fixed", "adaptive"])
def test_beams_are_widened_to_the_wanted_agreement(shared_run: Path, tmp_path: Path, walk: Any) -> None:
    tuning = Tuning(walk=walk, target_agreement=0.9)
    result = export_model(
        shared_run, tmp_path / "1", ExportOptions(level_topn=[10, 30, 1, 1, 1, 25], tuning=tuning)
    )
    assert result["calibration"]["agreement"] >= 0.9
    assert result["level_topn"] == result["calibration"]["level_topn"]
    assert result["level_topn"][:2] == [10, 30]
    assert result["level_topn"][-1] == 25
    assert manifest_of(tmp_path / "1")["level_topn"] == result["level_topn"]


def test_the_narrowest_beam_is_searched_for() -> None:
    asked = []

    def measure(width: int) -> Agreement:
        asked.append(width)
        return Agreement([width], {10: np.full(5, min(width / 1000, 1.0))}, float(width))

    assert 900 <= narrowest(measure, 0.9, 5000).level_topn[0] <= 945
    assert len(asked) < 15
    with pytest.raises(InvalidInputError, match=r"beams of 500 reach 0\.500, less than 0\.9"):
        narrowest(measure, 0.9, 500)


@pytest.mark.parametrize(("model", "expand"), [(TinyModel, 32), (ProductModel, 8)])
def test_the_adaptive_walk_expands_what_suits_the_scorer(
    shared_run: Path, tmp_path: Path, model: Any, expand: int
) -> None:
    options = tuned(walk="adaptive")
    result = export_model(shared_run, tmp_path / "1", options, model=model())
    assert result["expand"] == expand


@pytest.mark.parametrize(
    "wish", [{"accuracy": 0.0}, {"accuracy": 1.5}, {"target_agreement": 2.0}, {"expand": 0}, {"users": 0}]
)
def test_wishes_are_checked(wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        Tuning(**wish)
