"""A SavedModel in a session of TensorFlow's C API.

TensorFlow's C++ loader loads it, as in TensorFlow Serving: no graph of Python objects is made, and errors
have the real server's code and text.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import config_pb2

from nann.serving.protocol import tensors
from nann.serving.server._status import Code, StatusError, not_found

_LIBRARY = "libtensorflow_cc.so.2"
_STRING = int(tf.string.as_datatype_enum)
_FLOAT = int(tf.float32.as_datatype_enum)

_Pointer = ctypes.c_void_p
_Size = ctypes.c_size_t


class _Output(ctypes.Structure):
    """`TF_Output`: an output of an operation."""

    _fields_ = (("operation", _Pointer), ("index", ctypes.c_int))


# Function -> (type of the result, types of the arguments); `tensorflow/c/c_api.h` says what each one means.
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "TF_NewStatus": (_Pointer, ()),
    "TF_DeleteStatus": (None, (_Pointer,)),
    "TF_GetCode": (ctypes.c_int, (_Pointer,)),
    "TF_Message": (ctypes.c_char_p, (_Pointer,)),
    "TF_NewBufferFromString": (_Pointer, (ctypes.c_char_p, _Size)),
    "TF_DeleteBuffer": (None, (_Pointer,)),
    "TF_NewGraph": (_Pointer, ()),
    "TF_DeleteGraph": (None, (_Pointer,)),
    "TF_GraphOperationByName": (_Pointer, (_Pointer, ctypes.c_char_p)),
    "TF_OperationNumOutputs": (ctypes.c_int, (_Pointer,)),
    "TF_OperationOpType": (ctypes.c_char_p, (_Pointer,)),
    "TF_NewSessionOptions": (_Pointer, ()),
    "TF_DeleteSessionOptions": (None, (_Pointer,)),
    "TF_SetConfig": (None, (_Pointer, ctypes.c_char_p, _Size, _Pointer)),
    "TF_LoadSessionFromSavedModel": (
        _Pointer,
        (_Pointer, _Pointer, ctypes.c_char_p, _Pointer, ctypes.c_int, _Pointer, _Pointer, _Pointer),
    ),
    "TF_CloseSession": (None, (_Pointer, _Pointer)),
    "TF_DeleteSession": (None, (_Pointer, _Pointer)),
    "TF_SessionRun": (
        None,
        (_Pointer, _Pointer)
        + (_Pointer, _Pointer, ctypes.c_int) * 2
        + (_Pointer, ctypes.c_int, _Pointer, _Pointer),
    ),
    "TF_AllocateTensor": (_Pointer, (ctypes.c_int, _Pointer, ctypes.c_int, _Size)),
    "TF_TensorFromProto": (None, (_Pointer, _Pointer, _Pointer)),
    "TF_DeleteTensor": (None, (_Pointer,)),
    "TF_TensorType": (ctypes.c_int, (_Pointer,)),
    "TF_NumDims": (ctypes.c_int, (_Pointer,)),
    "TF_Dim": (ctypes.c_int64, (_Pointer, ctypes.c_int)),
    "TF_TensorByteSize": (_Size, (_Pointer,)),
    "TF_TensorData": (_Pointer, (_Pointer,)),
    "TF_StringGetDataPointer": (_Pointer, (_Pointer,)),
    "TF_StringGetSize": (_Size, (_Pointer,)),
}
# sizeof(TF_TString), and of a float.
_STRING_BYTES, _FLOAT_BYTES = 24, 4


@cache
def _library() -> ctypes.CDLL:
    """Return TensorFlow's library, which `import tensorflow` loaded."""
    library = ctypes.CDLL(str(Path(tf.__file__).parent / _LIBRARY))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def function_address(name: str) -> int:
    """Return the address of a function of the C API.

    >>> function_address("TF_SessionRun") > 0
    True
    """
    return address_of(_library(), name)


def address_of(library: ctypes.CDLL, name: str) -> int:
    """Return the address of a function of a library."""
    address = ctypes.cast(getattr(library, name), _Pointer).value
    assert address is not None
    return address


