"""Whether the inputs of a request fit their signature, as far as the signatures tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn

from nann.errors import InvalidInputError
from nann.serving.client._query import Query, SpecOf
from nann.serving.client._results import ModelMetadata, Signature


def fitting(build: Callable[[SpecOf], Query], metadata: ModelMetadata) -> Query:
    """Return the query that `build` makes for these signatures.

    Raises:
      InvalidInputError: as `build`, and if the query does not fit its signature.
    """
    query = build(metadata.input)
    _check_fit(query, metadata)
    return query


def _check_fit(query: Query, metadata: ModelMetadata) -> None:
    """Check names and shapes of the inputs. A server that describes no signature at all is believed.

    Raises:
      InvalidInputError: the model has no such signature, or an input is missing, unknown or of another shape.
    """
    if not metadata.signatures:
        return
    signature = metadata.signatures.get(query.signature)
    if signature is None:
        raise InvalidInputError(
            f"signature: expected one of the model's {sorted(metadata.signatures)}, got {query.signature!r}"
        )
    if query.inputs.keys() != signature.inputs.keys():
        _refuse_names(query, signature)
    for name, array in query.inputs.items():
        expected = signature.inputs[name].shape
        if not _is_of(expected, array.shape):
            raise InvalidInputError(
                f"{name}: expected shape {_text(expected)}, got {_text(array.shape)} (-1 is any size, and "
                "the first dimension is the users)"
            )


def _refuse_names(query: Query, signature: Signature) -> NoReturn:
    takes = f"{query.signature} takes {sorted(signature.inputs)}"
    missing = sorted(signature.inputs.keys() - query.inputs.keys())
    if missing:
        raise InvalidInputError(f"{', '.join(missing)}: expected values, got none; {takes}")
    name = next(name for name in query.inputs if name not in signature.inputs)
    raise InvalidInputError(f"{name}: expected an input of the signature, found none of this name; {takes}")


# Requests of one caller have few shapes: one for each input and number of users.
@lru_cache(maxsize=1024)
def _is_of(expected: tuple[int, ...] | None, shape: tuple[int, ...]) -> bool:
    """Whether a shape is one of those that a signature takes, where -1 is any size and None any rank."""
    return expected is None or (
        len(shape) == len(expected) and all(size in (-1, n) for size, n in zip(expected, shape, strict=True))
    )


def _text(shape: tuple[int, ...] | None) -> str:
    return str(list(shape or ()))
