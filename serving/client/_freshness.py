"""Answers that have at least a given segment: a caller reads what it has written."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from nann.serving.client._answer import Answer
from nann.serving.client._connection import Deadline
from nann.serving.client._errors import DeadlineExceededError, StaleReplicaError
from nann.serving.client._query import Query

RETRIEVE = "retrieve"
# Half of the time from one look of a server for segments to the next.
RETRY_SECONDS = 0.05


def signature_for(signature: str | None, min_segment: int | None, where: object) -> str | None:
    """The signature of a search by state: the default one for float16 says no segment."""
    return RETRIEVE if signature is None and min_segment is not None and where is None else signature


class Freshness:
    """The wait of one call for answers that have its `min_segment`; `with` each request that it makes.

    After a stale answer, a deadline that ends the wait is the replica's staleness.
    """

    def __init__(self, query: Query, min_segment: int | None, deadline: Deadline) -> None:
        self._query = query
        self._min_segment = min_segment
        self._deadline = deadline
        self._found: int | None = None  # the segment of the last answers

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DeadlineExceededError) and self._found is not None:
            raise self._stale() from error

    def must_ask_again(self, answers: Sequence[Answer]) -> bool:
        """Whether an answer is of an earlier segment; StaleReplicaError when no time is left to ask again."""
        if self._min_segment is None:
            return False
        self._found = min(answer.applied_segment(self._query) for answer in answers)
        if self._found >= self._min_segment:
            return False
        if self._deadline.remaining() > RETRY_SECONDS:
            return True
        raise self._stale()

    def _stale(self) -> StaleReplicaError:
        return StaleReplicaError(
            f"expected an answer that has segment {self._min_segment}, found {self._found} until the "
            f"deadline; is the segment in the server's folder, and did the server apply it? Its log tells."
        )
