"""Answers that have at least a given segment: a caller reads what it has written."""

from __future__ import annotations

from collections.abc import Sequence

from nann.serving.client._answer import Answer
from nann.serving.client._connection import Deadline
from nann.serving.client._errors import StaleReplicaError
from nann.serving.client._query import Query

RETRIEVE = "retrieve"
# Half of the time from one look of a server for segments to the next.
RETRY_SECONDS = 0.05


def signature_for(signature: str | None, min_segment: int | None, where: object) -> str | None:
    """The signature of a search by state: the default one for float16 says no segment."""
    return RETRIEVE if signature is None and min_segment is not None and where is None else signature


def must_ask_again(
    query: Query, answers: Sequence[Answer], min_segment: int | None, deadline: Deadline
) -> bool:
    """Whether an answer is of an earlier segment; StaleReplicaError when no time is left to ask again."""
    if min_segment is None:
        return False
    found = min(answer.applied_segment(query) for answer in answers)
    if found >= min_segment:
        return False
    if deadline.remaining() > RETRY_SECONDS:
        return True
    raise StaleReplicaError(
        f"expected an answer that has segment {min_segment}, found {found} until the deadline; is the "
        f"segment in the server's folder, and did the server apply it? Its log tells."
    )
