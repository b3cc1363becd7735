"""Item state: what a model declares of it, and its way back from columns of float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from nann.errors import InvalidInputError
from nann.export.item_rows import PART_BITS, columns_of, parts_of

_TYPES = ("bool", "float16", "float32", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


# The names of the operations that take columns for item state begin with it.
STATE_SCOPE = "nann_item_state"


def check_item_state(specs: Any) -> None:
    """Raise InvalidInputError for item state that no table can hold."""
    if not isinstance(specs, Mapping):
        raise InvalidInputError(
            f"item_state: expected a mapping of names to tf.TensorSpec, found {type(specs).__name__}. "
            f"Make it a dict."
        )
    for name, spec in specs.items():
        if not isinstance(spec, tf.TensorSpec) or spec.shape.num_elements() is None:
            raise InvalidInputError(
                f"item_state {name}: expected tf.TensorSpec of one item, of fixed shape, found {spec!r}. "
                f"Name its sizes."
            )
        if spec.dtype.name not in _TYPES:
            raise InvalidInputError(
                f"item_state {name}: expected one of {', '.join(_TYPES)}, found {spec.dtype.name}. Convert "
                f"it. Of strings, cut behind the lookup layer, and store its integer codes as item state."
            )


def width_of(specs: Mapping[str, tf.TensorSpec]) -> int:
    """W: columns of the item state."""
    return sum(columns_of(spec.dtype.name, spec.shape.as_list()) for spec in specs.values())


def state_from_columns(columns: tf.Tensor, specs: Mapping[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    """float32 [n, W] -> item state by name, [n, ...], in its own types."""
    state, begin = {}, 0
    for name, spec in specs.items():
        end = begin + columns_of(spec.dtype.name, spec.shape.as_list())
        values = columns[:, begin:end]
        if parts_of(spec.dtype.name) == 1:
            values = tf.cast(values, spec.dtype)
        else:
            low, middle, high = (tf.cast(part, tf.int64) for part in tf.split(values, 3, axis=1))
            values = tf.cast(low + (middle + high * 2**PART_BITS) * 2**PART_BITS, spec.dtype)
        state[name] = tf.reshape(values, [columns.shape[0], *spec.shape])
        begin = end
    return state
