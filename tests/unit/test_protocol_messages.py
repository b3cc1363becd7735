"""The protocol's messages: compiled from their definition, and TensorFlow's on the wire."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, wrappers_pb2
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    status_pb2,
)

FOLDER = Path(__file__).parents[2] / "serving" / "protocol"
COMPILED = (FOLDER / "messages.binpb").read_bytes()
(FILE,) = descriptor_pb2.FileDescriptorSet.FromString(COMPILED).file
REFERENCES = [
    any_pb2,
    wrappers_pb2,
    types_pb2,
    tensor_shape_pb2,
    tensor_pb2,
    meta_graph_pb2,
    model_pb2,
    predict_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    status_pb2,
]
# TensorFlow's type is an enumeration in a file of its own; both are the same bytes.
SAME_BYTES = {("StatusProto", "error_code")}


def _reference(name: str) -> Any:
    """TensorFlow's (or protobuf's) message or enumeration of this name, as its definition."""
    for module in REFERENCES:
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for found in (*file.message_type, *file.enum_type):
            if found.name == name:
                return found
    raise LookupError(name)


def _field(field: Any) -> tuple[Any, ...]:
    """What of a field decides the bytes, with the type's name without its package."""
    return (field.name, field.number, field.label, field.type, field.type_name.rpartition(".")[2])


def _assert_is_part_of(message: Any, reference: Any) -> None:
    theirs = {field.number: field for field in reference.field}
    for field in message.field:
        if (message.name, field.name) in SAME_BYTES:
            assert field.name == theirs[field.number].name
        else:
            assert _field(field) == _field(theirs[field.number])
    assert message.options.map_entry == reference.options.map_entry
    messages = {nested.name: nested for nested in reference.nested_type}
    for nested in message.nested_type:
        _assert_is_part_of(nested, messages[nested.name])
    enums = {nested.name: nested for nested in reference.enum_type}
    for nested in message.enum_type:
        _assert_has_the_values(nested, enums[nested.name])


def _assert_has_the_values(enum: Any, reference: Any) -> None:
    theirs = {value.name: value.number for value in reference.value}
    assert {value.name: value.number for value in enum.value}.items() <= theirs.items()


@pytest.mark.parametrize("message", FILE.message_type, ids=lambda message: message.name)
def test_messages_are_tensorflows_on_the_wire(message: Any) -> None:
    _assert_is_part_of(message, _reference(message.name))


@pytest.mark.parametrize("enum", FILE.enum_type, ids=lambda enum: enum.name)
def test_enumerations_are_tensorflows(enum: Any) -> None:
    _assert_has_the_values(enum, _reference(enum.name))


def test_the_compiled_messages_are_those_of_the_definition(tmp_path: Path) -> None:
    out = tmp_path / "messages.binpb"
    # In a process of its own: protoc and TensorFlow each bring protobuf's C++ code.
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--descriptor_set_out={out}"]
    subprocess.run([*command, str(FOLDER / "messages.proto")], check=True)
    assert out.read_bytes() == COMPILED, "run `make messages` and commit serving/protocol/messages.binpb"
