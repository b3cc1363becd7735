"""Message classes that are wire-compatible with TensorFlow Serving's, built without TensorFlow.

`messages.proto` defines the messages and `make messages` compiles it to `messages.binpb`. The classes live in
a descriptor pool of their own. `tensorflow` and `tensorflow_serving.apis` register theirs in the default
pool, so both can be imported in one process, in any order.

protoc's Python output is not used because it ties a package to few versions of protobuf: it does not load
with a protobuf older than protoc, and it warns with the next major version. The compiled descriptors have no
such limit.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_COMPILED = Path(__file__).with_suffix(".binpb")

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes()).file:
    _pool.AddSerializedFile(_file.SerializeToString())


# The classes exist only at run time, so type checkers see them as Any.
def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"nann.protocol.{name}"))


def _enum(name: str) -> Any:
    values = _pool.FindEnumTypeByName(f"nann.protocol.{name}").values
    members = {value.name.removeprefix("DT_"): value.number for value in values}
    return IntEnum(name, members)


DataType = _enum("DataType")
VersionState = _enum("ModelVersionStatus.State")
TensorProto = _message("TensorProto")
PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
GetModelStatusRequest = _message("GetModelStatusRequest")
GetModelStatusResponse = _message("GetModelStatusResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureDefMap = _message("SignatureDefMap")
