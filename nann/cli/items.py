"""`nann items`: what a server that has applied the segments would see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from nann.cli._console import emit, json_option, print_text

if TYPE_CHECKING:
    from nann.live import State


@click.command(name="items")
@click.option(
    "--model",
    "model_dir",
    required=True,
    type=click.Path(path_type=Path),
    help="Version folder of an export, such as MODELS/nann/1.",
)
@click.option("--id", "item_id", type=int, help="Show this item.")
@json_option
def command(model_dir: Path, item_id: int | None, as_json: bool) -> None:
    """Show the items of an export and its segments, or one item, as servers see them.

    The export must have room for new items (`nann export --overlay-share`).
    """
    from nann.live import State, open_base, replay, updates_dir

    state = State(open_base(model_dir))
    for _ in replay(state, updates_dir(model_dir)):
        pass
    result = _summary(state) if item_id is None else _item(state, item_id)
    emit(as_json, result, lambda: print_text(_text(result)))


def _summary(state: State) -> dict[str, Any]:
    return {
        "items": state.num_live,
        "base_items": state.base.num_items,
        "new_positions": state.num_positions - state.base.num_items,
        "deleted_positions": state.num_deleted,
        "room": state.room,
        "applied_segment": state.applied,
        "export_id": state.base.export_id,
    }


def _item(state: State, item_id: int) -> dict[str, Any]:
    position = state.position_of(item_id)
    if position is None:
        return {"id": item_id, "present": False, "applied_segment": state.applied}
    at = np.array([position])
    return {
        "id": item_id,
        "present": True,
        "applied_segment": state.applied,
        "position": position,
        "segment": state.segment_of(position),
        "embedding": state.rows("item_embs", at)[0].astype(float).tolist(),
        "item_state": {name: state.state_rows(name, at)[0].tolist() for name in state.base.state},
        "attributes": _attributes(state, position),
        "neighbors": {
            str(level): state.ids(state.neighbors(level, position).astype(np.int64)).tolist()
            for level in range(state.base.num_levels)
        },
    }


def _attributes(state: State, position: int) -> dict[str, Any]:
    if not state.base.attributes:
        return {}
    from nann.live.attribute_values import attribute_values

    return {name: attribute_values(state, name)[position].as_py() for name in state.base.attributes}


def _text(result: dict[str, Any]) -> str:
    return "\n".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())
