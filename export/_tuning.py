"""Choosing executor, precision, walk and beams of an export, by measuring on its own items."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nann.errors import InvalidInputError
from nann.export._assets import ITEM_ID_ORDER, ITEM_IDS, Assets
from nann.export._options import ExportOptions, Tuning
from nann.export._precision import PrecisionReport, choose_precision, remove_narrow
from nann.export._proxy import SAMPLE_USERS, add_proxy, remove_proxy
from nann.export._samples import Sample
from nann.export._users import Users
from nann.export._walk_choice import EXPAND, EXPAND_IN_PLACE, CalibrationReport, WalkChoice
from nann.export.decomposition import decomposition_file
from nann.export.proxy_samples import SAMPLES
from nann.export.scorer import Scorer, choose_executor, jit_scorer
from nann.ops import IndexResource, ProxyWalk

# The proxy walk scores some 350 items whatever N is: fewer than thrice as many are not worth its features.
_LEAST_PROXY_ITEMS = 1_000


@dataclass(frozen=True)
class Tuned:
    """The choices. `calibration` is None when the beams were not calibrated."""

    scorer: Scorer
    level_topn: list[int]
    precision: PrecisionReport
    calibration: CalibrationReport | None


def tune(
    scorer: Scorer,
    options: ExportOptions,
    *,
    assets: Assets,
    level_topn: Sequence[int],
    users: Callable[[int], Users],
    on_progress: Callable[[str, int, int], None],
) -> Tuned:
    """Choose executor, precision, walk and beams; tables that these need are added to `assets`.

    Raises InvalidInputError when this scorer cannot run as the options ask or the wanted agreement is out of
    reach, VerificationError when the wanted precision is not accurate enough.
    """
    tuning, target = options.tuning, options.target
    scorer = (
        jit_scorer(scorer) if tuning.jit else choose_executor(scorer, tuning.executor, assets.item_tables)
    )
    scorer = _with_walk(scorer, tuning)
    with_proxy = tuning.walk == "proxy" or (
        target is not None and _proxy_may_be_fastest(scorer, tuning, assets)
    )
    if tuning.precision == "float32" and target is None and not with_proxy:
        return Tuned(scorer, list(level_topn), PrecisionReport("float32", accuracy=tuning.accuracy), None)
    sizes = [tuning.users, tuning.users, *([SAMPLE_USERS] if with_proxy else [])]
    gathered = users(sum(sizes))
    tuned_on, held_out, *decomposed = gathered.groups(sizes)

    def make_index(tables: Mapping[str, Path]) -> IndexResource:
        return IndexResource(
            index_dir=assets.folder,
            item_ids=assets.folder / ITEM_IDS,
            id_order=assets.folder / ITEM_ID_ORDER,
            item_tables=tables,
            user_tables={name: path for name, path in assets.user_tables.items() if name == SAMPLES},
        )

    scorer, precision = choose_precision(
        scorer,
        tuning.precision,
        accuracy=tuning.accuracy,
        tables=assets.item_tables,
        make_index=make_index,
        sample=tuned_on,
        level_topn=level_topn,
    )
    proxy = None
    if with_proxy:
        proxy = _proxy(assets, make_index(assets.item_tables), scorer, options, decomposed[0], on_progress)
    if tuning.walk == "proxy":
        scorer = replace(scorer, proxy=proxy)
    if target is None:
        return Tuned(scorer, list(level_topn), precision, None)
    index = make_index(assets.item_tables)
    choice = WalkChoice(
        index, tuned_on, held_out, level_topn, target, on_progress, with_filters=bool(assets.attributes)
    )
    narrow = scorer
    scorer, report, precision = choice.choose(narrow, proxy, tuning, precision, gathered.source)
    if not scorer.walk_tables:
        remove_narrow(narrow, assets.item_tables)
    if proxy is not None and scorer.proxy is None and scorer.filter_proxy is None:
        remove_proxy(assets)
    return Tuned(scorer, report.level_topn, precision, report)


def _with_walk(scorer: Scorer, tuning: Tuning) -> Scorer:
    """The scorer with the wanted walk; the adaptive one until "auto" has chosen and features are there."""
    if tuning.walk == "all":
        return replace(scorer, score_all=True)
    if tuning.walk == "fixed":
        return scorer
    return replace(scorer, expand=tuning.expand or (EXPAND_IN_PLACE if scorer.in_place else EXPAND))


def _proxy_may_be_fastest(scorer: Scorer, tuning: Tuning, assets: Assets) -> bool:
    """Whether "auto" tries the proxy walk: a distance costs no more than a guess."""
    items = len(np.load(assets.folder / ITEM_IDS, mmap_mode="r"))
    return tuning.walk == "auto" and tuning.proxy and not scorer.in_place and items >= _LEAST_PROXY_ITEMS


def _proxy(
    assets: Assets,
    index: IndexResource,
    scorer: Scorer,
    options: ExportOptions,
    sample: Sample,
    on_progress: Callable[[str, int, int], None],
) -> ProxyWalk | None:
    """Add the features of the proxy walk; None where "auto" finds that there are none to be had."""
    step = "score every item for the proxy walk"
    try:
        return add_proxy(
            assets,
            index,
            scorer,
            sample,
            decomposition=decomposition_file(assets.folder.parent) if options.overlay_share > 0 else None,
            on_progress=lambda done, total: on_progress(step, done, total),
        )
    except InvalidInputError:
        if options.tuning.walk == "proxy":
            raise
        return None
