"""The time of a request by several walks, measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from nann.export._samples import Sample
from nann.export.scorer import Scorer
from nann.ops import IndexResource, beam_search

# A median of five is not moved by two disturbances; forty are enough for fast walks.
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 40
_SECONDS = 3.0  # after which no round is added to the least
_WARM_UP = 2
# A measurement may take more work than an export allows a request.
ANY_WORK = 2**40
# Times within one twentieth are equal: medians of a shared machine differ by as much from run to run.
EQUAL_TIMES = 1.05

Walk = tuple[Scorer, Sequence[int]]


def milliseconds(index: IndexResource, sample: Sample, walks: Mapping[str, Walk]) -> dict[str, float]:
    """The median time of a request of one user by each walk, (scorer, level_topn).

    Each round asks for another user, by all walks, of which another one begins: what slows the machine down
    for a while slows all of them.
    """
    users = [[tf.constant(value[[user]]) for value in sample.state.values()] for user in range(sample.users)]
    searches = {name: _search(index, *walk, users[0]) for name, walk in walks.items()}
    for search in searches.values():
        for user in users[:_WARM_UP]:
            search(user)
    times: dict[str, list[float]] = {name: [] for name in searches}
    started = time.perf_counter()
    for done in range(_MOST_ROUNDS):
        if done >= _LEAST_ROUNDS and time.perf_counter() - started > _SECONDS:
            break
        for place in range(len(searches)):
            name = list(searches)[(done + place) % len(searches)]
            before = time.perf_counter()
            searches[name](users[done % len(users)])
            times[name].append(time.perf_counter() - before)
    return {name: 1e3 * float(np.median(each)) for name, each in times.items()}


def _search(
    index: IndexResource, scorer: Scorer, level_topn: Sequence[int], state: Sequence[tf.Tensor]
) -> Callable[[list[tf.Tensor]], object]:
    """A search that is traced once, for users like the one with this state."""
    beams = tf.constant(level_topn, tf.int32)

    def search(*of_user: tf.Tensor) -> tf.Tensor:
        return beam_search(index, of_user, beams, max_work=ANY_WORK, **scorer.search_options()).ids

    specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in state]
    traced = tf.function(search, autograph=False).get_concrete_function(*specs)
    return lambda of_user: traced(*of_user).numpy()
