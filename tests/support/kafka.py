"""librdkafka's own mock of a Kafka cluster, with errors and brokers that go away."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import confluent_kafka

FETCH, LIST_OFFSETS, METADATA = 1, 2, 3  # Kafka's numbers of requests
# The mock closes the connection for the first; the others are a broker's answers.
BROKEN_CONNECTION, NOT_LEADER, STORAGE_ERROR = -195, 6, 56
_PRODUCER = 0  # RD_KAFKA_PRODUCER: what holds a mock cluster is a client itself


class MockCluster:
    """A cluster with one topic of two partitions; it ends with the process that made it."""

    def __init__(self, topic: str, *, brokers: int = 2) -> None:
        (path,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka*")
        self._library = ctypes.CDLL(str(path))
        for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
            getattr(self._library, name).restype = ctypes.c_void_p
        bootstraps = self._library.rd_kafka_mock_cluster_bootstraps
        bootstraps.restype = ctypes.c_char_p
        error = ctypes.create_string_buffer(512)
        configuration = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        client = self._library.rd_kafka_new(_PRODUCER, configuration, error, ctypes.c_size_t(len(error)))
        assert client, error.value
        self._cluster = ctypes.c_void_p(
            self._library.rd_kafka_mock_cluster_new(ctypes.c_void_p(client), brokers)
        )
        self.brokers = bootstraps(self._cluster).decode()
        created = self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), 2, 1)
        assert created == 0

    def answer_with(self, request: int, errors: Sequence[int]) -> None:
        """Answer the next requests of this kind with these errors."""
        array = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(errors)), array
        )

    def stop_broker(self, number: int) -> None:
        """Close the connections of a broker, and refuse others."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, ctypes.c_int32(number)) == 0

    def start_broker(self, number: int) -> None:
        """Let it answer again."""
        assert self._library.rd_kafka_mock_broker_set_up(self._cluster, ctypes.c_int32(number)) == 0
