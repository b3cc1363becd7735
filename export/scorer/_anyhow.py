"""Functions that were rewritten, tried: what a model runs for some users or items only then runs for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from nann.export.replaced import Compute, replaced

# Relative to the largest: what is computed in another order differs by less.
_CLOSE = 1e-3


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
    fails = _results(found, zeros) is None and _results(function, zeros) is not None
    return None if fails else found


def has_same_results(function: Any, changed: Any, *, if_untried: bool = True) -> bool:
    """Whether two functions agree for random numbers; `if_untried` where the first cannot be run so."""
    if not all(each.shape.is_fully_defined() and _is_number(each.dtype) for each in function.inputs):
        return if_untried
    random = np.random.default_rng(0)
    inputs = [tf.cast(random.normal(size=each.shape), each.dtype) for each in function.inputs]
    expected = _results(function, inputs)
    if expected is None:
        return if_untried
    found = _results(changed, inputs)
    return found is not None and all(map(_are_close, found, expected))


def _is_number(dtype: tf.DType) -> bool:
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_bool)


def _are_close(found: Any, expected: Any) -> bool:
    """But for rounding, of which a model may make more."""
    if not expected.dtype.is_floating:
        return bool(np.array_equal(found, expected))
    x, y = (np.asarray(tf.cast(each, tf.float64)) for each in (found, expected))
    scale = np.abs(y, where=np.isfinite(y), out=np.zeros_like(y)).max(initial=0)
    return x.shape == y.shape and np.allclose(x, y, rtol=_CLOSE, atol=_CLOSE * scale, equal_nan=True)


def _results(function: Any, inputs: Sequence[Any]) -> list[Any] | None:
    """None where it cannot be run."""
    try:
        return list(tf.nest.flatten(function(*inputs)))
    except tf.errors.OpError:
        return None
