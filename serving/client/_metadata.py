"""The answers about a model's signatures and versions as plain data classes."""

from __future__ import annotations

from typing import Any

from nann.errors import InvalidInputError
from nann.serving.client._results import ModelMetadata, Signature, TensorSpec, VersionStatus
from nann.serving.protocol import messages


def parse_metadata(response: Any) -> ModelMetadata:
    """Return the signatures in a `GetModelMetadataResponse`.

    Raises:
      InvalidInputError, DecodeError: they are missing or malformed.
    """
    if "signature_def" not in response.metadata:
        raise InvalidInputError(f"expected metadata with signature_def, got {sorted(response.metadata)}")
    signatures = messages.SignatureDefMap.FromString(response.metadata["signature_def"].value)
    spec = response.model_spec
    return ModelMetadata(
        name=spec.name,
        version=spec.version.value if spec.HasField("version") else None,
        signatures={
            name: Signature(inputs=_specs(signature.inputs), outputs=_specs(signature.outputs))
            for name, signature in signatures.signature_def.items()
        },
    )


def parse_status(response: Any) -> tuple[VersionStatus, ...]:
    """Return the versions in a `GetModelStatusResponse`, newest first."""
    versions = [
        VersionStatus(
            version=entry.version,
            state=_name(messages.VersionState, entry.state, "state"),
            error_code=entry.status.error_code,
            error_message=entry.status.error_message,
        )
        for entry in response.model_version_status
    ]
    return tuple(sorted(versions, key=lambda status: -status.version))


def _specs(infos: Any) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(
            dtype=_name(messages.DataType, info.dtype, "type").lower(), shape=_shape(info.tensor_shape)
        )
        for name, info in infos.items()
    }


def _shape(proto: Any) -> tuple[int, ...] | None:
    return None if proto.unknown_rank else tuple(dim.size for dim in proto.dim)


def _name(enum: Any, number: int, kind: str) -> str:
    """Return the name of a value, or its number where a newer server sends an unknown one."""
    try:
        return str(enum(number).name)
    except ValueError:
        return f"{kind} {number}"
