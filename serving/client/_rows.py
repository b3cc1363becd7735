"""Which users of a request were refused.

A server that joins requests runs users together who do not know each other. A user whose inputs are not valid
is therefore answered with padding and a `row_status`, and does not fail the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
import numpy as np

from nann.serving.client._answer import Answer
from nann.serving.client._errors import RequestRejectedError
from nann.serving.client._query import Query
from nann.serving.client._results import TopK

Result = TypeVar("Result", bound=TopK)
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
# The limit of the search op.
_MAX_BEAM = 65_536


class RowsRejectedError(RequestRejectedError):
    """The model refused some users of a request, and answered the others.

    Attributes:
      rows: numbers of the users that were refused, counted from 0.
      result: the answer for all users; the refused ones have ids of -1.

    Example:
      >>> beams = [[20, 30, 30, 30, 30, 10], [20, 0, 30, 30, 30, 10]]
      >>> try:
      ...     client.top_k_by_ids([[3, 1], [7, 9]], [[100, 101], [100, 101]], level_topn=beams)
      ... except RowsRejectedError as error:
      ...     print(error.rows, error.result.ids.shape, error.details)
      (1,) (2, 10) row 1: level_topn[1]: expected 1 to 65536, found 0
    """

    def __init__(self, message: str, *, rows: tuple[int, ...], result: TopK, **status: Any) -> None:
        super().__init__(message, **status)
        self.rows = rows
        self.result = result


def checked_rows(query: Query, answers: Sequence[Answer], result: Result) -> Result:
    """Return the result if every server accepted every user.

    Raises:
      RowsRejectedError: one of them did not.
    """
    statuses = [answer.row_status(query) for answer in answers]
    if not any(map(np.count_nonzero, statuses)):
        return result
    status = np.maximum.reduce(statuses)
    rows = tuple(int(row) for row in np.flatnonzero(status))
    first = rows[0]
    code = _CODES.get(int(status[first]), "UNKNOWN")
    more = f" (and {len(rows) - 1} more rows)" if len(rows) > 1 else ""
    error = answers[0].failed(code, f"row {first}: {_reason(query, first, code)}{more}")
    raise RowsRejectedError(
        str(error),
        code=code,
        target=error.target,
        model=error.model,
        details=error.details,
        rows=rows,
        result=result,
    )


def _reason(query: Query, row: int, code: str) -> str:
    """Say what is wrong with a row. The server sends a number; the inputs are known here."""
    if code == "RESOURCE_EXHAUSTED":
        return "its beams take too large a share of the export's max_work; send narrower beams or fewer users"
    beams = query.inputs["level_topn"][row]
    for index, beam in enumerate(beams.tolist()):
        if not 1 <= beam <= _MAX_BEAM:
            return f"level_topn[{index}]: expected 1 to {_MAX_BEAM}, found {beam}"
    for name, lengths in query.inputs.items():
        feature = name.removesuffix("_length")
        if feature == name or feature not in query.inputs:
            continue
        if not 0 <= lengths[row] <= query.inputs[feature].shape[1]:
            return f"{name}: expected 0 to the width of {feature}, found {lengths[row]}"
    text = query.inputs["filter"][row] if "filter" in query.inputs else ""
    if text:
        return f"filter: the model does not accept {text!r}; ask for this user alone to see its message"
    return "the model does not accept its inputs; ask for this user alone to see the server's message"
