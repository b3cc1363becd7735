"""The answers to status and metadata requests, as protocol buffers and as JSON."""

from __future__ import annotations

from typing import Any

from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToJson
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2

from nann.serving.server._manager import Lease
from nann.serving.server._status import invalid_argument
from nann.serving.server._versions import VersionStatus

_SIGNATURE_DEF = "signature_def"


def check_metadata_fields(fields: Any) -> None:
    """Check that a metadata request asks for signatures, the only metadata that a model has.

    Raises:
      StatusError: INVALID_ARGUMENT.
    """
    if not fields:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != _SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported")


def metadata(name: str, lease: Lease) -> Any:
    """Return the `GetModelMetadataResponse` with the signatures of a version."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = name
    response.model_spec.version.value = lease.version
    packed = any_pb2.Any()
    packed.Pack(_signature_map(lease))
    response.metadata[_SIGNATURE_DEF].CopyFrom(packed)
    return response


def _signature_map(lease: Lease) -> Any:
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for key, signature in lease.servable.signatures.items():
        signatures.signature_def[key].CopyFrom(signature)
    return signatures


def status(versions: list[VersionStatus]) -> Any:
    """Return the `GetModelStatusResponse` for these versions, in this order."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for version in versions:
        item = response.model_version_status.add(version=version.number, state=int(version.state))
        item.status.SetInParent()
        if version.error is not None:
            item.status.error_code = int(version.error.code)
            # A path may hold bytes that are not UTF-8; a protocol buffer may not.
            item.status.error_message = version.error.message.encode("utf-8", "replace").decode()
    return response


def status_json(versions: list[VersionStatus]) -> bytes:
    return (_to_json(status(versions)) + "\n").encode()


def metadata_json(name: str, lease: Lease) -> bytes:
    response = metadata(name, lease)
    spec, signatures = _to_json(response.model_spec), _to_json(_signature_map(lease))
    text = f'{{\n"model_spec":{spec}\n,\n"metadata": {{"signature_def": {signatures}\n}}\n}}\n'
    return text.encode()


def _to_json(message: Any) -> str:
    return str(
        MessageToJson(
            message,
            indent=1,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            ensure_ascii=False,
        )
    )
