"""Filters over attributes, outside of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from nann.ops._library import load_library
from nann.ops.attribute_files import PARTS, AttributeFiles

# Where a sample shows that at least so many rows pass, a search tests those that it meets, one by one.
MANY_PASSING = 50_000


class EvaluatedFilter(NamedTuple):
    """Which rows a filter lets pass, and what it took to find out.

    passes:        bool [N].
    passing:       int64 [], how many pass; -1 where a sample showed that they are many.
    first_seconds: float64 [], to parse the filter and to test all rows, or a sample.
    again_seconds: float64 [], to find it again by its text.
    """

    passes: tf.Tensor
    passing: tf.Tensor
    first_seconds: tf.Tensor
    again_seconds: tf.Tensor


def evaluate_filter(
    attributes: Sequence[AttributeFiles],
    text: str,
    *,
    num_rows: int,
    many_passing: int = MANY_PASSING,
) -> EvaluatedFilter:
    """Find which rows of some attributes a filter lets pass.

    attributes:   as `nann.export.attributes` writes them.
    text:         in the language of docs/filters.md; an empty filter lets all rows pass.
    num_rows:     N, the rows of every attribute.
    many_passing: where a sample shows that at least so many rows pass, they are not counted.

    Raises tf.errors.InvalidArgumentError with the column of a text that is not valid, or the path of a file
    that is damaged.

    Example:
      >>> price = AttributeFiles("price", "float32", {"values": Path("attribute_price.npy")})
      >>> np.save("attribute_price.npy", np.array([10, 20, 30], np.float32))
      >>> evaluate_filter([price], "price <= 20", num_rows=3).passes.numpy()
      array([ True,  True, False])
    """
    paths = [attribute.paths for attribute in attributes]
    passes, passing, seconds = load_library().nann_evaluate_filter(
        tf.reshape(tf.constant(paths, tf.string), [len(paths), len(PARTS)]),
        tf.constant(num_rows, tf.int64),
        tf.constant(text),
        attribute_names=[attribute.name for attribute in attributes],
        attribute_types=[attribute.type for attribute in attributes],
        many_passing=many_passing,
    )
    return EvaluatedFilter(passes, passing, seconds[0], seconds[1])