class CSession:
    """The session, its graph, and the handles of its tensors.

    Threads: `run` and `output` may be called from many threads. `close` may be called once, after all runs
    ended.
    """

    def __init__(self, path: Path, tags: Sequence[str], config: Any) -> None:
        """Load the meta graph with `tags` of the SavedModel in `path`; `config` is a `ConfigProto`.

        Raises:
          StatusError: TensorFlow cannot load it.
        """
        self._outputs: dict[str, _Output] = {}
        library = _library()
        with ExitStack() as stack:
            options = library.TF_NewSessionOptions()
            stack.callback(library.TF_DeleteSessionOptions, options)
            serialized = config.SerializeToString()
            with _checked() as status:
                library.TF_SetConfig(options, serialized, len(serialized), status)
            names = (ctypes.c_char_p * len(tags))(*(tag.encode() for tag in tags))
            self.graph = library.TF_NewGraph()
            with ExitStack() as unless_loaded:
                unless_loaded.callback(library.TF_DeleteGraph, self.graph)
                with _checked() as status:
                    self.session = library.TF_LoadSessionFromSavedModel(
                        options, None, bytes(path), names, len(tags), self.graph, None, status
                    )
                unless_loaded.pop_all()

    def run(
        self, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str], *, timeout_ms: int | None
    ) -> list[NDArray[Any]]:
        """Return the values of the tensors named in `fetches`, given those of the tensors in `feeds`.

        A feed may be a `TensorProto`, for element types that NumPy lacks.

        Raises:
          StatusError: the run failed, with TensorFlow's code and text; DEADLINE_EXCEEDED after `timeout_ms`.
        """
        library = _library()
        with ExitStack() as stack:
            options = None
            if timeout_ms is not None:
                serialized = config_pb2.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
                options = library.TF_NewBufferFromString(serialized, len(serialized))
                stack.callback(library.TF_DeleteBuffer, options)
            inputs = (_Output * len(feeds))(*map(self.output, feeds))
            values = (_Pointer * len(feeds))()
            for index, array in enumerate(feeds.values()):
                values[index] = _tensor(array)
                stack.callback(library.TF_DeleteTensor, values[index])
            outputs = (_Output * len(fetches))(*map(self.output, fetches))
            results = (_Pointer * len(fetches))()
            with _checked() as status:
                library.TF_SessionRun(
                    *(self.session, options),
                    *(inputs, values, len(feeds), outputs, results, len(fetches)),
                    *(None, 0, None, status),
                )
            for result in results:
                stack.callback(library.TF_DeleteTensor, result)
            return [_array(result) for result in results]

    def output(self, name: str) -> _Output:
        """Return the handle of a tensor. Handles are cached, since a loaded graph never changes.

        Raises:
          StatusError: the graph has no such tensor.
        """
        found = self._outputs.get(name)
        if found is None:
            found = self._outputs[name] = self._find(name)
        return found

    def _find(self, name: str) -> _Output:
        library = _library()
        node, _, index = name.partition(":")
        operation = library.TF_GraphOperationByName(self.graph, node.encode())
        if not operation:
            raise not_found(f"Tensor {name}, specified in a signature, is not in the graph")
        count = library.TF_OperationNumOutputs(operation)
        if int(index or 0) >= count:
            kind = library.TF_OperationOpType(operation).decode()
            raise StatusError(
                Code.OUT_OF_RANGE,
                f"Node '{node}' (type: '{kind}', num of outputs: {count}) "
                f"does not have output {int(index or 0)}",
            )
        return _Output(operation, int(index or 0))

    def close(self) -> None:
        """Release the session and everything it holds: variables, index resources, mapped files."""
        library = _library()
        # Neither can fail for a session of this process.
        status = library.TF_NewStatus()
        library.TF_CloseSession(self.session, status)
        library.TF_DeleteSession(self.session, status)
        library.TF_DeleteStatus(status)
        library.TF_DeleteGraph(self.graph)


@contextmanager
def _checked() -> Iterator[Any]:
    """Yield a `TF_Status` for one call.

    Raises:
      StatusError: the call left an error in it.
    """
    library = _library()
    status = library.TF_NewStatus()
    try:
        yield status
        code = library.TF_GetCode(status)
        if code:
            raise StatusError(Code(code), library.TF_Message(status).decode("utf-8", "surrogateescape"))
    finally:
        library.TF_DeleteStatus(status)


def can_read(proto: Any) -> bool:
    """Return whether TensorFlow can read a `TensorProto`."""
    try:
        tensor = _from_proto(proto)
    except StatusError:
        return False
    _library().TF_DeleteTensor(tensor)
    return True


def _tensor(array: NDArray[Any]) -> int:
    """Return a new `TF_Tensor` with a copy of the values of an array, or of a `TensorProto`."""
    library = _library()
    if isinstance(array, tensor_pb2.TensorProto):
        return _from_proto(array)
    if array.dtype.kind in "OSU":
        return _string_tensor(array)
    values = np.ascontiguousarray(array)
    kind = int(tf.as_dtype(array.dtype).as_datatype_enum)
    dims = (ctypes.c_int64 * array.ndim)(*array.shape)
    tensor = library.TF_AllocateTensor(kind, dims, array.ndim, values.nbytes)
    data = library.TF_TensorData(tensor)
    if data is None and values.nbytes:  # TensorFlow's allocator has no memory.
        library.TF_DeleteTensor(tensor)
        raise MemoryError(f"no memory for a tensor of {values.nbytes} bytes: send fewer rows at once")
    ctypes.memmove(data, values.ctypes.data, values.nbytes)
    return int(tensor)


def _string_tensor(array: NDArray[Any]) -> int:
    """Return a new `TF_Tensor`; TensorFlow itself makes the strings, and so frees them with the tensor."""
    proto = tensor_pb2.TensorProto()
    tensors.encode(array, proto)
    return _from_proto(proto)


def _from_proto(proto: Any) -> int:
    """Return a new `TF_Tensor`.

    Raises:
      StatusError: TensorFlow cannot read the message.
    """
    library = _library()
    serialized = proto.SerializeToString()
    buffer = library.TF_NewBufferFromString(serialized, len(serialized))
    # Of a type without objects: where TensorFlow reads nothing into it, it is freed as it is.
    tensor = library.TF_AllocateTensor(_FLOAT, None, 0, _FLOAT_BYTES)
    try:
        with _checked() as status:
            library.TF_TensorFromProto(buffer, tensor, status)
    except StatusError:
        library.TF_DeleteTensor(tensor)
        raise
    finally:
        library.TF_DeleteBuffer(buffer)
    return int(tensor)


def _array(tensor: int | None) -> NDArray[Any]:
    """Return a copy of a `TF_Tensor`'s values; strings become an object array of `bytes`."""
    library = _library()
    shape = tuple(library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor)))
    kind = library.TF_TensorType(tensor)
    size = library.TF_TensorByteSize(tensor)
    data = library.TF_TensorData(tensor)
    if kind != _STRING:
        content = ctypes.string_at(data, size) if size else b""
        return np.frombuffer(content, tf.as_dtype(kind).as_numpy_dtype).reshape(shape)
    strings = np.empty(shape, object)
    for index in range(strings.size):
        at = data + index * _STRING_BYTES
        strings.flat[index] = ctypes.string_at(
            library.TF_StringGetDataPointer(at), library.TF_StringGetSize(at)
        )
    return strings
