"""The options of an export: `ExportOptions`, and `Tuning` for what may be chosen by measuring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nann.errors import InvalidInputError
from nann.export.constants import MAX_CONSTANT_BYTES
from nann.ops import DEFAULT_MAX_WORK

WantedPrecision = Literal["auto", "float32", "bfloat16", "float16", "int8"]

# Of 200 results four differ, as a rule the lowest.
TARGET_AGREEMENT = 0.98
# Two of 200 results may differ; as a rule these are the ones with the lowest scores.
ACCURACY = 0.99
# Smaller tables are constants of the graph: a file and a page of memory each would cost more.
TABLE_BYTES = 2**20
# 1,024 floats per item for a million items.
ITEM_TABLE_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How the exported scorer runs: executor, precision and walk.

    executor:         "native" runs the scorer without TensorFlow, "tensorflow" calls its function, "auto" is
                      the native executor wherever it can run the scorer.
    precision:        of the numbers that steer the native executor's walk: "float16" stores the scorer's
                      tables in float16, "bfloat16" stores them and multiplies in bfloat16, "int8" stores them
                      in int8 and multiplies in bfloat16, "auto" is the fastest by the clock of float32 and
                      those that are accurate enough. Results are scored again in float32.
    accuracy:         least share of float32's results that a narrow precision must find.
    walk:             "fixed" does the hops of the index, as the original NANN; "adaptive" expands the best
                      candidates until all of them are expanded; "proxy" guesses scores from features of the
                      items, which the export computes, and scores those items that a guess speaks for; "all"
                      scores every item; "auto" is the fastest of the last three that reaches the target
                      agreement, and the adaptive walk where there is no target.
    proxy:            False leaves out the features of the proxy walk, and with them that walk.
    expand:           candidates per hop of the adaptive walk; None is 8 for an inner product or a distance,
                      32 for any other scorer, and with "auto" the faster of the two.
    target_agreement: choose the beams of level 0 with which the walk finds this share of what scoring every
                      item finds, for users that they were not chosen by, and the worst 5 % of users miss at
                      most five times as much as this allows. None is 0.98 where the export chooses beams:
                      `level_topn` is not given, and the walk is not "fixed". A walk that does not reach a
                      target which was not given is exported all the same, and the summary says so.
    users:            number of users to choose by, and of others to measure with.
    jit:              let XLA compile the scorer, which TensorFlow then runs.

    Raises InvalidInputError for a value out of range, for `jit` with the native executor, and for the proxy
    walk without its features.

    Example:
      >>> Tuning(walk="adaptive", precision="auto", target_agreement=0.95).accuracy
      0.99
      >>> Tuning(expand=0)
      Traceback (most recent call last):
      nann.errors.InvalidInputError: expected expand of at least 1, found 0. Correct it.
    """

    executor: Literal["auto", "native", "tensorflow"] = "auto"
    precision: WantedPrecision = "float32"
    accuracy: float = ACCURACY
    walk: Literal["auto", "fixed", "adaptive", "proxy", "all"] = "auto"
    proxy: bool = True
    expand: int | None = None
    target_agreement: float | None = None
    users: int = 128
    jit: bool = False

    def __post_init__(self) -> None:
        for name in ("accuracy", "target_agreement"):
            share = getattr(self, name)
            if share is not None and not 0.0 < share <= 1.0:
                raise InvalidInputError(
                    f"{name}: expected more than 0 and at most 1, found {share}. Correct it."
                )
        _check_at_least(1, expand=self.expand, users=self.users)
        if self.walk == "proxy" and not self.proxy:
            raise InvalidInputError(
                "walk: expected fixed or adaptive without the proxy walk's features, found proxy. Leave out "
                "one of the two."
            )
        if self.jit and self.executor == "native":
            raise InvalidInputError(
                "jit: expected TensorFlow to run the scorer, found the executor native. "
                "Leave out one of the two."
            )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """How a run is exported; the defaults suit most models.

    level_topn:         the beams recorded as default and used for warm-up and verification; requests bring
                        their own. None lets the export choose them (`Tuning.target_agreement`) for 200
                        results; of the fixed walk they are 100 entry points, 200 per hop, 200 results; for a
                        shard all but the last are divided by the number of shards.
    requests:           file of real users by whom beams are chosen and measured, and the export is verified:
                        .npz with the model's user features or user state, [users, ...] each, or a TFRecord
                        of PredictionLog as servers log requests. None is RUN/requests.npz, which
                        `nann embed` writes; without it users are made up.
    tile_rows:          items that a function of TensorFlow is run on at once. None is 128, or 48 where
                        TensorFlow runs the scorer, or a part of it, in walks of short hops.
    max_work:           largest work of one request: batch x sum of its beams.
    table_bytes:        tables of the user side of at least this size become mapped files.
    max_constant_bytes: largest variable that may become a constant of the graph.
    split:              run the user's part of the scorer once per request, and read the items' part from a
                        table that the export computes (docs/scorer-split.md); False leaves the scorer as the
                        model has it.
    item_table_bytes:   largest size of that table; 0 makes none.
    encoder:            "auto" has the native executor encode the users of `retrieve_by_ids` wherever it runs
                        the scorer and can run `embed_user`; "tensorflow" leaves it to TensorFlow.
    reorder:            give near items near positions, for the processor's caches (docs/measured.md); the
                        corpus and the index are then written anew in place of links to the run's files.
    overlay_share:      room for items that are inserted while the export is served, as a share of its items,
                        0 to 1 (docs/live.md); 0 makes an export that takes no segments.
    stream_offset:      where the publisher of this export begins to read its source: the offset of the
                        snapshot (docs/live.md); None is the source's beginning.
    tuning:             how the scorer runs: executor, precision and walk.

    Raises InvalidInputError for a value out of range.

    Example:
      >>> options = ExportOptions(level_topn=[50, 100, 100, 100, 100, 20], tuning=Tuning(walk="adaptive"))
      >>> options.max_work, options.split
      (4194304, True)
    """

    level_topn: Sequence[int] | None = None
    requests: str | Path | None = None
    tile_rows: int | None = None
    max_work: int = DEFAULT_MAX_WORK
    table_bytes: int = TABLE_BYTES
    max_constant_bytes: int = MAX_CONSTANT_BYTES
    split: bool = True
    item_table_bytes: int = ITEM_TABLE_BYTES
    encoder: Literal["auto", "tensorflow"] = "auto"
    reorder: bool = False
    overlay_share: float = 0.0
    stream_offset: Mapping[str, Any] | None = None
    tuning: Tuning = field(default_factory=Tuning)

    @property
    def target(self) -> float | None:
        """The agreement to choose beams by; None leaves them as they are."""
        if self.tuning.target_agreement is not None:
            return self.tuning.target_agreement
        return None if self.level_topn is not None or self.tuning.walk == "fixed" else TARGET_AGREEMENT

    def __post_init__(self) -> None:
        if not 0.0 <= self.overlay_share <= 1.0:
            raise InvalidInputError(
                f"overlay_share: expected 0 to 1, found {self.overlay_share}. Correct it."
            )
        _check_at_least(1, tile_rows=self.tile_rows, max_work=self.max_work)
        _check_at_least(
            0,
            table_bytes=self.table_bytes,
            max_constant_bytes=self.max_constant_bytes,
            item_table_bytes=self.item_table_bytes,
        )


def _check_at_least(least: int, **counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < least:
            raise InvalidInputError(f"expected {name} of at least {least}, found {count}. Correct it.")
