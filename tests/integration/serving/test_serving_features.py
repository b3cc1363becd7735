"""Served: strings, raw integers, an open length, a FeatureSpace, a recurrent user, item state, odd names."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nann.cli import main
from nann.errors import InvalidInputError
from nann.export import ExportOptions, export_model
from nann.serving.client import NannClient, RequestRejectedError
from support.modern_model import BEAMS, USERS, Modern, expected_scores, request, write_run
from support.tiny_model import D


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("features") / "run")


@pytest.fixture(scope="module")
def address(run: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    models = run.parent / "models"
    # The table is a mapped file though the user is recurrent.
    options = ExportOptions(level_topn=BEAMS, table_bytes=0)
    result = export_model(run, models / "1", options, model=Modern())
    assert "clicked_items_vocabulary" in result["user_tables"]
    server = serve("--model_name", "nann", "--model_base_path", str(models))
    yield server.wait_ready()
    server.close()


def _check(run: Path, ids: Any, scores: Any) -> None:
    assert len(ids) == len(USERS)
    for user, items, found in zip(USERS, ids, scores, strict=True):
        assert len(set(items)) == BEAMS[-1]
        np.testing.assert_allclose(found, expected_scores(run, user, items), rtol=1e-4, atol=1e-5)


def test_the_client_sends_features_of_any_kind(run: Path, address: Any) -> None:
    clicks, countries, hours, spends = (list(each) for each in zip(*USERS, strict=True))
    features = {"clicked items": clicks, "country": countries, "hour": hours, "spend": spends}
    with NannClient(address.grpc, model="nann") as client:
        result = client.top_k_by_ids(features, level_topn=BEAMS)
        _check(run, result.ids, result.scores)
        first = {name: values[0] for name, values in features.items()}
        one = client.top_k_by_ids(level_topn=BEAMS, **first)
        np.testing.assert_array_equal(one.ids[0], result.ids[0])
        with pytest.raises(InvalidInputError, match="hour: expected int32"):
            client.top_k_by_ids({**features, "hour": ["noon"] * 3}, level_topn=BEAMS)
        padded = {"clicked items": [[5], [5], [5]], "clicked items_length": [1, 1, 2]}
        with pytest.raises(RequestRejectedError, match="expected 0 to the width of clicked items"):
            client.top_k_by_ids({**features, **padded}, level_topn=BEAMS)


def test_rest_takes_them_too(run: Path, address: Any) -> None:
    columns = {name: values.tolist() for name, values in request().items()}
    columns["country"] = [user[1] for user in USERS]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    body = {"signature_name": "retrieve_by_ids", "instances": rows}
    sent = urllib.request.Request(
        f"http://{address.rest}/v1/models/nann:predict", data=json.dumps(body).encode()
    )
    with urllib.request.urlopen(sent, timeout=30) as response:
        answers = json.load(response)["predictions"]
    _check(run, [each["top_k"] for each in answers], [each["scores"] for each in answers])


def test_nann_query_sends_them_and_a_state(run: Path, address: Any, tmp_path: Path) -> None:
    common = ["query", "--target", address.grpc, "--level-topn", ",".join(map(str, BEAMS)), "--json"]
    for clicks, country, hour, spend in USERS:
        text = f"clicked items={','.join(map(str, clicks))}"
        word = country or '""'
        features = [text, f"country={word}", f"hour={hour}", f"spend={spend}"]
        options = [part for each in features for part in ("--feature", each)]
        found = _asked([*common, *options])
        expected = expected_scores(run, (clicks, country, hour, spend), found["ids"])
        np.testing.assert_allclose(found["scores"], expected, rtol=1e-4, atol=1e-5)
    np.save(tmp_path / "user.npy", np.ones((1, D), np.float32))
    found = _asked([*common, "--state", f"user-vector={tmp_path / 'user.npy'}"])
    assert len(found["ids"]) == BEAMS[-1]
    done = CliRunner().invoke(main, [*common, "--feature", "hour=3", "--state", "user-vector=user.npy"])
    assert "give the user by features" in done.stderr


def _asked(arguments: list[str]) -> dict[str, Any]:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    user: dict[str, Any] = json.loads(done.stdout)["users"][0]
    return user
