"""Events with item features get their embedding, by the export's own function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from nann.export.item_side import ItemSide
from nann.live._events import Event
from nann.live.base import Base


def embedded(events: Sequence[Event], items: ItemSide, base: Base, refused: list[str]) -> list[Event]:
    """The events, those with features with the embedding and the item state that these make.

    A message on each event that cannot be embedded is added to `refused`, and the event is left out.
    """
    waiting = [event for event in events if event.features is not None]
    if not waiting:
        return list(events)
    try:
        done = _embed(waiting, items, base)
    except tf.errors.OpError:
        # A value that the model does not take, such as a row that its table lacks: whose is it?
        done = {}
        for event in waiting:
            try:
                done.update(_embed([event], items, base))
            except tf.errors.OpError as error:
                refused.append(
                    f"features of item {event.item_id}: expected what embed_item takes: {error.message}"
                )
    usable = {item_id: event for item_id, event in done.items() if _is_finite(event)}
    for item_id in done.keys() - usable.keys():
        refused.append(f"features of item {item_id}: expected an embedding that is finite, found another")
    return [
        usable.get(event.item_id, event)
        for event in events
        if event.features is None or event.item_id in usable
    ]


def _is_finite(event: Event) -> bool:
    return event.embedding is not None and bool(np.isfinite(event.embedding).all())


def _embed(events: Sequence[Event], items: ItemSide, base: Base) -> dict[int, Event]:
    features = [event.features or {} for event in events]
    embs, state = items.embed(
        {name: np.stack([each[name] for each in features]) for name in base.item_features}
    )
    with np.errstate(over="ignore"):
        stored = embs.astype(base.tables["item_embs"].dtype)
    return {
        event.item_id: replace(
            event, embedding=stored[row], state={name: each[row] for name, each in state.items()}
        )
        for row, event in enumerate(events)
    }
