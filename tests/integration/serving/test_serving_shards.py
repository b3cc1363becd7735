"""A corpus in shards, each behind a server of its own: answers, failures, versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nann.serving.client import (
    DeadlineExceededError,
    NannClient,
    ShardedClient,
    ShardedTopK,
    UnavailableError,
)
from support.tiny_model import E, L
from support.tiny_run import write_run

N = 6000
K = 50
USERS = 32
SECONDS = 60
# Of the walk over all items, and of a shard: so wide that all shards together score no more items than it.
WHOLE_BEAMS = [100, 200, 200, 200, K]
SHARD_BEAMS = {1: WHOLE_BEAMS, 2: [40, 80, 80, 80, K], 4: [17, 33, 33, 33, K]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs over the same items; the second has moved all of them a little."""
    from nann.export import build_index

    folder = tmp_path_factory.mktemp("runs")
    found = []
    for name, scale in (("first", 1.0), ("second", 0.97)):
        run = write_run(folder / name, items=N)
        embs = np.load(run / "embeddings/item_embs.npy")
        np.save(run / "embeddings/item_embs.npy", embs * np.float32(scale))
        (run / "run.json").write_text(json.dumps({"format": 1, "model": "support.smooth_model:SmoothModel"}))
        build_index(run, m=12, start_level=1, hops_per_level=(3,), threads=1)
        found.append(run)
    return found[0], found[1]


