"""Events in a stream of Redis or Valkey, each in the field `event` of an entry."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from nann.errors import InvalidInputError, MissingDependencyError

FIELD = b"event"
_BEGINNING = "0-0"


class RedisSource:
    """Reads a stream with XREAD, without a group: the offset is the id of the last entry.

    A broken connection is made again; the entries that were read stay read.
    """

    def __init__(self, url: str, stream: str, offset: Mapping[str, Any] | None) -> None:
        try:
            import redis
        except ModuleNotFoundError:
            raise MissingDependencyError(
                "redis is not installed. Install it with `pip install nann[live]`."
            ) from None
        self._errors = (redis.ConnectionError, redis.TimeoutError)
        self._refusal = redis.RedisError
        self._stream, self._name = stream, f"{url}/{stream}"
        self._id: str = offset["redis"] if offset else _BEGINNING
        try:
            self._client: Any = redis.Redis.from_url(url)
            self._last = self._last_id()
        except (redis.RedisError, ValueError) as error:
            raise InvalidInputError(
                f"source: expected a Redis or Valkey server at {url}, found: {error}. Start it, or correct "
                f"--source."
            ) from error

    def read(self, most: int, wait_seconds: float) -> list[bytes]:
        """The next entries; see `Source`."""
        block = max(1, int(wait_seconds * 1000)) if wait_seconds > 0 else None
        try:
            found = self._client.xread({self._stream: self._id}, count=most, block=block)
        except self._errors:
            time.sleep(wait_seconds)  # The next call connects again.
            return []
        except self._refusal as error:
            raise InvalidInputError(
                f"source: expected {self._name} to be a stream, found: {error}. Correct --source."
            ) from error
        entries = found[0][1] if found else []
        if entries:
            self._id = entries[-1][0].decode()
        # An entry without the field is passed on as an event that is malformed.
        return [fields.get(FIELD, b"") for _, fields in entries]

    @property
    def offset(self) -> Mapping[str, Any]:
        """The id of the last entry that was read."""
        return {"redis": self._id}

    def at_end(self) -> bool:
        """Whether the entries that were there at the beginning were read."""
        return _order(self._id) >= _order(self._last)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _last_id(self) -> str:
        last = self._client.xrevrange(self._stream, count=1)
        return last[0][0].decode() if last else _BEGINNING


def _order(entry: str) -> tuple[int, int]:
    milliseconds, _, number = entry.partition("-")
    return int(milliseconds), int(number or 0)
