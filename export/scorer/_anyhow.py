"""Loops and branches written out: what a model runs for some users only then runs for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from nann.export.replaced import Compute, replaced


def replaced_if_it_runs(function: Any, *replacements: tuple[Any, Compute]) -> Any | None:
    """As `replaced`.

    None where what runs for each user then does what cannot be done, such as to read an event after the last.
    """
    try:
        found = replaced(function, *replacements)
    except ValueError:  # TensorFlow sees it while it traces.
        return None
    if not all(each.shape.is_fully_defined() and each.dtype != tf.variant for each in function.inputs):
        return found
    zeros = [tf.zeros(each.shape, each.dtype) for each in function.inputs]
    return found if _runs(found, zeros) or not _runs(function, zeros) else None


def _runs(function: Any, inputs: Sequence[Any]) -> bool:
    try:
        function(*inputs)
    except tf.errors.InvalidArgumentError:
        return False
    return True
