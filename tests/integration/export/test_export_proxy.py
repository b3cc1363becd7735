"""`--walk proxy`: an export with the features of the proxy walk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.export import ExportOptions, Tuning, export_model, export_shards, verify_model
from support.tiny_model import TinyModel
from support.tiny_run import write_run

BEAMS = [50, 100, 100, 100, 100, 20]


def options(**tuning: Any) -> ExportOptions:
    return ExportOptions(level_topn=BEAMS, tuning=Tuning(walk="proxy", **tuning))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("proxy") / "run", items=4000)


@pytest.fixture(scope="module")
def exported(run: Path) -> tuple[Path, dict[str, Any]]:
    out = run.parent / "models/1"
    return out, export_model(run, out, options(target_agreement=0.98))


def test_it_finds_what_brute_force_finds_for_few_scores(
    exported: tuple[Path, dict[str, Any]], run: Path
) -> None:
    """The export itself has compared its answers with the oracle's."""
    _, result = exported
    calibration = result["calibration"]
    assert calibration["agreement"] >= 0.98
    assert calibration["items_scored"] < 800
    assert result["proxy"]["features"] == "proxy_features"


def test_it_is_verified_with_and_without_the_run(exported: tuple[Path, dict[str, Any]], run: Path) -> None:
    out, _ = exported
    verify_model(out, run_dir=run)
    verify_model(out)


def test_the_tables_are_assets_and_stand_in_the_manifest(exported: tuple[Path, dict[str, Any]]) -> None:
    out, _ = exported
    manifest = json.loads((out / "assets.extra/nann_manifest.json").read_text())
    features = manifest["tables"]["item"]["proxy_features"]
    assert (features["dtype"], features["shape"]) == ("float16", [4000, 64])
    samples = np.load(out / manifest["tables"]["user"]["proxy_samples"]["file"])
    group, position = np.divmod(samples, 4000)
    assert (np.diff(samples) > 0).all()
    assert (np.bincount(group)[0], group[-1]) == (48, 48)
    assert sorted(path.name for path in (out / "assets").iterdir() if "proxy" in path.name) == [
        "item_table_proxy_features.npy",
        "user_table_proxy_samples.npy",
    ]
    assert np.unique(position[group > 0]).size == (group > 0).sum()


def test_shards_have_features_of_their_own(run: Path, tmp_path: Path) -> None:
    result = export_shards(run, tmp_path / "nann/1", options(), shards=2, threads=1)
    for model, items in zip(result["models"], result["items_of_shard"], strict=True):
        features = np.load(Path(model) / "assets/item_table_proxy_features.npy", mmap_mode="r")
        assert features.shape == (items, 64)
        verify_model(model, run_dir=run)


class ConstantModel(TinyModel):
    def score(self, user_state: Any, item_embs: Any) -> Any:
        return 0 * super().score(user_state, item_embs)


def test_scores_that_say_nothing_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"walk: expected sample users to whom items differ"):
        export_model(run, tmp_path / "1", options(), model=ConstantModel())
    assert not (tmp_path / "1").exists()


def test_the_walk_needs_its_features() -> None:
    with pytest.raises(InvalidInputError, match=r"walk: expected fixed or adaptive without .*, found proxy"):
        Tuning(walk="proxy", proxy=False)