@pytest.fixture(scope="module")
def models(runs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of the whole and of 1, 2 and 4 shards; version 2 of four shards beside, as `later`."""
    from nann.export import ExportOptions, Tuning, export_model, export_shards

    def fixed(beams: Sequence[int]) -> ExportOptions:
        return ExportOptions(level_topn=beams, tuning=Tuning(walk="fixed"))

    folder = tmp_path_factory.mktemp("models")
    export_model(runs[0], folder / "whole/1", fixed(WHOLE_BEAMS))
    for shards, beams in SHARD_BEAMS.items():
        export_shards(runs[0], folder / "nann/1", fixed(beams), shards=shards, threads=1)
    export_shards(runs[1], folder / "later/2", fixed(SHARD_BEAMS[4]), shards=4, threads=1)
    return folder


def _config(path: Path, base_paths: dict[str, Path]) -> str:
    """Serve the two newest versions of each model."""
    models = "".join(
        f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" '
        "model_version_policy { latest { num_versions: 2 } } }\n"
        for name, base_path in base_paths.items()
    )
    path.write_text(f"model_config_list {{ {models} }}")
    return str(path)


@pytest.fixture(scope="module")
def start_shard(models: Path, serve: Callable[..., Any], tmp_path_factory: Any) -> Callable[..., Any]:
    """Start the server of one of four shards, on a free port or a given one."""
    folder = tmp_path_factory.mktemp("configs")

    def start(shard: int, port: str = "0") -> Any:
        config = _config(folder / f"{shard}.config", {"nann": models / f"nann-{shard}-of-4"})
        return serve("--model_config_file", config, "--port", port)

    return start


@pytest.fixture(scope="module")
def four(start_shard: Callable[..., Any]) -> Iterator[list[Any]]:
    """A server for each of four shards."""
    servers = [start_shard(shard) for shard in range(4)]
    yield [server.wait_ready() for server in servers]
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def others(models: Path, serve: Callable[..., Any], tmp_path_factory: Any) -> Iterator[Any]:
    """One server of everything else, and of a replica of the first of four shards."""
    base_paths = {
        "whole": models / "whole",
        "1-0": models / "nann-0-of-1",
        "2-0": models / "nann-0-of-2",
        "2-1": models / "nann-1-of-2",
        "nann": models / "nann-0-of-4",
    }
    config = _config(tmp_path_factory.mktemp("config") / "models", base_paths)
    server = serve("--model_config_file", config)
    yield server.wait_ready()
    server.close()


@pytest.fixture(scope="module")
def users() -> Any:
    return np.random.default_rng(5).normal(size=(USERS, L, E)).astype(np.float32)


Shards = list[tuple[str, str]]


@pytest.fixture(scope="module")
def addresses(four: list[Any], others: Any) -> dict[int, Shards]:
    """Number of shards -> address and model of each."""
    return {
        1: [(others.grpc, "1-0")],
        2: [(others.grpc, "2-0"), (others.grpc, "2-1")],
        4: [(server.grpc, "nann") for server in four],
    }


def _sharded(shards: Shards, **options: Any) -> ShardedClient:
    targets, models = zip(*shards, strict=True)
    return ShardedClient(targets, model=models, **{"timeout": SECONDS, **options})


def _merged(shards: Shards, call: Callable[[NannClient], Any]) -> tuple[Any, Any, Any]:
    """The answers of the servers asked one by one, merged in plain Python."""
    answers = []
    for target, model in shards:
        with NannClient(target, model=model, timeout=SECONDS) as client:
            answers.append(call(client))
    rows = []
    for user in range(len(answers[0].ids)):
        found = [
            pair
            for answer in answers
            for pair in zip(answer.ids[user].tolist(), answer.scores[user].tolist(), strict=True)
            if pair[0] != -1
        ]
        found.sort(key=lambda pair: (-pair[1], pair[0]))
        k = answers[0].ids.shape[1]
        rows.append((found + [(-1, -np.inf)] * k)[:k])
    ids = np.array([[item for item, _ in row] for row in rows], np.int64)
    scores = np.array([[score for _, score in row] for row in rows], np.float32)
    return ids, scores, sum(answer.items_scored for answer in answers)


def _assert_is_merge(found: ShardedTopK, expected: tuple[Any, Any, Any]) -> None:
    ids, scores, items_scored = expected
    np.testing.assert_array_equal(found.ids, ids)
    np.testing.assert_array_equal(found.scores, scores)
    np.testing.assert_array_equal(found.items_scored, items_scored)


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_the_answer_is_the_merge_of_the_shards(shards: int, addresses: dict[int, Shards], users: Any) -> None:
    beams = SHARD_BEAMS[shards]
    with _sharded(addresses[shards]) as client:
        client.wait_ready(SECONDS)
        found = client.top_k(users, beams)
        _assert_is_merge(found, _merged(addresses[shards], lambda one: one.top_k(users, beams)))
        assert (found.model_version, found.is_partial, found.ids.shape) == (1, False, (USERS, K))
        # Every shard has a part in it.
        assert (found.ids > 0).all()

        exclude = found.ids[:, :7]
        rest = client.top_k(users, beams, exclude_ids=exclude)
        expected = _merged(addresses[shards], lambda one: one.top_k(users, beams, exclude_ids=exclude))
        _assert_is_merge(rest, expected)
        np.testing.assert_array_equal(rest.ids[:, : K - 7], found.ids[:, 7:])

        items, cates = [[1, 3, 5], [7, 9, 11]], [[100, 101, 102]] * 2
        by_ids = client.top_k_by_ids(items, cates, level_topn=beams)
        _assert_is_merge(
            by_ids, _merged(addresses[shards], lambda one: one.top_k_by_ids(items, cates, level_topn=beams))
        )
        scores = client.score(users, found.ids)
        np.testing.assert_allclose(scores, found.scores, rtol=1e-6)


def test_users_who_ask_for_less_get_less(addresses: dict[int, Shards], users: Any) -> None:
    beams = np.array([SHARD_BEAMS[4], [9, 9, 9, 9, 3]])
    with _sharded(addresses[4]) as client:
        found = client.top_k(users[:2], beams)
        alone = client.top_k(users[1:2], beams[1])
    assert (found.ids[1, 3:] == -1).all()
    assert np.isneginf(found.scores[1, 3:]).all()
    np.testing.assert_array_equal(found.ids[1, :3], alone.ids[0])
    assert (found.ids[0] > 0).all()


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_agreement_with_brute_force_is_that_of_the_whole(
    shards: int,
    addresses: dict[int, Shards],
    others: Any,
    runs: tuple[Path, Path],
    users: Any,
    figure: Callable[[str], None],
) -> None:
    """As many of the best items as the walk over all items finds, and no more items scored for it."""
    ids = np.load(runs[0] / "embeddings/item_ids.npy")
    with NannClient(others.grpc, model="whole", timeout=SECONDS) as client:
        scores = np.concatenate([client.score(user, ids) for user in users])
        whole = client.top_k(users, WHOLE_BEAMS)
    best = [set(ids[np.lexsort((ids, -row))[:K]].tolist()) for row in scores]
    with _sharded(addresses[shards]) as client:
        found = client.top_k(users, SHARD_BEAMS[shards])

    def agreement(answer: Any) -> float:
        return float(
            np.mean([len(b & set(row.tolist())) / K for b, row in zip(best, answer.ids, strict=True)])
        )

    assert found.items_scored is not None
    figure(
        f"{shards} shards: agreement {agreement(found):.4f}, the whole's {agreement(whole):.4f} "
        f"and 0.99 are asked for; {found.items_scored.sum()} items scored, at most {whole.items_scored.sum()}"
    )
    assert found.items_scored.sum() <= whole.items_scored.sum() < 0.5 * N * USERS
    assert agreement(found) >= agreement(whole) > 0.99


def test_a_killed_shard_is_missing_until_it_returns(
    addresses: dict[int, Shards], four: list[Any], start_shard: Callable[..., Any], users: Any
) -> None:
    beams = SHARD_BEAMS[4]
    without_it = [addresses[4][shard] for shard in (0, 1, 3)]
    with _sharded(addresses[4], allow_partial=True) as client:
        before = client.top_k(users, beams)
        four[2].kill()
        found = client.top_k(users, beams)
        assert [(part.shard, type(part.error)) for part in found.missing] == [(2, UnavailableError)]
        _assert_is_merge(found, _merged(without_it, lambda one: one.top_k(users, beams)))
        with pytest.raises(UnavailableError, match=f"shard 2 of 4: Predict .* at {four[2].grpc} failed"):
            client.top_k(users, beams, allow_partial=False)
        four[2] = start_shard(2, port=four[2].grpc.rpartition(":")[2]).wait_ready()
        client.wait_ready(SECONDS)
        again = client.top_k(users, beams)
    assert not again.is_partial
    np.testing.assert_array_equal(again.ids, before.ids)


def test_a_hanging_shard_is_missing_at_its_deadline(addresses: dict[int, Shards], four: list[Any]) -> None:
    """It is the first, which a new client would ask for the shapes of the inputs."""
    beams = SHARD_BEAMS[4]
    items, cates = [[1, 3, 5]], [[100, 101, 102]]
    with _sharded(addresses[4], shard_timeout=4.0, allow_partial=True) as client:
        four[0].suspend()
        try:
            found = client.top_k_by_ids(items, cates, level_topn=beams)
            with pytest.raises(DeadlineExceededError, match="shard 0 of 4"):
                client.top_k_by_ids(items, cates, level_topn=beams, allow_partial=False)
        finally:
            four[0].resume()
        assert [(part.shard, type(part.error)) for part in found.missing] == [(0, DeadlineExceededError)]
        expected = _merged(addresses[4][1:], lambda one: one.top_k_by_ids(items, cates, level_topn=beams))
        _assert_is_merge(found, expected)
        client.wait_ready(SECONDS)
    with _sharded(addresses[4]) as client:
        assert not client.top_k_by_ids(items, cates, level_topn=beams).is_partial


def test_another_replica_answers_for_a_hanging_one(
    addresses: dict[int, Shards], four: list[Any], others: Any, users: Any
) -> None:
    """The call has no time limit that a hanging replica would reach in this test."""
    beams = SHARD_BEAMS[4]
    replicas: list[Any] = [[four[0].grpc, others.grpc], *(server.grpc for server in four[1:])]
    with _sharded(addresses[4]) as client:
        expected = client.top_k(users, beams)
    with ShardedClient(replicas, timeout=3600, hedge_after=0.2) as client:
        client.wait_ready(SECONDS)
        four[0].suspend()
        try:
            answers = [client.top_k(users, beams) for _ in range(2)]  # each replica once is the first
        finally:
            four[0].resume()
    for found in answers:
        assert not found.is_partial
        np.testing.assert_array_equal(found.ids, expected.ids)


def test_nann_query_asks_all_shards(
    addresses: dict[int, Shards], four: list[Any], others: Any, users: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "user.npy", users[0])
    command = [sys.executable, "-m", "nann", "query", "--comm-seq", str(tmp_path / "user.npy")]
    command += ["--level-topn", ",".join(map(str, SHARD_BEAMS[4]))]
    targets = [f"{four[0].grpc},{others.grpc}", *(server.grpc for server in four[1:])]
    with _sharded(addresses[4]) as client:
        expected = client.top_k(users[:1], SHARD_BEAMS[4])

    def run(*flags: str) -> Any:
        options = [part for target in targets for part in ("--target", target)]
        return subprocess.run([*command, *options, *flags], capture_output=True, text=True, check=False)

    done = run("--json", "--hedge-after", "p95")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["users"][0]["ids"] == expected.ids[0].tolist()
    assert (answer["model_version"], answer["missing_shards"]) == (1, [])
    targets[2] = "localhost:1"
    refused = run()
    assert (refused.returncode, "shard 2 of 4" in refused.stderr) == (1, True)
    partial = run("--allow-partial")
    assert partial.returncode == 0, partial.stderr
    assert "without shard 2" in partial.stdout


def test_versions_are_not_mixed_while_one_is_rolled_out(
    addresses: dict[int, Shards], four: list[Any], models: Path, users: Any
) -> None:
    """Last in this file: the servers have the second version from here on."""
    beams = SHARD_BEAMS[4]

    def publish(shard: int) -> None:
        os.rename(models / f"later-{shard}-of-4/2", models / f"nann-{shard}-of-4/2")
        four[shard].wait_for_log("version 2: available")

    old = _merged(addresses[4], lambda one: one.top_k(users, beams))
    for shard in range(4):
        # A client of its own: it has not learnt yet which version all shards have.
        with _sharded(addresses[4]) as client:
            found = client.top_k(users, beams)
            assert found.model_version == 1
            _assert_is_merge(found, old)
        publish(shard)
    with _sharded(addresses[4]) as client:
        new = client.top_k(users, beams)
    _assert_is_merge(new, _merged(addresses[4], lambda one: one.top_k(users, beams)))
    assert new.model_version == 2
    assert (new.scores != old[1]).any()
