"""Events in a topic of Kafka, one in the value of each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nann.errors import InvalidInputError, MissingDependencyError

# For questions about the topic, not for messages: a broker that does not answer is waited for.
_METADATA_SECONDS = 30.0


class KafkaSource:
    """Reads all partitions of a topic, without a group: the offset has the next message of each partition.

    librdkafka connects again after errors and asks again for what it did not get. A message below the next
    offset of its partition was read before, and is left out.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        offset: Mapping[str, Any] | None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        try:
            import confluent_kafka
        except ModuleNotFoundError:
            raise MissingDependencyError(
                "confluent-kafka is not installed. Install it with `pip install nann[live]`."
            ) from None
        self._kafka: Any = confluent_kafka
        self._topic = topic
        self._consumer: Any = confluent_kafka.Consumer(
            {
                "bootstrap.servers": brokers,
                "group.id": "nann-publish",  # Asked for by the client; no offset is committed.
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                **(settings or {}),
            }
        )
        self._next: dict[int, int] = {int(p): n for p, n in offset["kafka"].items()} if offset else {}
        self._last: dict[int, int] = {}
        self._assign()

    def _assign(self) -> None:
        """Begin at the offset of each partition, and note where each ends now."""
        partition_of = self._kafka.TopicPartition
        try:
            found = self._consumer.list_topics(self._topic, timeout=_METADATA_SECONDS).topics[self._topic]
            if found.error is not None:
                raise self._kafka.KafkaException(found.error)
            for number in found.partitions:
                first, end = self._consumer.get_watermark_offsets(
                    partition_of(self._topic, number), timeout=_METADATA_SECONDS
                )
                if self._next.setdefault(number, first) < first:
                    raise InvalidInputError(
                        f"source: expected the messages of {self._topic} [{number}] from "
                        f"{self._next[number]} on, found that Kafka has them from {first} on. Publish for a "
                        f"new version, whose snapshot has the others, and keep messages longer."
                    )
                self._last[number] = end
        except self._kafka.KafkaException as error:
            raise InvalidInputError(
                f"source: expected the topic {self._topic}, found: {error.args[0].str()}. Start the brokers, "
                f"or correct --source."
            ) from error
        self._consumer.assign(
            [partition_of(self._topic, number, self._next[number]) for number in self._last]
        )

    def read(self, most: int, wait_seconds: float) -> list[bytes]:
        """The next messages; see `Source`."""
        events = []
        for message in self._consumer.consume(most, timeout=wait_seconds):
            error, partition = message.error(), message.partition()
            if error is not None and error.code() == self._kafka.KafkaError._PARTITION_EOF:
                # A topic may end with what is no message, such as the end of a transaction.
                self._next[partition] = max(self._next[partition], message.offset())
                continue
            if error is not None:
                if error.fatal():
                    raise InvalidInputError(f"source: {error.str()}. Correct the brokers, and start again.")
                continue  # Of a connection: librdkafka tries again.
            if message.offset() < self._next.get(partition, 0):
                continue
            self._next[partition] = message.offset() + 1
            # A message without a value, which compaction of a topic keeps for a while, is no event.
            events += [message.value()] if message.value() is not None else []
        return events

    @property
    def offset(self) -> Mapping[str, Any]:
        """The next message of each partition."""
        return {"kafka": {str(partition): number for partition, number in self._next.items()}}

    def at_end(self) -> bool:
        """Whether the messages that were there at the beginning were read."""
        return all(self._next[partition] >= end for partition, end in self._last.items())

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
