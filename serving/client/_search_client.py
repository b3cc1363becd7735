"""The calls that every client has, whether it asks one server or several shards."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nann.serving.client import _query
from nann.serving.client._answer import Answer
from nann.serving.client._asked_model import AskedModel
from nann.serving.client._connection import Deadline, Version
from nann.serving.client._fit import fitting
from nann.serving.client._freshness import RETRY_SECONDS, Freshness, signature_for
from nann.serving.client._query import Features, Ids, Query, State, Where
from nann.serving.client._results import MissingShard, ModelMetadata, TopK

Client = TypeVar("Client", bound="SearchClient[TopK]")
Result = TypeVar("Result", bound=TopK, covariant=True)


class SearchClient(AskedModel, ABC, Generic[Result]):
    """Base of `NannClient` and `ShardedClient`."""

    def __enter__(self: Client) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the connections. Calls that are under way are cancelled."""

    @abstractmethod
    def wait_ready(self, timeout: float | None) -> None:
        """Wait until the model can be asked."""

    def top_k(
        self,
        comm_seq: State,
        level_topn: ArrayLike,
        *,
        exclude_ids: Ids | None = None,
        where: Where | None = None,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
        allow_partial: bool | None = None,
    ) -> Result:
        """Return the best items of each user, given the user's state.

        Args:
          comm_seq: the embedded behaviour sequence, float16 or float32 [B, L, E] or [B, L*E], or of one user
            [L, E] or [L*E]. For a model whose user state has other names: a mapping of name to array, each
            with a leading batch dimension, or the vector of one user.
          level_topn: beams, integers [n] for all users or [B, n]. The export's manifest has n and the
            default beams. Every shard gets all of them: for the work of one walk over the whole corpus
            divide all but the last, which is the number of results, by the number of shards.
          exclude_ids: ids of items that are not returned: one row for all users, or one row of any length
            per user.
          where: a filter over attributes of the items, such as "price <= 20 AND brand IN (3, 7)": one for all
            users or one per user; "" lets every item pass. docs/filters.md describes the language.
          min_segment: number of a segment (docs/live.md) that the answer's items must have. The server is
            asked again until they do. Of several shards each must have a segment of this number or a later.
          timeout: seconds; overrides the client's.
          version: a number or a label; overrides the client's.
          signature: default "retrieve_where" with `where`; "serving_default" for float16 without exclusions
            and without beams per user; otherwise "retrieve".
          allow_partial: overrides the client's. Has no effect on `NannClient`: one server has no parts.

        Raises:
          InvalidInputError: an argument has the wrong type or shape, or `where` is given and the model's
            export has no attributes.
          VersionMismatchError: the shards have no version in common.
          StaleReplicaError: no answer within the timeout has `min_segment`.
          NannClientError: the call failed, see its subclasses. `ShardedClient` raises it when a shard failed
            or, with `allow_partial`, when all did. It raises RequestRejectedError and ResponseError for any
            shard, because every shard would refuse the request.

        Example:
          >>> result = client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], exclude_ids=[24, 31])
          >>> result.ids.shape, result.scores.shape
          ((1, 10), (1, 10))
        """
        version, deadline = self._options(version, timeout)
        query = self._built(
            lambda spec_of: _query.search_by_state(
                comm_seq,
                level_topn,
                exclude_ids=exclude_ids,
                where=where,
                signature=signature_for(signature, min_segment, where),
                spec_of=spec_of,
            ),
            version,
            deadline,
        )
        return self._search(query, version, deadline, allow_partial, min_segment)

    def top_k_by_ids(
        self,
        /,
        item_ids: Ids | Mapping[str, Features] | None = None,
        cate_ids: Ids | None = None,
        *,
        level_topn: ArrayLike,
        exclude_ids: Ids | None = None,
        where: Where | None = None,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str | None = None,
        allow_partial: bool | None = None,
        **features: Features,
    ) -> Result:
        """Return the best items of each user, given the ids of the items that the user has seen.

        Args:
          item_ids, cate_ids: integers [B, L] or [L], oldest first, in the caller's own ids; 0 means missing.
            Shorter rows are padded with 0 at the front, as in training, to the length that the model takes.
          features: the inputs of a model that has others, by name. Integers of a fixed number are padded like
            these. A feature of any length is a list of values per user, each as long as it is: the client
            pads it and sends the lengths. All others, strings too, are arrays of the model's shape, with or
            without a batch dimension. In place of `item_ids` a mapping gives all features, whatever their
            names.
          signature: default "retrieve_by_ids", with `where` "retrieve_by_ids_where".

        The other arguments and the errors are those of `top_k`.

        Example:
          >>> result = client.top_k_by_ids([3, 1, 7], [100, 101, 100], level_topn=[20, 30, 30, 30, 30, 10])
          >>> result.ids.shape, result.items_scored.shape
          ((1, 10), (1,))
        """
        version, deadline = self._options(version, timeout)
        query = self._built(
            lambda spec_of: _query.search_by_ids(
                _query.named_features(item_ids, cate_ids, features),
                level_topn,
                exclude_ids=exclude_ids,
                where=where,
                signature=signature,
                spec_of=spec_of,
            ),
            version,
            deadline,
        )
        return self._search(query, version, deadline, allow_partial, min_segment)

    def score(
        self,
        comm_seq: State,
        item_ids: ArrayLike,
        *,
        min_segment: int | None = None,
        timeout: float | None = None,
        version: Version = None,
        signature: str = "score",
    ) -> NDArray[np.float32]:
        """Return the model's scores of given items, float32 [B, n]; -inf for an id that is not in the corpus.

        All shards must answer.

        Args:
          comm_seq: as for `top_k`.
          item_ids: integers [n] for all users, or [B, n].

        The other arguments and the errors are those of `top_k`.

        Example:
          >>> client.score(comm_seq, [3, 10, 999_999]).shape
          (1, 3)
        """
        version, deadline = self._options(version, timeout)
        query = self._built(
            lambda spec_of: _query.score_of_items(comm_seq, item_ids, signature=signature, spec_of=spec_of),
            version,
            deadline,
        )
        answers, _ = self._ask_fresh(query, version, deadline, allow_partial=False, min_segment=min_segment)
        # A shard answers -inf for the items of the others.
        scores: NDArray[np.float32] = np.maximum.reduce([answer.scores(query) for answer in answers])
        return scores

    @abstractmethod
    def _ask(
        self, query: Query, version: Version, deadline: Deadline, *, allow_partial: bool | None
    ) -> tuple[list[Answer], tuple[MissingShard, ...]]:
        """Return the answers of all servers, and the shards that are missing."""

    @abstractmethod
    def _combine(self, query: Query, answers: list[Answer], missing: tuple[MissingShard, ...]) -> Result:
        """Return the result of a search from the answers of all servers."""

    @abstractmethod
    def _fetch_metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        """Return the signatures of the model."""

    def _search(
        self,
        query: Query,
        version: Version,
        deadline: Deadline,
        allow_partial: bool | None,
        min_segment: int | None,
    ) -> Result:
        answers, missing = self._ask_fresh(
            query, version, deadline, allow_partial=allow_partial, min_segment=min_segment
        )
        return self._combine(query, answers, missing)

    def _ask_fresh(
        self,
        query: Query,
        version: Version,
        deadline: Deadline,
        *,
        allow_partial: bool | None,
        min_segment: int | None,
    ) -> tuple[list[Answer], tuple[MissingShard, ...]]:
        """`_ask`, until all answers have `min_segment`."""
        freshness = Freshness(query, min_segment, deadline)
        while True:
            with freshness, self._forgetting_when_rejected:
                answers, missing = self._ask(query, version, deadline, allow_partial=allow_partial)
            if not freshness.must_ask_again(answers):
                return answers, missing
            time.sleep(RETRY_SECONDS)

    def _built(self, build: Callable[[_query.SpecOf], Query], version: Version, deadline: Deadline) -> Query:
        """Return the query; fetch the signatures only if building it asks for them."""
        query = self._built_as_known(build, version)
        if query is None:
            query = fitting(build, self._metadata(version, deadline))
        return query

    def _metadata(self, version: Version, deadline: Deadline) -> ModelMetadata:
        metadata = self._known_metadata[version] = self._fetch_metadata(version, deadline)
        return metadata
