"""Rows of item tables in the narrow types that a walk reads."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from nann.errors import InvalidInputError

Narrow = Literal["bfloat16", "float16", "int8"]
NARROW: tuple[Narrow, ...] = ("bfloat16", "float16", "int8")
# Columns of an int8 row that share a scale, as in ops/core/index/int8_rows.h, and their largest number.
_BLOCK = 64
_LARGEST_INT8 = 127

Array = npt.NDArray[Any]


def narrow_name(table: str, precision: Narrow) -> str:
    """The name of the copy of `table` in `precision`."""
    return f"{table}_{precision}"


def narrow_rows(rows: Array, precision: str) -> Array:
    """Rows [n, W] rounded to nearest: float16, bfloat16 in uint16, or for "int8" uint8 [n, bytes of a row].

    A row of int8 is the float32 scales of its blocks of 64 columns, and then its numbers, which stand for
    themselves times the scale of their block.

    Example:
      >>> rows = narrow_rows(np.array([[25.4, -12.8, 6.4]], np.float32), "int8")
      >>> rows[:, 4:].view(np.int8).tolist(), rows[:, :4].view(np.float32).round(3).tolist()
      ([[127, -64, 32]], [[0.20000000298023224]])
    """
    if precision == "float16":
        return rows.astype(np.float16)
    if precision == "int8":
        return _int8_rows(rows)
    narrow: Array = tf.bitcast(tf.cast(rows, tf.bfloat16), tf.uint16).numpy()
    return narrow


def narrow_shape(shape: tuple[int, ...], precision: str) -> tuple[int, ...]:
    """The shape of `narrow_rows` of a table of this shape."""
    rows, width = shape
    return (rows, width + 4 * -(-width // _BLOCK)) if precision == "int8" else shape


def check_fits(rows: Array, precision: Narrow) -> None:
    """Raise InvalidInputError where `precision` has no number near one of a table's rows."""
    largest = float(np.abs(rows).max(initial=0))  # NaN where there is one.
    bound = float(np.finfo(np.float16).max)
    if precision == "float16" and largest > bound:
        raise InvalidInputError(
            f"precision: expected numbers up to {bound:,.0f} in the scorer's tables, which is what float16 "
            f"holds, found {largest:,.0f}. Export with --precision bfloat16 or float32."
        )
    if precision == "int8" and not np.isfinite(largest):
        raise InvalidInputError(
            f"precision: expected finite numbers in the scorer's tables, which int8 scales by the largest of "
            f"{_BLOCK}, found {largest}. Export with --precision bfloat16 or float32."
        )


def _int8_rows(rows: Array) -> Array:
    count, width = rows.shape
    blocks = -(-width // _BLOCK)
    padded = np.zeros((count, blocks * _BLOCK), np.float32)
    padded[:, :width] = rows
    parts = padded.reshape(count, blocks, _BLOCK)
    # A block that is not finite becomes NaN as a whole.
    scales = np.abs(parts).max(axis=2, keepdims=True) / np.float32(_LARGEST_INT8)
    scales[~np.isfinite(scales)] = np.nan
    with np.errstate(invalid="ignore"):
        numbers = np.rint(parts / np.where(scales > 0, scales, np.float32(1)))
    numbers = np.clip(np.nan_to_num(numbers), -_LARGEST_INT8, _LARGEST_INT8).astype(np.int8)
    of_rows = numbers.reshape(count, -1)[:, :width].view(np.uint8)
    return np.concatenate([scales.reshape(count, blocks).astype("<f4").view(np.uint8), of_rows], axis=1)
