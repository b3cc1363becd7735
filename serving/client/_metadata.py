"""The answer of GetModelMetadata as plain data classes."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from nann.serving.client._errors import ResponseError
from nann.serving.client._results import ModelMetadata, Signature, TensorSpec
from nann.serving.protocol import messages


def parse_metadata(answer: Any) -> ModelMetadata:
    """Return the signatures in a `GetModelMetadataResponse`.

    Raises:
      ResponseError: they are missing or cannot be read.
    """
    name = answer.model_spec.name
    if "signature_def" not in answer.metadata:
        raise ResponseError(
            f"the metadata of model {name!r} hold no signature_def: {sorted(answer.metadata)}"
        )
    try:
        signatures = messages.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
    except DecodeError as error:
        raise ResponseError(f"the signatures of model {name!r} cannot be read: {error}") from error
    return ModelMetadata(
        name=name,
        version=answer.model_spec.version.value if answer.model_spec.HasField("version") else None,
        signatures={
            key: Signature(inputs=_specs(value.inputs), outputs=_specs(value.outputs))
            for key, value in signatures.signature_def.items()
        },
    )


def _specs(infos: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(dtype=_type_name(info.dtype), shape=_shape(info)) for name, info in infos.items()
    }


def _type_name(number: int) -> str:
    try:
        return str(messages.DataType(number).name).lower()
    except ValueError:
        return f"type {number}"


def _shape(info: Any) -> tuple[int, ...] | None:
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(dim.size for dim in info.tensor_shape.dim)
