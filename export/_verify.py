"""Checking an export: its files, and its answers against the NumPy oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import VerificationError
from nann.export._samples import Arrays, Sample, vocabulary_ends
from nann.export.index import oracle
from nann.export.index.files import GraphIndex
from nann.export.index.proxy_oracle import ProxyTables, proxy_search
from nann.export.scorer.scorer import RELATIVE_TOLERANCE, scores_of
from nann.run import RetrievalModel
from nann.run.as_written import as_written

_UNKNOWN_ID = -1
_ROUGH_SLACK = 0.1
_NEXT_STEP = "Do not serve this export; report this with the model."


class Answering(Protocol):
    """A loaded export: `nann.export.loaded.LoadedModel`, or one in another process."""

    @property
    def names(self) -> list[str]:
        """Names of the signatures."""

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Outputs of `signature` by name."""


# State of one user -> (int32 positions [n] -> float32 scores [n]).
ScorerOfUser = Callable[[Arrays], oracle.ScoreFn]


@dataclass(frozen=True)
class ExpectedWalk:
    """The reference walk, and how closely an export's answers must match it.

    walk:     "all" scores every item; any other walk follows from `expand` and `proxy`.
    expand:   candidates a hop of the adaptive walk; 0: the fixed walk (docs/design.md#the-search).
    proxy:    the tables of the proxy walk; None: there is none.
    accuracy: where the export walks by narrow numbers, the least share of the results that it must find;
              their scores are float32's all the same. None: it walks in float32 and must find them all.
    tolerance: how far scores may lie apart, relative to the largest.
    """

    walk: str = ""
    expand: int = 0
    proxy: ProxyTables | None = None
    accuracy: float | None = None
    tolerance: float = RELATIVE_TOLERANCE

    def run(self, graph: GraphIndex, item_ids: Any, score: oracle.ScoreFn, beams: Any, excluded: Any) -> Any:
        """Ids, scores and number of items scored of the reference search."""
        if self.walk == "all":
            return oracle.score_all(graph, item_ids, score, beams, excluded)
        if self.proxy is not None:
            options: dict[str, Any] = {"proxy": self.proxy, "expand": self.expand}
            return proxy_search(graph, item_ids, score, beams, excluded, **options)
        if self.expand:
            return oracle.adaptive_search(graph, item_ids, score, beams, excluded, expand=self.expand)
        return oracle.beam_search(graph, item_ids, score, beams, excluded)


