"""The answer of one server, and what the calls read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.serving.client._errors import NannClientError, ResponseError
from nann.serving.client._query import Query
from nann.serving.client._results import TopK

_APPLIED_SEGMENT = "applied_segment"


@dataclass(frozen=True, eq=False)
class Answer:
    """The outputs of a signature, as one server returned them.

    outputs:    by name.
    version:    the version of the model that answered; None when the server does not say.
    bad_answer: makes the error for outputs that are not what the signature promises, from the reason.
    failed:     makes the error for the name of a status code and the details.
    """

    outputs: dict[str, NDArray[Any]]
    version: int | None
    bad_answer: Callable[[str], ResponseError]
    failed: Callable[[str, str], NannClientError]

    def output(self, name: str, dtype: type[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an output after checking its type and shape."""
        if name not in self.outputs:
            raise self.bad_answer(f"no output {name!r} among {sorted(self.outputs)}")
        array = self.outputs[name]
        if array.dtype != dtype or array.shape != shape:
            raise self.bad_answer(
                f"output {name!r} is {array.dtype} {list(array.shape)}, "
                f"expected {np.dtype(dtype)} {list(shape)}"
            )
        return array

    def top_k(self, query: Query) -> TopK:
        """Return the result of a search. Rows that the server refused are padding."""
        has_counts, has_filter = "items_scored" in self.outputs, "filter" in query.inputs
        results = int(query.results.max())
        accepted = self._accepted_results(query, results)
        return TopK(
            ids=self._results("top_k", np.int64, (query.users, results), accepted, -1),
            scores=self._results("scores", np.float32, (query.users, results), accepted, -np.inf),
            items_scored=self.output("items_scored", np.int32, (query.users,)) if has_counts else None,
            model_version=self.version,
            passing=self.output("passing", np.int64, (query.users,)) if has_filter else None,
            exact=self.output("exact", np.bool_, (query.users,)) if has_filter else None,
            applied_segment=self.applied_segment(query) if _APPLIED_SEGMENT in self.outputs else None,
        )

    def applied_segment(self, query: Query) -> int:
        """Return the last segment that the answer's items have, of all users."""
        return int(self.output(_APPLIED_SEGMENT, np.int64, (query.users,)).min())

    def row_status(self, query: Query) -> NDArray[np.int32]:
        """Return the number of each user's status code, int32 [B]; zeros if the signature has none."""
        if "row_status" not in self.outputs:
            return np.zeros(query.users, np.int32)
        return self.output("row_status", np.int32, (query.users,))

    def _results(
        self, name: str, dtype: type[Any], shape: tuple[int, int], accepted: int, padding: float
    ) -> NDArray[Any]:
        """Return an output as [users, results].

        An answer of a batch with others may have more columns, and one to refused rows fewer, down to
        `accepted`.
        """
        users, results = shape
        array = self.outputs.get(name)
        width = array.shape[1] if array is not None and array.ndim == 2 else results
        found = self.output(name, dtype, (users, max(width, accepted)))
        if width < results:
            found = np.pad(found, [(0, 0), (0, results - width)], constant_values=padding)
        return found[:, :results]

    def _accepted_results(self, query: Query, results: int) -> int:
        """Return the largest number of results of a user that was not refused; `results` is that of all."""
        refused = self.row_status(query)
        if not np.count_nonzero(refused):
            return results
        return int(np.broadcast_to(query.results, query.users)[refused == 0].max(initial=0))

    def scores(self, query: Query) -> NDArray[np.float32]:
        """Return the scores of given items."""
        return self.output("scores", np.float32, query.inputs["item_ids"].shape)
