"""Which walk and beams an export takes, and what it says of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidInputError
from nann.export import ExportOptions, Tuning, _calibrate, export_model, verify_model
from nann.export._calibrate import Agreement, _search, calibrate_proxy, narrowest
from nann.export._walk_choice import _fastest, _served
from nann.export.agreement import shares, worst_share, worst_users
from nann.export.loaded import loaded
from nann.export.scorer import Scorer
from nann.ops import ProxyWalk
from support.tiny_model import D, TinyModel
from support.tiny_run import write_run


class RoughModel(TinyModel):
    """Scores that say nothing about near items."""

    def score(self, user_state: Any, item_embs: tf.Tensor) -> tf.Tensor:
        user = tf.reduce_mean(user_state["comm_seq"], axis=0)[:D]
        return tf.reduce_sum(tf.sin(40.0 * item_embs * (1.0 + user)), axis=1)


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 items: a walk scores fewer than half of them."""
    return write_run(tmp_path_factory.mktemp("large") / "run", items=3000, m=16)


def test_an_export_without_options_reaches_the_target(large_run: Path, tmp_path: Path) -> None:
    result = export_model(large_run, tmp_path / "1")
    found = result["calibration"]
    wider = {name for name in found["considered"] if name.startswith("proxy ")}
    assert set(found["considered"]) - wider == {"adaptive", "adaptive 8", "proxy", "all"}
    assert found["considered"]["all"]["agreement"] == 1.0
    assert found["considered"]["all"]["items_scored"] == 3000
    assert set(found["by_k"]) == {"10", "50", "200"}
    for of_k in found["by_k"].values():
        assert of_k["least"] <= of_k["worst_5_percent"] <= of_k["agreement"]
    assert found["reached"] == (found["agreement"] >= 0.98 and found["worst_5_percent"] >= 0.9)
    assert found["agreement"] >= 0.97
    assert result["level_topn"] == found["level_topn"]
    assert (found["users"], found["tuned_on"], found["source"]) == (128, 128, None)
    features = tmp_path / "1/assets/item_table_proxy_features.npy"
    assert features.exists() == (found["walk"] == "proxy")
    verify_model(tmp_path / "1", run_dir=large_run)


