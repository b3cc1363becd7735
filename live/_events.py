"""Item events: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from nann.errors import InvalidInputError
from nann.export import shard_of_items
from nann.live._attributes import check_attributes
from nann.live.base import Base

_INT64 = np.iinfo(np.int64)
_FORM = '{"id": 7, "embedding": [...]} or {"id": 7, "delete": true}'


@dataclass(frozen=True)
class Event:
    """One change of an item.

    embedding:  [D] as the base stores it; None: it is computed from `features`.
    features:   item features by name; of neither kind: the item is deleted.
    state:      item state by name, as the base stores it.
    attributes: attributes by name; those that are not there have no value.
    """

    item_id: int
    embedding: npt.NDArray[Any] | None = None
    state: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    features: Mapping[str, npt.NDArray[Any]] | None = None

    @property
    def is_deleted(self) -> bool:
        """Whether it deletes the item."""
        return self.embedding is None and self.features is None


class EventReader:
    """Reads the events of one export; those of other shards are left out."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._embs_type = base.tables["item_embs"].dtype
        self._shard: Mapping[str, Any] | None = base.manifest.get("shard")

    def is_mine(self, item_id: int) -> bool:
        """Whether the item belongs to the shard of this export."""
        if self._shard is None:
            return True
        return int(shard_of_items([item_id], self._shard["count"])[0]) == int(self._shard["index"])

    def read(self, text: bytes | str) -> Event | None:
        """The event, or None for one of another shard. Raises InvalidInputError for a malformed event."""
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(
                f"expected a JSON object such as {_FORM}, found no JSON ({error})"
            ) from None
        if not isinstance(event, dict):
            raise InvalidInputError(f"expected a JSON object such as {_FORM}, found {type(event).__name__}")
        item_id = event.get("id")
        if not isinstance(item_id, int) or isinstance(item_id, bool) or item_id == -1:
            raise InvalidInputError(f"id: expected an integer other than -1, found {item_id!r}")
        if not _INT64.min <= item_id <= _INT64.max:
            raise InvalidInputError(f"id: expected an integer of 64 bits, found {item_id}")
        deleted = event.get("delete", False)
        if not isinstance(deleted, bool):
            raise InvalidInputError(f"delete: expected true or false, found {deleted!r}")
        if not self.is_mine(item_id):
            return None
        if deleted:
            return Event(item_id)
        attributes = check_attributes(event.get("attributes", {}), self._base.attributes)
        if "features" in event:
            return Event(item_id, attributes=attributes, features=self._features(event["features"]))
        embedding = _array("embedding", event.get("embedding"), [self._base.dim], self._embs_type)
        return Event(item_id, embedding, self._state(event.get("item_state", {})), attributes)

    def _features(self, given: object) -> dict[str, npt.NDArray[Any]]:
        wanted = self._base.item_features
        values = _named("features", given, wanted)
        return {
            name: _feature(f"feature {name}", values[name], spec["shape"], spec["dtype"])
            for name, spec in wanted.items()
        }

    def _state(self, given: object) -> dict[str, npt.NDArray[Any]]:
        wanted = self._base.state
        values = _named("item_state", given, wanted)
        return {
            name: _array(f"item_state {name}", values[name], list(array.shape[1:]), array.dtype)
            for name, array in wanted.items()
        }


def _named(what: str, given: object, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, an object with these names and no others."""
    if not isinstance(given, dict) or set(given) != set(wanted):
        found = sorted(given) if isinstance(given, dict) else given
        raise InvalidInputError(f"{what}: expected {sorted(wanted)}, found {found}")
    return given


def _feature(name: str, value: object, shape: list[int], dtype: str) -> npt.NDArray[Any]:
    if dtype != "string":
        return _array(name, value, shape, np.dtype(dtype))
    texts = np.asarray(value, object)
    if list(texts.shape) != shape or not all(isinstance(each, str) for each in texts.flat):
        raise InvalidInputError(f"{name}: expected strings {shape}, found {value!r}")
    return np.array([each.encode() for each in texts.flat], object).reshape(shape)


def newest(events: Sequence[Event]) -> list[Event]:
    """The last event of each item, in the order of these."""
    last = {event.item_id: place for place, event in enumerate(events)}
    return [event for place, event in enumerate(events) if last[event.item_id] == place]


def _array(name: str, value: object, shape: list[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """`value` as an array of this shape and type; numbers that the type cannot hold are refused."""
    expected = f"{name}: expected {dtype.name} {shape}"
    try:
        given = np.asarray(value)
    except ValueError:
        raise InvalidInputError(f"{expected}, found lists of different lengths") from None
    kinds = {"f": "fiu", "b": "b"}.get(dtype.kind, "iu")
    if list(given.shape) != shape or given.dtype.kind not in kinds:
        raise InvalidInputError(f"{expected}, found {given.dtype.name} {list(given.shape)}")
    with np.errstate(over="ignore"):
        array = given.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidInputError(f"{expected}, finite, found a number that is not, or is too large")
    if dtype.kind in "iu" and not (array == given).all():
        raise InvalidInputError(f"{expected}, found a number that it cannot hold")
    return array
