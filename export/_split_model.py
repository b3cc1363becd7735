"""The scorer of a model, frozen and split, in tiles that suit who runs it."""

from __future__ import annotations

from nann.export._inputs import Inputs
from nann.export._options import ExportOptions
from nann.export.scorer import Scorer, freeze_scorer, runs_natively, split_scorer
from nann.ops import DEFAULT_TILE_ROWS

# A function of TensorFlow takes tiles of one size; what a hop leaves of the last one is computed in vain. The
# proxy walk has hops of 48 items: in place of tiles of 128 the demo's model takes 0.76 of the time, attention
# with a large MLP over 100,000 items 0.67. Scoring every item takes 1.3 times as long.
SHORT_TILE_ROWS = 48
# Of fewer items a walk saves nothing: all are scored, and no tile but the last is filled in part.
_FEW_ITEMS = 32 * DEFAULT_TILE_ROWS


def freeze_and_split(inputs: Inputs, options: ExportOptions) -> tuple[Scorer, Scorer]:
    """The scorer as the model defines it, and the one to export: split, unless the options say not to.

    Raises InvalidInputError for a `score` that cannot be exported.
    """
    if options.tile_rows is not None or not _has_short_hops(inputs, options):
        return _freeze_and_split(inputs, options, options.tile_rows or DEFAULT_TILE_ROWS)
    if options.tuning.executor != "tensorflow" and not options.tuning.jit:
        scorers = _freeze_and_split(inputs, options, DEFAULT_TILE_ROWS)
        if runs_natively(scorers[1]):
            return scorers
    return _freeze_and_split(inputs, options, SHORT_TILE_ROWS)


def _freeze_and_split(inputs: Inputs, options: ExportOptions, tile_rows: int) -> tuple[Scorer, Scorer]:
    frozen = freeze_scorer(
        inputs.model.model, tile_rows=tile_rows, max_constant_bytes=options.max_constant_bytes
    )
    if not options.split:
        return frozen, frozen
    split = split_scorer(
        frozen,
        num_items=inputs.items.num_items,
        item_table_bytes=options.item_table_bytes,
        keep_effects=options.tuning.executor == "tensorflow",
    )
    return frozen, split


def _has_short_hops(inputs: Inputs, options: ExportOptions) -> bool:
    return inputs.items.num_items > _FEW_ITEMS and options.tuning.walk not in ("all", "fixed")
