"""Whether the inputs of a request fit their signature, as far as the signatures tell."""

from __future__ import annotations

from collections.abc import Callable

from nann.errors import InvalidInputError
from nann.serving.client._query import Query, SpecOf
from nann.serving.client._results import ModelMetadata, TensorSpec


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
    takes = f"{query.signature} takes {sorted(signature.inputs)}"
    missing = sorted(signature.inputs.keys() - query.inputs.keys())
    if missing:
        raise InvalidInputError(f"{', '.join(missing)}: expected values, got none; {takes}")
    for name, array in query.inputs.items():
        spec = signature.inputs.get(name)
        if spec is None:
            raise InvalidInputError(
                f"{name}: expected an input of the signature, found none of this name; {takes}"
            )
        if not _has_shape(spec, array.shape):
            raise InvalidInputError(
                f"{name}: expected shape {_text(spec.shape)}, got {_text(array.shape)} (compare with "
                "`metadata()`, where -1 is any size)"
            )


def _has_shape(spec: TensorSpec, shape: tuple[int, ...]) -> bool:
    return spec.shape is None or (
        len(shape) == len(spec.shape)
        and all(expected in (-1, size) for expected, size in zip(spec.shape, shape, strict=True))
    )


def _text(shape: tuple[int, ...] | None) -> str:
    return str(list(shape or ()))
