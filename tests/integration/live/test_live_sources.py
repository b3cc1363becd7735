"""Kafka and Redis as sources, with connections that break and servers that are killed."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
import redis

from nann.errors import InvalidInputError
from nann.live import Publisher, open_base
from nann.live._kafka_source import KafkaSource
from nann.live._redis_source import RedisSource
from nann.live.loop import publish_events
from nann.live.sources import Source, open_source
from support.kafka import BROKEN_CONNECTION, FETCH, NOT_LEADER, STORAGE_ERROR, MockCluster
from support.live import expected_items, items_of, new_rows, random_events

FAST = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50, "retry.backoff.ms": 10}


def publish_until(publisher: Publisher, source: Source, events: int) -> None:
    """Publish until so many events were read in all."""
    read = 0

    def on_segment(totals: Any) -> None:
        nonlocal read
        read = totals.events

    publish_events(
        publisher, source, segment_items=7, max_delay=0, stop=lambda: read >= events, on_segment=on_segment
    )
    assert read == events


def produce(brokers: str, topic: str, events: list[bytes]) -> None:
    """Events of one item go to one partition, in their order."""
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers, "enable.idempotence": False, **FAST})
    for event in events:
        producer.produce(topic, event, partition=hash(event[:12]) % 2)
    assert producer.flush(60) == 0


def test_kafka_with_errors_and_brokers_that_go_away(model_dir: Path) -> None:
    cluster = MockCluster("items")
    events = random_events(open_base(model_dir), 120, seed=0, repeat=False)
    produce(cluster.brokers, "items", events[:80])
    with Publisher(model_dir) as publisher:
        source = KafkaSource(cluster.brokers, "items", publisher.offset, FAST)
        cluster.answer_with(FETCH, [BROKEN_CONNECTION, NOT_LEADER, STORAGE_ERROR, BROKEN_CONNECTION] * 3)
        publish_until(publisher, source, 80)
        cluster.stop_broker(1)
        started = threading.Timer(0.3, cluster.start_broker, [1])
        started.start()
        produce(cluster.brokers, "items", events[80:100])
        publish_until(publisher, source, 20)
        started.join()
        # What is delivered once more was read before.
        for partition in range(2):
            source._consumer.seek(confluent_kafka.TopicPartition("items", partition, 0))
        assert source.read(1000, 2.0) == []
        source.close()
    # Another publisher goes on behind the last segment.
    produce(cluster.brokers, "items", events[100:])
    with Publisher(model_dir) as publisher:
        source = open_source(f"kafka://{cluster.brokers.split(',')[0]}/items", publisher.offset)
        totals = publish_events(publisher, source, once=True)
        assert totals.events == 20
        assert source.at_end()
        source.close()
    assert items_of(model_dir) == expected_items(open_base(model_dir), events)
    assert new_rows(model_dir) == sum(b"embedding" in event for event in events)


def test_kafka_without_brokers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nann.live._kafka_source._METADATA_SECONDS", 0.5)
    with pytest.raises(InvalidInputError, match=r"expected the topic items, found: .*Start the brokers"):
        open_source(f"kafka://localhost:{free_port()}/items", None)


def test_messages_that_kafka_has_deleted_are_missed(model_dir: Path) -> None:
    cluster = MockCluster("items")
    produce(cluster.brokers, "items", random_events(open_base(model_dir), 4, seed=0))
    with pytest.raises(InvalidInputError, match=r"expected the messages of items \[0\] from -7 on"):
        KafkaSource(cluster.brokers, "items", {"kafka": {"0": -7, "1": 0}}, FAST)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


class RedisServer:
    """A redis-server that keeps what it has acknowledged when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self._folder), "--save", ""]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        program = shutil.which("redis-server")
        assert program is not None
        self._process = subprocess.Popen([program, *options, *durable], stdout=subprocess.DEVNULL)
        with redis.Redis(port=self.port) as client:
            while True:
                with contextlib.suppress(redis.ConnectionError):
                    client.ping()
                    return
                assert self._process.poll() is None
                time.sleep(0.01)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server: apt-get install redis-server")
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    yield server
    server.kill()


def add(server: RedisServer, event: bytes) -> None:
    """Add an event; whoever gets no answer adds it again."""
    with redis.Redis(port=server.port) as client:
        while True:
            try:
                client.xadd("items", {"event": event})
                return
            except redis.ConnectionError:
                time.sleep(0.01)


def publish_while_redis_is_killed(model_dir: Path, server: RedisServer, kills: int) -> None:
    chance = random.Random(0)
    events = random_events(open_base(model_dir), 140, seed=0)
    stopped = threading.Event()
    with Publisher(model_dir) as publisher:
        source = open_source(f"redis://localhost:{server.port}/items", None)

        def publish() -> None:
            publish_events(publisher, source, segment_items=5, max_delay=0, stop=stopped.is_set)

        thread = threading.Thread(target=publish)
        thread.start()
        killer = threading.Thread(target=_kill_often, args=(server, kills, chance))
        killer.start()
        for place, event in enumerate(events):
            add(server, event)
            if place == len(events) // 2:
                killer.join()
        last = _last_id(server)
        while dict(source.offset)["redis"] != last:
            time.sleep(0.01)
        stopped.set()
        thread.join()
        source.close()
    assert items_of(model_dir) == expected_items(open_base(model_dir), events)


def _kill_often(server: RedisServer, kills: int, chance: random.Random) -> None:
    for _ in range(kills):
        time.sleep(chance.uniform(0, 0.05))
        server.kill()
        server.start()


def _last_id(server: RedisServer) -> str:
    with redis.Redis(port=server.port) as client:
        found: Any = client.xrevrange("items", count=1)
        return str(found[0][0].decode())


def test_a_redis_server_that_is_killed(model_dir: Path, redis_server: RedisServer) -> None:
    publish_while_redis_is_killed(model_dir, redis_server, kills=5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_redis_server_that_is_killed_200_times(model_dir: Path, redis_server: RedisServer) -> None:
    publish_while_redis_is_killed(model_dir, redis_server, kills=200)


def test_redis_is_read_from_the_offset_to_the_end(model_dir: Path, redis_server: RedisServer) -> None:
    url = f"redis://localhost:{redis_server.port}/items"
    source = open_source(url, None)
    assert source.at_end()
    assert source.read(10, 0.01) == []
    for event in (b"a", b"b", b"c"):
        add(redis_server, event)
    source = open_source(url, None)
    assert source.read(2, 0.1) == [b"a", b"b"]
    assert not source.at_end()
    source = open_source(url, source.offset)
    assert source.read(9, 0.1) == [b"c"]
    assert source.at_end()


def test_what_is_no_stream_is_refused(redis_server: RedisServer) -> None:
    with redis.Redis(port=redis_server.port) as client:
        client.set("items", "text")
    with pytest.raises(InvalidInputError, match="WRONGTYPE"):
        RedisSource(f"redis://localhost:{redis_server.port}/", "items", None)
    with pytest.raises(InvalidInputError, match="expected a Redis or Valkey server"):
        open_source(f"redis://localhost:{free_port()}/items", None)