def test_every_item_is_scored_once_for_each_user(
    large_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users: list[int] = []

    def search(index: Any, scorer: Scorer, sample: Any, level_topn: Any) -> Any:
        users.append(sample.users if scorer.score_all else 0)
        return _search(index, scorer, sample, level_topn)

    monkeypatch.setattr(_calibrate, "_search", search)
    found = export_model(large_run, tmp_path / "1", ExportOptions(tuning=Tuning(users=32)))["calibration"]
    assert sum(users) == found["users"] + found["tuned_on"]


@pytest.mark.parametrize("walk", ["adaptive", "proxy", "all"])
def test_a_wanted_walk_is_taken(large_run: Path, tmp_path: Path, walk: Any) -> None:
    result = export_model(large_run, tmp_path / "1", ExportOptions(tuning=Tuning(walk=walk, users=32)))
    assert result["walk"] == result["calibration"]["walk"] == walk
    assert set(result["calibration"]["considered"]) == {walk, "all"}
    verify_model(tmp_path / "1", run_dir=large_run)
    verify_model(tmp_path / "1")


def test_given_beams_and_the_fixed_walk_are_not_measured(shared_run: Path, tmp_path: Path) -> None:
    beams = [10, 30, 40, 40, 40, 25]
    given = export_model(shared_run, tmp_path / "1", ExportOptions(level_topn=beams))
    assert (given["walk"], given["level_topn"], given["calibration"]) == ("adaptive", beams, None)
    fixed = export_model(shared_run, tmp_path / "2", ExportOptions(tuning=Tuning(walk="fixed")))
    assert (fixed["walk"], fixed["calibration"]) == ("fixed", None)
    assert fixed["level_topn"] == [100, 200, 200, 200, 200, 200]


def test_where_no_walk_leads_every_item_is_scored(large_run: Path, tmp_path: Path) -> None:
    options = ExportOptions(tuning=Tuning(users=16, proxy=False))
    result = export_model(large_run, tmp_path / "1", options, model=RoughModel())
    assert result["walk"] == "all"
    assert result["calibration"]["reached"]
    with loaded(tmp_path / "1") as model:
        found = model.run(
            "retrieve",
            {
                "comm_seq": np.ones((1, 40), np.float32),
                "level_topn": np.array([[1, 1, 1, 1, 1, 7]], np.int32),
                "exclude_ids": np.full((1, 1), -1, np.int64),
            },
        )
    assert int(found["items_scored"][0]) == 3000


def test_a_target_out_of_reach_names_what_helps(large_run: Path, tmp_path: Path) -> None:
    """An error where the target was asked for; else the export says how near it came."""
    asked = Tuning(walk="fixed", target_agreement=0.98, users=16)
    options = ExportOptions(level_topn=[1, 1, 1, 1, 1, 200], tuning=asked)
    with pytest.raises(InvalidInputError, match=r"Take another walk \(--walk auto or adaptive\)"):
        export_model(large_run, tmp_path / "1", options, model=RoughModel())
    assert not (tmp_path / "1").exists()


def test_the_command_says_what_it_chose(large_run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["export", "--run", str(large_run), "--out", str(tmp_path / "1"), "--sample-users", "16"]
    )
    assert done.exit_code == 0, done.output
    text = " ".join(done.stdout.split())
    assert "of what scoring every item finds (the worst 5 % of users: " in text
    assert "ms per request" in text
    assert "All are made up" in text
    assert "--requests" in text


def test_the_worst_users_are_the_least_twentieth() -> None:
    of_users = np.array([1.0] * 30 + [0.2, 0.4] + [1.0] * 8)
    assert worst_users(of_users).tolist() == [30, 31]
    assert worst_share(of_users) == pytest.approx(0.3)
    np.testing.assert_array_equal(shares(np.array([[1, 2]]), np.array([[2, 3]])), [0.5])


def test_beams_are_as_wide_as_the_worst_users_need() -> None:
    """The mean alone would be content with half of this width."""

    def measure(width: int) -> Agreement:
        of_users = np.ones(100)
        of_users[:5] = min(1.0, width / 1000)
        return Agreement([width], {10: np.ones(100), 200: of_users}, float(width))

    assert narrowest(measure, 0.98, 2000).worst >= 0.94

    def measure_all_but_one(width: int) -> Agreement:
        of_users = np.ones(100)
        of_users[0] = min(1.0, width / 1000)
        return Agreement([width], {10: of_users}, float(width))

    assert narrowest(measure_all_but_one, 0.98, 2000).least >= 0.84
    few_miss_one = np.ones(128)
    few_miss_one[:2] = 0.9  # of ten: as little as a user can miss
    assert Agreement([1], {10: few_miss_one, 200: np.ones(128)}, 1.0).surplus(0.99) >= 0
    assert Agreement([1], {10: np.ones(128), 200: few_miss_one}, 1.0).surplus(0.99) < 0
    assert Agreement([1], {10: np.ones(4), 50: np.full(4, 0.97)}, 1.0).reaches(0.98) is False


_META = cast(Any, SimpleNamespace(num_items=1000, hops_per_level=[1]))


class _Surveys:
    """Users of whom each survey finds a share, for a number of items; beams, slack and probes add to both."""

    def __init__(self, found: dict[int, float], scored: dict[int, float]) -> None:
        self._found, self._scored = found, scored

    def measure(self, scorer: Any, level_topn: Any) -> Agreement:
        walk = scorer.proxy
        share = self._found[walk.survey] + 0.002 * walk.slack + 0.001 * walk.probes
        share = min(1.0, share + 0.01 * np.log2(level_topn[0] / 10))
        scored = self._scored[walk.survey] + 100 * walk.slack + 80 * walk.probes + 10 * (level_topn[0] - 10)
        return Agreement(list(level_topn), {10: np.full(16, share)}, scored)

    def calibrated(self) -> tuple[list[tuple[int, int, float]], Exception | None]:
        proxy = ProxyWalk(features="features", samples="samples", noise=0.01)
        scorer = Scorer(None, (), 1, proxy=proxy)
        settings, error = calibrate_proxy(cast(Any, self), scorer, _META, [10, 10], 0.98)
        return [(found.level_topn[0], walk.survey, walk.slack) for found, walk in settings], error


def test_a_wider_survey_is_measured_where_it_scores_fewer_items() -> None:
    scored = {2: 384.0, 4: 380.0, 8: 300.0, 16: 300.0}
    reaches_at_once = dict.fromkeys(scored, 0.99)
    assert _Surveys(reaches_at_once, scored).calibrated() == ([(10, 2, 0.0)], None)
    wants_slack = {2: 0.97, 4: 0.977, 8: 0.981, 16: 0.982}  # with probes 4 scores more
    assert _Surveys(wants_slack, scored).calibrated() == ([(10, 4, 1.5), (10, 8, 0.0)], None)


def test_out_of_reach_the_last_steps_of_slack_are_saved() -> None:
    short = {2: 0.90, 4: 0.91, 8: 0.92, 16: 0.94}
    settings, error = _Surveys(short, dict.fromkeys(short, 400.0)).calibrated()
    assert settings == [(80, 16, 0.0)]
    assert "found that the widest survey reaches 0.977, less than 0.98" in str(error)


def test_wider_beams_are_tried_where_the_widest_survey_falls_short() -> None:
    for of_widest, found in ((0.966, (20, 16, 2.0)), (0.955, (40, 16, 2.0)), (0.945, (80, 16, 2.0))):
        short = {2: 0.90, 4: 0.91, 8: 0.92, 16: of_widest}
        assert _Surveys(short, dict.fromkeys(short, 400.0)).calibrated() == ([found], None)


def test_of_equal_times_the_walk_that_scores_fewer_items_is_taken() -> None:
    measured = {
        name: Agreement([1], {10: np.ones(2)}, scored)
        for name, scored in {"all": 5000.0, "adaptive": 900.0, "proxy": 350.0}.items()
    }
    assert _fastest({"all": 1.0, "adaptive": 1.02, "proxy": 1.2}, measured) == "adaptive"
    assert _fastest({"all": 1.0, "adaptive": 1.3, "proxy": 1.2}, measured) == "all"


def test_scoring_every_item_is_taken_where_a_walk_saves_nothing() -> None:
    """300 items: the walk scored 269 of them in the same time, and found 98 %."""
    found = {"all": 300.0, "adaptive": 269.0, "adaptive 8": 265.0}
    measured = {name: Agreement([1], {10: np.ones(2)}, scored) for name, scored in found.items()}
    assert _fastest({"all": 0.23, "adaptive": 0.235, "adaptive 8": 0.25}, measured) == "all"
    assert _fastest({"all": 0.235, "adaptive": 0.23, "adaptive 8": 0.25}, measured) == "all"
    assert _fastest({"all": 0.25, "adaptive": 0.23, "adaptive 8": 0.25}, measured) == "adaptive"


def test_a_disturbed_clock_does_not_choose_a_walk_that_scores_every_item() -> None:
    found = {"all": 3000.0, "adaptive": 2994.0, "proxy": 1200.0}
    measured = {name: Agreement([1], {10: np.ones(2)}, scored) for name, scored in found.items()}
    assert _fastest({"all": 3.1, "adaptive": 1.7}, measured) == "all"
    assert _fastest({"all": 3.1, "adaptive": 1.7, "proxy": 1.8}, measured) == "proxy"
    assert _fastest({"adaptive": 1.7, "proxy": 1.8}, measured) == "adaptive"


def test_a_walk_that_reaches_the_target_goes_before_one_that_reached_it_for_the_tuned_users_only() -> None:
    """A million items: the adaptive walk fell short for other users, the proxy walk reached the target."""
    found = {"adaptive": 0.97, "proxy": 0.985, "all": 1.0}
    measured = {name: Agreement([1], {10: np.full(4, share)}, 1.0) for name, share in found.items()}
    names = list(found)
    assert _served(["adaptive", "all"], names, measured, 0.98) == ["proxy", "all"]
    assert _served(["adaptive", "all"], names, measured, 0.96) == ["adaptive", "all"]
    assert _served(["adaptive", "all"], names, measured, 0.99) == ["adaptive", "all"]
    assert _served([], names[:2], measured, 0.99) == names[:2]
