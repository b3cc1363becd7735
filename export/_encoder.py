"""The user's encoder in the scorer program, for the signature `retrieve_by_ids`.

`embed_user` looks up rows of tables and encodes them, by a transformer, a GRU or a mean. TensorFlow runs an
encoder as hundreds of small operations. Where the native executor knows them, TensorFlow looks up the rows
only, and the scorer program begins with the encoder.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import Any, Literal

from nann.errors import InvalidInputError
from nann.export._model_specs import open_features
from nann.export._options import ExportOptions
from nann.export._user_graph import Cut, UserGraph
from nann.export._user_side import UserSide, resources_of
from nann.export.constants import freeze
from nann.export.scorer import (
    NotLowerableError,
    NotSplittableError,
    Scorer,
    effects_of,
    with_encoder,
)
from nann.run import RetrievalModel

# Each attempt gives TensorFlow one more operation, and what that is computed from.
_MOST_ATTEMPTS = 12
# A program is an attribute of each op that searches by ids, and a graph may have 2 GB.
_MOST_PROGRAM_BYTES = 16 * 2**20


@dataclass(frozen=True)
class ByIds:
    """How a search by ids comes from a user's features to scores.

    user_side: computes what the scorer takes; None: the model has no features.
    scorer:    takes the user's state, or the rows that it is encoded from.
    executor:  who encodes these.
    reason:    why TensorFlow runs the encoder, or a part of it; None: it does not, or there is none.
    left_out:  the names of its assertions and prints that do not happen.
    """

    user_side: UserSide | None
    scorer: Scorer
    executor: Literal["native", "tensorflow"] = "tensorflow"
    reason: str | None = None
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any] | None:
        """Return who encodes users, as manifests have it; None where there is no search by ids."""
        if self.user_side is None:
            return None
        return {
            "executor": self.executor,
            "executor_reason": self.reason,
            "left_out": list(self.left_out),
        }


def by_ids_of(
    model: RetrievalModel, user_side: UserSide | None, scorer: Scorer, options: ExportOptions
) -> ByIds:
    """Return the search with the encoder in the scorer program where the native executor can run it."""
    if user_side is None:
        return ByIds(None, scorer)
    if options.encoder == "tensorflow":
        return by_tensorflow(user_side, scorer, "it was asked for")
    if open_features(model):
        return by_tensorflow(user_side, scorer, "features of open length")
    if scorer.executor != "native":
        return by_tensorflow(user_side, scorer, "TensorFlow runs the scorer or a part of it")
    graph = UserGraph(user_side.function)
    reason: str | None = None
    first: Cut | None = None
    for _ in range(_MOST_ATTEMPTS):
        cut = graph.cut()
        if cut is None:
            break
        first = first or cut
        try:
            found = _cut_at(cut, graph, user_side, scorer, options.max_constant_bytes)
            return replace(found, reason=found.reason or reason)
        except (InvalidInputError, NotSplittableError) as error:
            return by_tensorflow(user_side, scorer, str(error))
        except NotLowerableError as error:
            reason = str(error)
            if not graph.leave_to_tensorflow(_names_before(error.tensor)):
                break
    if first is not None:
        # What TensorFlow cannot compute for a batch, it may for each user.
        with contextlib.suppress(NotLowerableError):
            return _cut_at(first, graph, user_side, scorer, options.max_constant_bytes, may_take_apart=True)
    return by_tensorflow(user_side, scorer, reason or "it only looks rows up")


def by_tensorflow(user_side: UserSide | None, scorer: Scorer, reason: str) -> ByIds:
    """Return the search whose users TensorFlow encodes."""
    return ByIds(user_side, scorer, "tensorflow", reason)


def _cut_at(
    cut: Cut,
    graph: UserGraph,
    user_side: UserSide,
    scorer: Scorer,
    max_constant_bytes: int,
    *,
    may_take_apart: bool = False,
) -> ByIds:
    encoder = freeze(graph.encoder(cut), what="embed_user", max_constant_bytes=max_constant_bytes)
    encoded = with_encoder(scorer, encoder, may_take_apart=may_take_apart)
    if len(encoded.program) > _MOST_PROGRAM_BYTES:
        return by_tensorflow(user_side, scorer, f"its program takes {len(encoded.program):,} bytes")
    lookups = graph.lookups(cut)
    resources = resources_of(lookups, what="embed_user")
    left_out = tuple(dict.fromkeys((*graph.left_out, *effects_of(encoder))))
    return ByIds(
        replace(user_side, function=lookups, resources=resources), encoded, "native", left_out=left_out
    )


def _names_before(tensor: Any) -> list[str]:
    """The names of what a tensor of the scorer's graph is computed from, itself and the nearest first.

    Of a tensor of open shape those before all others whose results are the first that are.
    """
    nodes, pending = {tensor.node: None}, [tensor.node]
    while pending:
        new = {each.node: None for each in pending.pop(0).inputs if each.node not in nodes}
        nodes |= new
        pending += new
    if tensor.known_shape is None:
        return [each.name for each in sorted(nodes, key=lambda each: not _opens(each))]
    return [each.name for each in nodes]


def _opens(node: Any) -> bool:
    """Whether a result is of open shape, and no operand."""
    is_open = any(each.shape is None for each in node.outputs)
    return is_open and all(each.known_shape is not None for each in node.inputs)
