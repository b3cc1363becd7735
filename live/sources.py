"""Where item events come from: files, a folder of files, a Kafka topic, a stream of Redis or Valkey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

from nann.errors import InvalidInputError
from nann.live._file_source import FileSource

Offset = Mapping[str, Any]


class Source(Protocol):
    """A sequence of events that can be read again from an offset."""

    def read(self, most: int, wait_seconds: float) -> list[bytes]:
        """The next events, at most `most`; fewer, or none, where no more come in `wait_seconds`.

        Raises InvalidInputError for a source that cannot be read, InvalidFileError for a damaged one.
        """

    @property
    def offset(self) -> Offset:
        """JSON: where a later reader goes on behind all events that were read."""

    def at_end(self) -> bool:
        """Whether all events that were there when the source was opened were read."""

    def close(self) -> None:
        """Release connections and files."""


def open_source(source: str, offset: Offset | None) -> Source:
    """Open `source` behind `offset`; None: at its beginning.

    source: a file of JSON lines, a folder of such files, kafka://BROKER[,BROKER]/TOPIC, or
            redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]/STREAM.

    Raises InvalidInputError for a source that is malformed or not there, or an offset of another source,
    MissingDependencyError when the client of Kafka or Redis is not installed.

    Example:
      >>> open_source("items.jsonl", None).read(10, 0.0)
      [b'{"id": 7, "delete": true}']
    """
    url = urlsplit(source)
    if url.scheme == "kafka":
        from nann.live._kafka_source import KafkaSource

        _check_offset(source, offset, "kafka")
        return KafkaSource(url.netloc, _name(source, url), offset)
    if url.scheme in ("redis", "rediss"):
        from nann.live._redis_source import RedisSource

        _check_offset(source, offset, "redis")
        database, _, stream = url.path.strip("/").rpartition("/")
        return RedisSource(url._replace(path=f"/{database}").geturl(), stream or _name(source, url), offset)
    if url.scheme and not Path(source).exists():
        raise InvalidInputError(
            f"source: expected a file, a folder, kafka://BROKER/TOPIC or redis://HOST/STREAM, found "
            f"{source!r}. Correct it."
        )
    _check_offset(source, offset, "files")
    return FileSource(Path(source), offset)


def _name(source: str, url: SplitResult) -> str:
    name = url.path.strip("/")
    if not name or "/" in name or not url.netloc:
        raise InvalidInputError(
            f"source: expected {url.scheme}://HOST/NAME with the name of a topic or stream, found "
            f"{source!r}. Correct it."
        )
    return name


def _check_offset(source: str, offset: Offset | None, kind: str) -> None:
    if offset is not None and kind not in offset:
        raise InvalidInputError(
            f"source: expected a source of {', '.join(offset)}, whose offset is in the last segment, found "
            f"{source!r}. Go on with the former source, or publish for a new version."
        )
