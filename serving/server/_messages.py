"""Message classes that no installed package has: gRPC's health and reflection, and configuration files.

`protos/*.proto` defines them and `make messages` compiles these to `protos/services.binpb`. They live in a
pool of their own, so that packages which define the same messages can be imported too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from nann.errors import InvalidFileError

_COMPILED = Path(__file__).with_name("protos") / "services.binpb"

pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(_COMPILED.read_bytes()).file:
    pool.AddSerializedFile(_file.SerializeToString())


def message(name: str) -> Any:
    """Return the class of a message, by its full name."""
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


SSLConfig = message("nann.serving.server.SSLConfig")
MonitoringConfig = message("nann.serving.server.MonitoringConfig")
BatchingParameters = message("nann.serving.server.BatchingParameters")


def read_text_message(path: Path, empty: Any) -> Any:
    """Fill an empty message from a file in the text format of protocol buffers, and return it.

    Raises:
      InvalidFileError: the file cannot be read, or is no text of that message.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), empty)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise InvalidFileError(f"{path}: expected a text {empty.DESCRIPTOR.name}: {error}") from error
