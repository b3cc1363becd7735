"""The client of several shards: which of a shard's servers it asks, and when another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from nann.serving.client import (
    DeadlineExceededError,
    RequestRejectedError,
    ShardedClient,
    UnavailableError,
)
from nann.serving.client._fan_out import Latencies
from support.scripted_shards import BEAMS, SECONDS, USER, Server, client_of, starting_servers, top_k


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with starting_servers() as start:
        yield start


@pytest.fixture
def pair(serve: Callable[..., Server]) -> tuple[Server, Server]:
    """Two shards."""
    return serve({10: 3.0, 11: 1.0}), serve({20: 2.0, 21: 1.0})


def test_replicas_are_asked_in_turn(serve: Callable[..., Server]) -> None:
    replicas = [serve({10: 3.0}) for _ in range(3)]
    with client_of(replicas) as client:
        for _ in range(6):
            top_k(client)
    assert [len(server.requests) for server in replicas] == [2, 2, 2]


def test_the_next_replica_is_asked_when_one_fails(serve: Callable[..., Server]) -> None:
    failing, gone, working = (serve({10: 3.0}) for _ in range(3))
    failing.fails = grpc.StatusCode.RESOURCE_EXHAUSTED
    gone.fails = grpc.StatusCode.UNAVAILABLE
    with client_of([failing, gone, working]) as client:
        assert top_k(client).ids.tolist() == [[10, -1]]
        assert (len(failing.remaining), len(gone.remaining), len(working.requests)) == (1, 1, 1)


def test_the_only_server_of_a_shard_is_tried_again(serve: Callable[..., Server]) -> None:
    failing, working = serve({10: 3.0}), serve({10: 3.0})
    failing.fails = grpc.StatusCode.UNAVAILABLE
    with client_of(failing, retries=2) as client, pytest.raises(UnavailableError):
        top_k(client)
    assert len(failing.remaining) == 3
    with client_of([failing, working], retries=2) as client:
        top_k(client)
    assert len(failing.remaining) == 4


def test_a_name_with_several_addresses_stands_for_all_of_them(serve: Callable[..., Server]) -> None:
    servers = [serve({10: 3.0}) for _ in range(2)]
    ports = [server.target.rpartition(":")[2] for server in servers]
    with ShardedClient(["ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)]) as client:
        for _ in range(1000):  # until gRPC has connected to both
            top_k(client)
            if all(server.requests for server in servers):
                break
    assert all(server.requests for server in servers)


def test_shapes_are_asked_of_any_server_and_remembered(pair: tuple[Server, Server]) -> None:
    flat = USER.reshape(1, -1)
    pair[0].hangs = True
    with client_of(*pair) as client:
        asking = threading.Thread(target=client.top_k, args=(flat, BEAMS))
        asking.start()
        assert pair[1].called.wait(SECONDS)
        pair[0].hangs = False
        pair[0].release.set()
        asking.join()
        described = sum(server.described for server in pair)
        client.top_k(flat, BEAMS)
        assert sum(server.described for server in pair) == described
        pair[1].fails = grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(RequestRejectedError):
            client.top_k(flat, BEAMS)
        pair[1].fails = None
        client.top_k(flat, BEAMS)
        assert sum(server.described for server in pair) == described + 1


def test_a_refused_request_goes_to_no_other_replica(serve: Callable[..., Server]) -> None:
    refusing, other = serve({10: 3.0}), serve({10: 3.0})
    refusing.fails = grpc.StatusCode.INVALID_ARGUMENT
    with client_of([refusing, other]) as client, pytest.raises(RequestRejectedError):
        top_k(client)
    assert other.requests == []


def test_hedging_asks_another_replica_and_cancels_the_loser(serve: Callable[..., Server]) -> None:
    slow, quick, third = serve({10: 3.0}), serve({10: 3.0}), serve({10: 3.0})
    slow.hangs = True
    with client_of([slow, quick, third], hedge_after=0.05) as client:
        assert top_k(client).ids.tolist() == [[10, -1]]
        assert slow.cancelled.wait(SECONDS)
    assert (len(slow.remaining), len(quick.requests), len(third.requests)) == (1, 1, 0)


def test_the_loser_is_cancelled_while_other_shards_work(serve: Callable[..., Server]) -> None:
    slow, quick, other = serve({10: 3.0}), serve({10: 3.0}), serve({20: 2.0})
    slow.hangs = True
    other.waits_for = slow.cancelled
    with client_of([slow, quick], other, hedge_after=0.05) as client:
        assert top_k(client).ids.tolist() == [[10, 20]]
        assert slow.cancelled.is_set()


def test_a_failing_hedge_leaves_the_first_call_alone(serve: Callable[..., Server]) -> None:
    slow, failing = serve({10: 3.0}), serve({10: 3.0})
    slow.hangs = True
    slow.release = failing.called
    failing.fails = grpc.StatusCode.UNAVAILABLE
    slow.waits_for = threading.Event()
    with client_of([slow, failing], hedge_after=0.05) as client, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(top_k, client)
        assert failing.called.wait(SECONDS)
        slow.waits_for.set()
        assert answer.result().ids.tolist() == [[10, -1]]


def test_one_hedge_only(serve: Callable[..., Server]) -> None:
    slow, slow_too, third = serve({10: 3.0}), serve({10: 3.0}), serve({10: 3.0})
    slow.hangs = slow_too.hangs = True
    with (
        client_of([slow, slow_too, third], hedge_after=0.05, shard_timeout=1.0) as client,
        pytest.raises(DeadlineExceededError),
    ):
        top_k(client)
    assert len(third.requests) == 0


def test_no_hedge_when_the_answer_comes_in_time(serve: Callable[..., Server]) -> None:
    replicas = [serve({10: 3.0}) for _ in range(2)]
    with client_of(replicas, hedge_after=SECONDS) as client:
        top_k(client)
    assert [len(server.requests) for server in replicas] == [1, 0]


def test_hedging_after_the_usual_time(serve: Callable[..., Server]) -> None:
    slow, quick = serve({10: 3.0}), serve({10: 3.0})
    with client_of([slow, quick], hedge_after="p95") as client:
        for _ in range(20):
            top_k(client)
        slow.hangs = True
        slow.called.clear()
        quick.waits_for = slow.called  # A busy server may see a request only when it is cancelled already.
        asked = len(quick.requests)
        top_k(client)
        assert slow.cancelled.wait(SECONDS)
    assert len(quick.requests) == asked + 1


def test_p95_is_of_the_last_answers() -> None:
    latencies = Latencies()
    for seconds in range(1, 20):
        latencies.add(seconds)
    assert latencies.p95() is None
    latencies.add(20)
    assert latencies.p95() == 20
    for seconds in range(1, 201):
        latencies.add(seconds / 1000)
    assert latencies.p95() == 0.191
