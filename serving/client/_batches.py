"""Many users, asked for in several requests that are under way at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.errors import InvalidInputError
from nann.serving.client._results import TopK
from nann.serving.client._rows import RowsRejectedError


def in_batches(
    call: Callable[..., TopK],
    users: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    batch_size: int = 64,
    parallel: int = 4,
    **options: Any,
) -> TopK:
    """Return the best items of any number of users, in their order.

    Args:
      call: `client.top_k` or `client.top_k_by_ids`, of `NannClient` or `ShardedClient`.
      users: the arguments of `call` that have a row for each user, by name; all have as many rows.
      batch_size: users of a request. Smaller requests begin to be answered sooner.
      parallel: requests that are under way at the same time.
      options: the other arguments of `call`, which are the same for all users.

    Raises:
      InvalidInputError: `users` has no rows, or inputs of different numbers of rows.
      RowsRejectedError: some users were refused; the numbers count over all users, and so does the result.
      NannClientError: a request failed; those that have not begun are not sent.

    Example:
      >>> users = {"item_ids": [[3, 1, 7]] * 100, "cate_ids": [[100, 101, 100]] * 100}
      >>> result = in_batches(client.top_k_by_ids, users, level_topn=[20, 30, 30, 30, 30, 10])
      >>> result.ids.shape
      (100, 10)
    """
    rows = {name: len(values) for name, values in users.items()}
    if len(set(rows.values())) != 1 or not max(rows.values()):
        raise InvalidInputError(f"in_batches: expected as many rows in every input, at least one, got {rows}")
    if batch_size < 1 or parallel < 1:
        raise InvalidInputError(
            f"in_batches: expected batch_size and parallel of at least 1, got {batch_size} and {parallel}"
        )
    parts = [
        {name: values[start : start + batch_size] for name, values in users.items()}
        for start in range(0, next(iter(rows.values())), batch_size)
    ]
    pool = ThreadPoolExecutor(min(parallel, len(parts)))
    try:
        answers = list(pool.map(lambda part: _answer(call, part, options), parts))
    finally:
        pool.shutdown(cancel_futures=True)
    result = _joined(
        [answer.result if isinstance(answer, RowsRejectedError) else answer for answer in answers]
    )
    refused = tuple(_refused(answers, batch_size))
    if not refused:
        return result
    first = next(answer for answer in answers if isinstance(answer, RowsRejectedError))
    raise RowsRejectedError(
        f"{len(refused)} of {len(result.ids)} users were refused, the first is user {refused[0]}: {first}",
        code=first.code,
        target=first.target,
        model=first.model,
        details=first.details,
        rows=refused,
        result=result,
    )


def _answer(
    call: Callable[..., TopK], part: Mapping[str, Any], options: Mapping[str, Any]
) -> TopK | RowsRejectedError:
    try:
        return call(**part, **options)
    except RowsRejectedError as error:
        return error


def _refused(answers: Sequence[TopK | RowsRejectedError], batch_size: int) -> Iterator[int]:
    for number, answer in enumerate(answers):
        if isinstance(answer, RowsRejectedError):
            yield from (number * batch_size + row for row in answer.rows)


def _joined(parts: Sequence[TopK]) -> TopK:
    """Return the rows of all parts; with beams per user, parts may differ in k."""
    width = max(part.ids.shape[1] for part in parts)

    def wide(array: NDArray[Any], padding: float) -> NDArray[Any]:
        return np.pad(array, [(0, 0), (0, width - array.shape[1])], constant_values=padding)

    counts = [part.items_scored for part in parts if part.items_scored is not None]
    versions = {part.model_version for part in parts}
    return TopK(
        ids=np.concatenate([wide(part.ids, -1) for part in parts]),
        scores=np.concatenate([wide(part.scores, -np.inf) for part in parts]),
        items_scored=np.concatenate(counts) if len(counts) == len(parts) else None,
        # Requests may meet different versions while one replaces another.
        model_version=versions.pop() if len(versions) == 1 else None,
    )
