"""Choosing executor, walk, precision and beams of an export, by measuring on its own items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nann.export._assets import ITEM_ID_ORDER, ITEM_IDS, Assets
from nann.export._calibrate import CalibrationReport, calibrate
from nann.export._options import Tuning
from nann.export._precision import PrecisionReport, choose_precision
from nann.export._proxy import SAMPLE_USERS, SAMPLES, add_proxy
from nann.export._samples import Sample
from nann.export.scorer import Scorer, choose_executor, jit_scorer
from nann.ops import IndexResource

# Candidates per hop of the adaptive walk. Few expand fewer items in vain, and are right where a score costs
# next to nothing; many give a hop enough tiles for several threads (docs/speed.md).
_EXPAND_IN_PLACE, _EXPAND = 8, 32


@dataclass(frozen=True)
class Tuned:
    """The choices. `calibration` is None when the beams were not calibrated."""

    scorer: Scorer
    level_topn: list[int]
    precision: PrecisionReport
    calibration: CalibrationReport | None


def tune(
    scorer: Scorer,
    tuning: Tuning,
    *,
    assets: Assets,
    level_topn: Sequence[int],
    sample_users: Callable[[int], Sample],
    on_progress: Callable[[str, int, int], None],
) -> Tuned:
    """Choose executor, precision, walk and beams; tables of a narrow precision are added to `assets`.

    Raises InvalidInputError when this scorer cannot run as `tuning` asks, VerificationError when the wanted
    precision is not accurate enough.
    """
    scorer = (
        jit_scorer(scorer) if tuning.jit else choose_executor(scorer, tuning.executor, assets.item_tables)
    )
    if tuning.walk in ("adaptive", "proxy"):
        scorer = replace(scorer, expand=tuning.expand or (_EXPAND_IN_PLACE if scorer.in_place else _EXPAND))

    def make_index(tables: Mapping[str, Path]) -> IndexResource:
        return IndexResource(
            index_dir=assets.folder,
            item_ids=assets.folder / ITEM_IDS,
            id_order=assets.folder / ITEM_ID_ORDER,
            item_tables=tables,
            user_tables={name: path for name, path in assets.user_tables.items() if name == SAMPLES},
        )

    if tuning.walk == "proxy":
        proxy = add_proxy(
            assets,
            make_index(assets.item_tables),
            scorer,
            # The first of these users are those that are measured with.
            sample_users(tuning.users + SAMPLE_USERS).last(SAMPLE_USERS),
            on_progress=lambda done, total: on_progress("score every item for the proxy walk", done, total),
        )
        scorer = replace(scorer, proxy=proxy)
    if tuning.precision == "float32" and tuning.target_agreement is None:
        return Tuned(scorer, list(level_topn), PrecisionReport("float32", accuracy=tuning.accuracy), None)
    sample = sample_users(tuning.users)
    scorer, precision = choose_precision(
        scorer,
        tuning.precision,
        accuracy=tuning.accuracy,
        tables=assets.item_tables,
        make_index=make_index,
        sample=sample,
        level_topn=level_topn,
    )
    if tuning.target_agreement is None:
        return Tuned(scorer, list(level_topn), precision, None)
    report = calibrate(
        make_index(assets.item_tables),
        scorer,
        sample,
        level_topn,
        target=tuning.target_agreement,
        item_ids=np.load(assets.folder / ITEM_IDS, mmap_mode="r"),
        on_progress=lambda done, total: on_progress("score every item", done, total),
    )
    return Tuned(scorer, report.level_topn, precision, report)
