"""The answer of one server, and what the calls read from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.serving.client._errors import ResponseError
from nann.serving.client._query import Query
from nann.serving.client._results import TopK


@dataclass(frozen=True, eq=False)
class Answer:
    """The outputs of a signature, as one server returned them.

    outputs:    by name.
    version:    the version of the model that answered; None when the server does not say.
    bad_answer: makes the error for outputs that are not what the signature promises, from the reason.
    """

    outputs: dict[str, NDArray[Any]]
    version: int | None
    bad_answer: Callable[[str], ResponseError]

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
        """Return the result of a search."""
        results = int(query.results.max())
        has_counts = "items_scored" in self.outputs
        return TopK(
            ids=self._results("top_k", np.int64, query.users, results),
            scores=self._results("scores", np.float32, query.users, results),
            items_scored=self.output("items_scored", np.int32, (query.users,)) if has_counts else None,
            model_version=self.version,
        )

    def _results(self, name: str, dtype: type[Any], users: int, results: int) -> NDArray[Any]:
        """Return an output [users, results]. An answer of a batch with others may have more columns."""
        array = self.outputs.get(name)
        width = array.shape[1] if array is not None and array.ndim == 2 else results
        return self.output(name, dtype, (users, max(width, results)))[:, :results]

    def scores(self, query: Query) -> NDArray[np.float32]:
        """Return the scores of given items."""
        return self.output("scores", np.float32, query.inputs["item_ids"].shape)