def check_answers(
    model: Answering,
    graph: GraphIndex,
    item_ids: npt.NDArray[np.int64],
    sample: Sample,
    level_topn: Sequence[int],
    scorer_of_user: ScorerOfUser,
    expected_walk: ExpectedWalk,
    on_progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Compare every signature with the reference search for each user of `sample`.

    Returns the number of users, the signatures, and the largest relative difference of a score. Raises
    VerificationError naming signature, user and difference.
    """
    asked = _requests(model, sample, np.asarray(level_topn, np.int32))
    worst = 0.0
    for done, (signature, inputs, users) in enumerate(asked):
        on_progress(done, len(asked) + 1)
        compare = _Comparison(model, graph, item_ids, users, scorer_of_user, expected_walk)
        worst = max(worst, compare.worst_difference(signature, inputs))
    _check_scores(model, item_ids, sample, scorer_of_user, expected_walk.tolerance)
    on_progress(len(asked) + 1, len(asked) + 1)
    return {"users": sample.users, "signatures": model.names, "largest_relative_difference": worst}


def _requests(
    model: Answering, sample: Sample, beams: npt.NDArray[np.int32]
) -> list[tuple[str, Arrays, Sample]]:
    """Signature and inputs of what is asked, and the users whose answers they must have."""
    narrow = np.maximum(beams // 2, 1)  # The rows of one request may have different beams.
    by_row = np.stack([beams if user % 2 == 0 else narrow for user in range(sample.users)])
    nothing = np.full((sample.users, 1), _UNKNOWN_ID, np.int64)
    search = {**sample.flat_state(), "level_topn": by_row}
    asked: list[tuple[str, Arrays, Sample]] = [
        ("serving_default", {**sample.flat_state(np.float16), "level_topn": beams}, sample.rounded()),
        ("retrieve", {**search, "exclude_ids": nothing}, sample),
    ]
    # Exclude the first results, and an id that no item has: the answer must be the remaining items.
    first = model.run(*asked[1][:2])["top_k"][:, :3]
    asked.append(("retrieve", {**search, "exclude_ids": np.concatenate([first, nothing], axis=1)}, sample))
    if sample.features is not None:
        by_ids = {**sample.features, "level_topn": by_row, "exclude_ids": nothing}
        asked.append(("retrieve_by_ids", by_ids, sample))
    every_item = {"filter": np.full(sample.users, b"", object)}
    asked += [
        (f"{signature}_where", {**inputs, **every_item}, users)
        for signature, inputs, users in asked
        if f"{signature}_where" in model.names
    ]
    return asked


def scorer_of_model(
    model: RetrievalModel, embs: npt.NDArray[Any], item_state: Mapping[str, npt.NDArray[Any]], tile_rows: int
) -> ScorerOfUser:
    """Scores by the original model as written, outside of the export, on tiles of the same number of rows."""
    score = tf.function(lambda *arguments: scores_of(model, *arguments), autograph=False)

    def tile_of(array: npt.NDArray[Any], part: npt.NDArray[np.int32], dtype: Any) -> tf.Tensor:
        tile = np.zeros((tile_rows, *array.shape[1:]), dtype)
        tile[: part.size] = array[part]
        return tf.constant(tile)

    def of_user(state: Arrays) -> oracle.ScoreFn:
        tensors = {name: tf.constant(value) for name, value in state.items()}

        def score_positions(positions: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
            scores = np.empty(positions.size, np.float32)
            with as_written():
                for start in range(0, positions.size, tile_rows):
                    part = positions[start : start + tile_rows]
                    items = {name: tile_of(each, part, each.dtype) for name, each in item_state.items()}
                    found = score(tensors, tile_of(embs, part, np.float32), items)
                    scores[start : start + part.size] = found[: part.size]
            return scores

        return score_positions

    return of_user


def scorer_of_export(model: Answering, item_ids: npt.NDArray[np.int64]) -> ScorerOfUser:
    """Scores by the export's own signature `score`: this checks the walk, not the scorer."""

    def of_user(state: Arrays) -> oracle.ScoreFn:
        user = Sample(None, {name: value[np.newaxis] for name, value in state.items()}).flat_state()

        def score_positions(positions: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
            scores = model.run("score", {**user, "item_ids": item_ids[positions][np.newaxis]})["scores"]
            return np.asarray(scores[0], np.float32)

        return score_positions

    return of_user


def difference(
    found_ids: npt.NDArray[np.int64],
    found_scores: npt.NDArray[np.float32],
    expected_ids: npt.NDArray[np.int64],
    expected_scores: npt.NDArray[np.float32],
    *,
    tolerance: float = RELATIVE_TOLERANCE,
) -> tuple[str | None, float]:
    """How two answers for one user disagree (None: they agree), and the largest relative score difference.

    They agree when they hold the same items, with scores within `tolerance` of the row's largest, in an order
    that differs only between such scores.
    """
    found = set(found_ids.tolist())
    expected = dict(zip(expected_ids.tolist(), expected_scores.tolist(), strict=True))
    if found != set(expected) or (found_ids == _UNKNOWN_ID).sum() != (expected_ids == _UNKNOWN_ID).sum():
        extra, lacking = sorted(found - set(expected)), sorted(set(expected) - found)
        return f"items {extra[:5]} instead of {lacking[:5]} ({len(extra)} of {len(expected)} differ)", np.inf
    aligned = np.array([expected[item] for item in found_ids.tolist()], np.float32)
    worst = relative_difference(found_scores, aligned)
    if worst > tolerance:
        return f"scores that differ by {worst:.1e} of the largest", worst
    scale = np.abs(aligned[np.isfinite(aligned)]).max(initial=0.0)
    if (aligned[1:] > aligned[:-1] + tolerance * scale).any():
        return "items in another order", worst
    return None, worst


@dataclass(frozen=True)
class _Answer:
    """The outputs of a search, one of its rows, and the beams that this row asked for."""

    outputs: Arrays
    user: int
    beams: npt.NDArray[np.int32]
    tolerance: float

    def difference(
        self, expected_ids: npt.NDArray[np.int64], expected_scores: npt.NDArray[np.float32], scored: int
    ) -> tuple[str | None, float]:
        """How this row disagrees with the expected answer, and the largest relative score difference."""
        k = int(self.beams[-1])
        ids, scores = self.outputs["top_k"][self.user], self.outputs["scores"][self.user]
        text, worst = difference(ids[:k], scores[:k], expected_ids, expected_scores, tolerance=self.tolerance)
        if text is None and (ids[k:] != _UNKNOWN_ID).any():
            text = f"{ids.size} results without padding where {k} were asked for"
        if (
            text is None
            and "items_scored" in self.outputs
            and self.outputs["items_scored"][self.user] != scored
        ):
            text = f"{self.outputs['items_scored'][self.user]} items scored instead of {scored}"
        return text, worst


@dataclass(frozen=True)
class _Comparison:
    """Compares a loaded export with the reference search for the users of a sample."""

    model: Answering
    graph: GraphIndex
    item_ids: npt.NDArray[np.int64]
    sample: Sample
    scorer_of_user: ScorerOfUser
    expected_walk: ExpectedWalk

    def worst_difference(self, signature: str, inputs: Arrays) -> float:
        """The largest relative score difference; VerificationError when a row disagrees."""
        outputs = self.model.run(signature, inputs)
        excluded = inputs.get("exclude_ids", np.zeros((self.sample.users, 0), np.int64))
        worst = 0.0
        for user in range(self.sample.users):
            beams = inputs["level_topn"] if inputs["level_topn"].ndim == 1 else inputs["level_topn"][user]
            answer = _Answer(outputs, user, beams, self.expected_walk.tolerance)
            if self.expected_walk.accuracy is None:
                text, row_worst = self._exact(answer, excluded[user])
            else:
                text, row_worst = self._rough(answer, excluded[user], self.expected_walk.accuracy)
            if text is not None:
                raise VerificationError(
                    f"{signature}: expected the answer of the reference search, found {text} (sample user "
                    f"{user}, level_topn {beams.tolist()}). {_NEXT_STEP}"
                )
            worst = max(worst, row_worst)
        return worst

    def _walk(self, score: oracle.ScoreFn, answer: _Answer, excluded: Any) -> Any:
        return self.expected_walk.run(self.graph, self.item_ids, score, answer.beams, excluded)

    def _exact(self, answer: _Answer, excluded: Any) -> tuple[str | None, float]:
        state = self._state(answer.user)
        reference = self.scorer_of_user(state)
        text, worst = answer.difference(*self._walk(reference, answer, excluded))
        if text is None:
            return None, worst
        # Two implementations of one scorer differ in the last bits, which can decide which of two items a
        # beam keeps. Then the walk by the export's own scores must match, and each of these scores must be
        # the model's.
        own = _Recorder(scorer_of_export(self.model, self.item_ids)(state))
        text_of_own, _ = answer.difference(*self._walk(own, answer, excluded))
        worst = own.worst_against(reference)
        return (None if text_of_own is None and worst <= answer.tolerance else text), worst

    def _rough(self, answer: _Answer, excluded: Any, accuracy: float) -> tuple[str | None, float]:
        """Compare where only a share of the items must match: each result's score must still be exact."""
        reference = self.scorer_of_user(self._state(answer.user))
        expected_ids, _, _ = self._walk(reference, answer, excluded)
        k = int(answer.beams[-1])
        ids, scores = answer.outputs["top_k"][answer.user][:k], answer.outputs["scores"][answer.user][:k]
        known = ids[ids != _UNKNOWN_ID]
        share = np.intersect1d(known, expected_ids).size / max((expected_ids != _UNKNOWN_ID).sum(), 1)
        # The accuracy was measured as the mean of many users; a single one may have less.
        if share < accuracy - _ROUGH_SLACK or np.unique(known).size != known.size:
            return f"{share:.1%} of its items", np.inf
        if np.isin(known, excluded).any():
            return "items that were excluded", np.inf
        order = np.argsort(self.item_ids)
        positions = order[np.searchsorted(self.item_ids, known, sorter=order)].astype(np.int32)
        worst = relative_difference(scores[: known.size], reference(positions)) if known.size else 0.0
        if worst > answer.tolerance or (scores[1:] > scores[:-1]).any():
            return f"scores that differ by {worst:.1e} of the largest, or are not in order", worst
        return None, worst

    def _state(self, user: int) -> Arrays:
        return {name: value[user] for name, value in self.sample.state.items()}


class _Recorder:
    """A scorer that records the positions and scores of every call."""

    def __init__(self, score: oracle.ScoreFn) -> None:
        self._score = score
        self._asked: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]] = []

    def __call__(self, positions: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
        scores = self._score(positions)
        self._asked.append((positions, scores))
        return scores

    def worst_against(self, reference: oracle.ScoreFn) -> float:
        """The largest difference of a recorded score from the reference's, relative to the largest score."""
        positions, scores = (np.concatenate(parts) for parts in zip(*self._asked, strict=True))
        return relative_difference(scores, reference(positions))


def relative_difference(found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> float:
    """The largest difference of two lists of scores, relative to the largest score.

    inf when one list has a NaN or an infinity where the other has not.
    """
    finite = np.isfinite(expected)
    if (found[~finite] != expected[~finite])[~np.isnan(expected[~finite])].any():
        return float("inf")
    if (np.isnan(found) != np.isnan(expected)).any():
        return float("inf")
    scale = np.abs(expected[finite]).max(initial=np.finfo(np.float32).tiny)
    return float(np.abs(found[finite] - expected[finite]).max(initial=0.0) / scale)


def _check_scores(
    model: Answering,
    item_ids: npt.NDArray[np.int64],
    sample: Sample,
    scorer_of_user: ScorerOfUser,
    tolerance: float,
) -> None:
    positions = np.unique(np.linspace(0, item_ids.size - 1, 200).astype(np.int32))
    asked = np.tile(np.append(item_ids[positions], _UNKNOWN_ID), (sample.users, 1))
    found = model.run("score", {**sample.flat_state(), "item_ids": asked})["scores"]
    for user in range(sample.users):
        state = {name: value[user] for name, value in sample.state.items()}
        worst = relative_difference(found[user, :-1], scorer_of_user(state)(positions))
        if worst > tolerance or found[user, -1] != -np.inf:
            raise VerificationError(
                f"score: expected the scores of the model and -inf for an unknown id, found a difference of "
                f"{worst:.1e} of the largest, and {found[user, -1]} (sample user {user}). {_NEXT_STEP}"
            )


def check_vocabulary_ends(
    model: Answering,
    features: Arrays | None,
    vocabularies: Mapping[str, npt.NDArray[np.int64]],
    level_topn: Sequence[int],
) -> None:
    """Ask `retrieve_by_ids` for the first and the last id of each vocabulary; VerificationError names the id.

    features: of one user or more, as callers send them; None: the export has no such signature.
    """
    if features is None:
        return
    one = {name: value[:1] for name, value in features.items()}
    search: Arrays = {
        "level_topn": np.asarray([level_topn], np.int32),
        "exclude_ids": np.full((1, 1), _UNKNOWN_ID, np.int64),
    }
    ends = [(name, int(vocabularies[name][row - 1])) for name, row in vocabulary_ends(vocabularies)]
    for name, item in ends or [("", 0)]:
        asked = {**one, name: np.full_like(one[name], item)} if name else one
        try:
            found = model.run("retrieve_by_ids", {**asked, **search})
        except (VerificationError, tf.errors.OpError) as error:
            raise VerificationError(
                f"retrieve_by_ids: expected an answer for {name} {item}, an end of its vocabulary: {error}"
            ) from error
        _check_order(found, f"{name} {item}")


def _check_order(found: Arrays, asked: str) -> None:
    known = found["top_k"][0][found["top_k"][0] != _UNKNOWN_ID]
    scores = found["scores"][0][: known.size]
    if np.unique(known).size != known.size or not (scores[1:] <= scores[:-1]).all():
        raise VerificationError(
            f"retrieve_by_ids: expected each item once and best first, found {known[:5].tolist()} with "
            f"{scores[:5].tolist()} ({asked}). {_NEXT_STEP}"
        )
