"""The inputs of a request as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nann.errors import InvalidInputError
from nann.serving.protocol import messages, tensors

# Requests of one caller have few shapes: those of each signature, by the number of users.
_MAX_HEADS = 1024


def encode_inputs(inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] = ()) -> bytes:
    """Return the part of a `PredictRequest` that is the same for every server.

    Raises:
      InvalidInputError: no tensor type corresponds to an array's dtype, or `outputs` is one string.
    """
    if isinstance(outputs, str):
        raise InvalidInputError(f"outputs: expected a list of names, got {outputs!r}; write [{outputs!r}]")
    # Serialized messages, one after the other, are one message with the fields of all.
    parts = [bytes(messages.PredictRequest(output_filter=outputs).SerializeToString())]
    for name, array in inputs.items():
        head = _head(name, array.dtype, array.shape)
        if head is None:
            parts.append(_encoded(name, array))
        else:
            parts += head, array.tobytes()
    return b"".join(parts)


def _encoded(name: str, array: NDArray[Any]) -> bytes:
    request = messages.PredictRequest()
    tensors.encode(array, request.inputs[name], name=name)
    return bytes(request.SerializeToString())


@lru_cache(maxsize=_MAX_HEADS)
def _head(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes | None:
    """Return what precedes an input's values, which are the end of its message.

    None for types whose values are not sent as they are in memory.
    """
    if dtype.kind not in "biuf" or not dtype.isnative:
        return None
    values = np.full(shape, 1, dtype)
    encoded, content = _encoded(name, values), values.tobytes()
    return encoded[: len(encoded) - len(content)] if encoded.endswith(content) else None
