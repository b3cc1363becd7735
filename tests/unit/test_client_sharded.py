"""The client of several shards: merged answers, missing shards, one version for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from nann.errors import InvalidInputError
from nann.serving.client import (
    DeadlineExceededError,
    ModelNotFoundError,
    NannClientError,
    RequestRejectedError,
    ResponseError,
    ShardedClient,
    UnavailableError,
    VersionMismatchError,
)
from support.scripted_shards import BEAMS, SECONDS, USER, Server, client_of, starting_servers, top_k


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with starting_servers() as start:
        yield start


@pytest.fixture
def pair(serve: Callable[..., Server]) -> tuple[Server, Server]:
    """Two shards."""
    return serve({10: 3.0, 11: 1.0}), serve({20: 2.0, 21: 1.0})


def test_all_shards_are_asked_the_same_and_merged(pair: tuple[Server, Server]) -> None:
    with client_of(*pair, model="m") as client:
        client.wait_ready(SECONDS)
        found = client.top_k(USER, BEAMS, exclude_ids=[7])
    assert found.ids.tolist() == [[10, 20]]
    assert found.scores.tolist() == [[3.0, 2.0]]
    assert found.items_scored is not None
    assert found.items_scored.tolist() == [4]
    assert (found.model_version, found.missing, found.is_partial) == (1, (), False)
    ids, scores = found
    assert ids is found.ids
    assert scores is found.scores
    first, second = (server.requests[0] for server in pair)
    assert first == second
    assert (first.model_spec.name, first.model_spec.signature_name) == ("m", "retrieve")
    assert sorted(first.inputs) == ["comm_seq", "exclude_ids", "level_topn"]


def test_a_model_name_for_each_shard(pair: tuple[Server, Server]) -> None:
    with client_of(*pair, model=["a", "b"]) as client:
        top_k(client)
    assert [server.requests[0].model_spec.name for server in pair] == ["a", "b"]


def test_scores_come_from_the_shard_that_has_the_item(serve: Callable[..., Server]) -> None:
    first = serve({1: -3.0, 2: -np.inf})
    second = serve({1: -np.inf, 2: 4.0})
    for server in (first, second):
        server.scores = {item: np.float32(score) for item, score in server.scores.items()}
    with client_of(first, second) as client:
        assert client.score(USER, [1, 2]).tolist() == [[-3.0, 4.0]]
        second.fails = grpc.StatusCode.INTERNAL
        with pytest.raises(NannClientError, match=r"shard 1 of 2: Predict .* INTERNAL"):
            client.score(USER, [1, 2])


def test_what_no_shard_takes_is_not_sent(pair: tuple[Server, Server]) -> None:
    narrow = np.ones((1, 4), np.float32)  # May be one user of another length: the signatures are fetched.
    with client_of(*pair) as client:
        for _ in range(2):
            with pytest.raises(InvalidInputError, match=r"comm_seq: expected .*6, got shape \[1, 4\]"):
                client.top_k(narrow, BEAMS)
        with pytest.raises(InvalidInputError, match="mood: expected an input of the signature"):
            client.top_k({"comm_seq": USER, "mood": [[1.0]]}, BEAMS)
    assert not any(server.requests for server in pair)


def test_the_same_shard_twice_is_noticed(pair: tuple[Server, Server]) -> None:
    with (
        client_of(pair[0], pair[0]) as client,
        pytest.raises(ResponseError, match="found item 10 in two of them"),
    ):
        top_k(client)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.NOT_FOUND, ModelNotFoundError),
        (grpc.StatusCode.INTERNAL, NannClientError),
    ],
)
def test_a_failing_shard(pair: tuple[Server, Server], code: grpc.StatusCode, kind: type[Exception]) -> None:
    pair[1].fails = code
    with client_of(*pair, allow_partial=True) as client:
        found = top_k(client)
        assert found.ids.tolist() == [[10, 11]]
        assert (found.is_partial, [missing.shard for missing in found.missing]) == (True, [1])
        error = found.missing[0].error
        assert isinstance(error, kind)
        assert (error.code, error.target, error.details) == (code.name, pair[1].target, "because")
        with pytest.raises(kind, match=r"shard 1 of 2: Predict .*because"):
            top_k(client, allow_partial=False)
        pair[1].fails = None
        assert not top_k(client).is_partial


def test_no_shard_at_all_is_an_error(pair: tuple[Server, Server]) -> None:
    for server in pair:
        server.fails = grpc.StatusCode.UNAVAILABLE
    with (
        client_of(*pair, allow_partial=True) as client,
        pytest.raises(UnavailableError, match="shard 0 of 2"),
    ):
        top_k(client)


def test_a_refused_request_is_no_missing_shard(pair: tuple[Server, Server]) -> None:
    pair[1].fails = grpc.StatusCode.INVALID_ARGUMENT
    with (
        client_of(*pair, allow_partial=True) as client,
        pytest.raises(RequestRejectedError, match=r"shard 1 of 2: .*because"),
    ):
        top_k(client)


def test_a_hanging_shard_is_missing_at_its_deadline(pair: tuple[Server, Server]) -> None:
    pair[1].hangs = True
    with client_of(*pair, shard_timeout=0.3, allow_partial=True) as client:
        found = top_k(client)
        assert found.ids.tolist() == [[10, 11]]
        assert [type(missing.error) for missing in found.missing] == [DeadlineExceededError]
        with pytest.raises(DeadlineExceededError, match="shard 1 of 2"):
            top_k(client, allow_partial=False)
    assert all(remaining < 1 for server in pair for remaining in server.remaining)


def test_the_first_failure_ends_the_calls_to_other_shards(pair: tuple[Server, Server]) -> None:
    pair[0].hangs = True
    pair[1].waits_for = pair[0].called
    pair[1].fails = grpc.StatusCode.INTERNAL
    with client_of(*pair) as client:
        with pytest.raises(NannClientError, match="shard 1 of 2"):
            top_k(client)
        assert pair[0].cancelled.wait(SECONDS)


def test_one_version_for_all_shards(pair: tuple[Server, Server]) -> None:
    """While a version is rolled out, the one that all have answers, and is asked for from then on."""
    ahead, behind = pair
    ahead.versions = (1, 2)
    with client_of(*pair) as client:
        found = top_k(client)
        assert (found.model_version, found.ids.tolist()) == (1, [[10, 20]])
        assert (ahead.asked, behind.asked) == ([None, 1], [None])
        assert top_k(client).model_version == 1
        assert (ahead.asked, behind.asked) == ([None, 1, 1], [None, 1])
        # The old version goes: what was asked for instead is gone, too.
        ahead.versions = behind.versions = (2,)
        assert top_k(client).model_version == 2
        assert (ahead.asked[-1], behind.asked[-1]) == (None, None)


def test_replicas_of_different_versions(serve: Callable[..., Server]) -> None:
    """The replica that has the version of the other shards is found."""
    new, old = serve({10: 3.0}, (2,)), serve({10: 3.0}, (1,))
    other = serve({20: 2.0}, (1,))
    with client_of([new, old], other) as client:
        found = top_k(client)
    assert (found.model_version, found.ids.tolist()) == (1, [[10, 20]])
    both = serve({20: 2.0}, (2,))
    with client_of([old, new], both) as client:
        assert top_k(client).model_version == 2


@pytest.mark.parametrize("allow_partial", [False, True])
def test_versions_are_never_mixed(pair: tuple[Server, Server], allow_partial: bool) -> None:
    pair[0].versions = (2,)
    with (
        client_of(*pair, allow_partial=allow_partial) as client,
        pytest.raises(
            VersionMismatchError, match=r"version 2 from shards \[0\]; version 1 from shards \[1\]"
        ),
    ):
        top_k(client)


def test_a_version_asked_for(pair: tuple[Server, Server]) -> None:
    pair[0].versions = (1, 2)
    with client_of(*pair, version=1) as client:
        assert top_k(client).model_version == 1
        with pytest.raises(ModelNotFoundError, match="shard 1 of 2"):
            top_k(client, version=2)
        found = top_k(client, version=2, allow_partial=True)
        assert (found.model_version, [missing.shard for missing in found.missing]) == (2, [1])


def test_a_label_that_is_being_moved(pair: tuple[Server, Server]) -> None:
    pair[0].versions = (1, 2)
    with client_of(*pair) as client:
        assert top_k(client, version="stable").model_version == 1
        assert [server.asked for server in pair] == [["stable", 1], ["stable"]]
        top_k(client)
        assert [server.asked[-1] for server in pair] == [1, None]


def test_a_missing_shard_is_not_asked_for_its_version(pair: tuple[Server, Server], serve: Any) -> None:
    ahead, behind = pair
    ahead.versions = (1, 2)
    down = serve({30: 9.0})
    down.fails = grpc.StatusCode.UNAVAILABLE
    with client_of(ahead, behind, down, allow_partial=True) as client:
        found = top_k(client)
    assert (found.model_version, [missing.shard for missing in found.missing]) == (1, [2])
    assert len(down.remaining) == 1


def test_readiness_needs_one_replica_of_each_shard(serve: Callable[..., Server]) -> None:
    working, empty, other = serve({10: 3.0}), serve({10: 3.0}), serve({20: 2.0})
    empty.versions = ()
    with client_of([empty, working], other) as client:
        client.wait_ready(SECONDS)
    with (
        client_of(other, empty) as client,
        pytest.raises(ModelNotFoundError, match=r"shard 1 of 2: .*no version"),
    ):
        client.wait_ready(SECONDS)
    with (
        ShardedClient([other.target, ["localhost:1", "localhost:1"]]) as client,
        pytest.raises(DeadlineExceededError, match=r"shard 1 of 2: .*is the server running"),
    ):
        client.wait_ready(0.3)


def test_many_threads_share_aclient_of(pair: tuple[Server, Server]) -> None:
    with client_of(*pair, hedge_after="p95") as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: top_k(client).ids.tolist(), range(64)))
    assert answers == [[[10, 20]]] * 64


def test_channels_of_the_callers_own(pair: tuple[Server, Server]) -> None:
    opened = []

    def channel(target: str) -> grpc.Channel:
        opened.append(target)
        return grpc.insecure_channel(target)

    with client_of(*pair, channel=channel) as client:
        top_k(client)
    assert opened == [server.target for server in pair]
    with pytest.raises(NannClientError, match="closed"):
        top_k(client)


def test_options_are_checked() -> None:
    with pytest.raises(InvalidInputError, match=r"got one string; write \['localhost:1'\]"):
        ShardedClient("localhost:1")
    for shards in ([], [[]]):
        with pytest.raises(InvalidInputError, match="shards: expected a list"):
            ShardedClient(shards)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="one for each of 2 shards"):
        ShardedClient(["localhost:1", "localhost:2"], model=["a"])
    with pytest.raises(InvalidInputError, match="hedge_after"):
        ShardedClient(["localhost:1"], hedge_after="p99")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="not both"):
        ShardedClient(
            ["localhost:1"], channel=grpc.insecure_channel, credentials=grpc.local_channel_credentials()
        )
