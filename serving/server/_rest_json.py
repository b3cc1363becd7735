"""The bodies of REST predict requests and answers.

In row format, "instances" lists the rows and each row has a value of every input. In column format,
"inputs" has every input with the values of all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nann.serving.server._json_parser import members, parse_json
from nann.serving.server._json_tensors import TooManyDimensionsError, is_base64, to_array, write_values
from nann.serving.server._json_writer import PrettyWriter, dump
from nann.serving.server._predict import DEFAULT_SIGNATURE
from nann.serving.server._status import StatusError, invalid_argument


class Format(Enum):
    """The format of a request and of its answer."""

    ROW = "instances"
    COLUMN = "inputs"


class _NoTensorError(Exception):
    """The values of the named input have no mistake in themselves, and yet are no tensor."""


@dataclass(frozen=True)
class PredictBody:
    """A parsed request: the signature that it asks for, and the arrays of the inputs by name."""

    signature: Any
    format: Format
    inputs: dict[str, NDArray[Any]]


def parse_predict(body: bytes, signature_of: Callable[[str], Any]) -> PredictBody:
    """Parse the body of a predict request.

    `signature_of` returns the signature of a name, None if the model has none. It is called once, after the
    body was parsed.

    Raises:
      StatusError: the body is not JSON, or its values do not fit the signature.
      Exception: whatever `signature_of` raises.
    """
    document = parse_json(body)
    if not isinstance(document, dict):
        raise invalid_argument(f"JSON Value: {dump(document)} Is not object")
    given_name = signature_name(document)
    name = given_name or DEFAULT_SIGNATURE
    signature = signature_of(name)
    if signature is None:
        raise invalid_argument(f'Serving signature name: "{name}" not found in signature def')
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {given_name or 'DEFAULT'}")
    dtypes = {alias: tf.as_dtype(info.dtype) for alias, info in signature.inputs.items()}
    body_format = _format(document)
    try:
        if body_format is Format.ROW:
            inputs = _from_rows(_rows(document), dtypes)
        else:
            inputs = _from_columns(document[Format.COLUMN.value], dtypes)
    except _NoTensorError as error:
        raise invalid_argument(f"tensor parsing error: {error}") from error
    return PredictBody(signature, body_format, inputs)


def signature_name(document: dict[str, Any]) -> str:
    """Return the signature that a body asks for, empty if it names none.

    Raises:
      StatusError: the name is not a string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid_argument(
            f"JSON Value: {dump(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def _format(document: dict[str, Any]) -> Format:
    present = [body_format for body_format in Format if body_format.value in document]
    if len(present) == 2:
        raise invalid_argument(
            f"JSON Value: {dump(document)} Not formatted correctly expecting only one of 'inputs' or "
            "'instances' keys to exist "
        )
    if not present:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    return present[0]


def _rows(document: dict[str, Any]) -> list[Any]:
    rows = document[Format.ROW.value]
    if not isinstance(rows, list):
        raise invalid_argument(f"JSON Value: {dump(document)} Expecting 'instances' to be an list/array")
    if not rows:
        raise invalid_argument(f"JSON Value: {dump(document)} No values in 'instances' array")
    return rows


def _is_named(row: Any) -> bool:
    return isinstance(row, dict) and not is_base64(row)


def _from_rows(rows: list[Any], dtypes: Mapping[str, tf.DType]) -> dict[str, NDArray[Any]]:
    if not isinstance(rows[0], dict) and len(dtypes) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as "
            "per tensorinfo_map"
        )
    if _is_named(rows[0]):
        return _from_named_rows(rows, dtypes)
    name, dtype = next(iter(dtypes.items()))
    items = _Stack(len(rows))
    for index, row in enumerate(rows):
        if _is_named(row):
            raise invalid_argument(f"Expecting value/list but got object at item {index} of input list")
        try:
            items.add(name, row, dtype)
        except StatusError as error:
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. Error: {error}"
            ) from error
    return items.arrays()


def member_name(key: str) -> str:
    """Return the name that TensorFlow Serving reads in a key of a JSON object: a zero byte ends it."""
    return key.partition("\0")[0]


def _from_named_rows(rows: list[Any], dtypes: Mapping[str, tf.DType]) -> dict[str, NDArray[Any]]:
    items = _Stack(len(rows))
    for index, row in enumerate(rows):
        if not _is_named(row):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        names = set()
        for key, value in members(row):
            name = member_name(key)
            names.add(name)
            try:
                if name not in dtypes:
                    raise invalid_argument(f"JSON object: does not have named input: {name}")
                items.add(name, value, dtypes[name])
            except StatusError as error:
                raise invalid_argument(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: {error}"
                ) from error
        if names != dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: {dump(row)} "
                f"keys must be equal to: {','.join(sorted(dtypes))}"
            )
    return items.arrays()


class _Stack:
    """Collects the arrays of the rows by input name. All rows of an input must have the same shape.

    A row may have an input more than once. As in TensorFlow Serving, its values move those of later rows on,
    and what is left at the end is ignored.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._arrays: dict[str, list[NDArray[Any]]] = {}

    def add(self, name: str, value: Any, dtype: tf.DType) -> None:
        array = _to_array(value, name, dtype, outer_dimensions=1)
        arrays = self._arrays.setdefault(name, [])
        if arrays and array.size != arrays[0].size:
            raise invalid_argument(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
        if arrays and array.shape != arrays[0].shape:
            raise invalid_argument(f"Expecting shape {_shape_text(arrays[0])} but got: {_shape_text(array)}")
        arrays.append(array)

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {name: np.stack(arrays[: self._rows]) for name, arrays in self._arrays.items()}


def _to_array(value: Any, name: str, dtype: tf.DType, *, outer_dimensions: int = 0) -> NDArray[Any]:
    try:
        return to_array(value, dtype, outer_dimensions=outer_dimensions)
    except TooManyDimensionsError as error:
        raise _NoTensorError(name) from error


def _shape_text(array: NDArray[Any]) -> str:
    return f"[{','.join(map(str, array.shape))}]"


def _from_columns(value: Any, dtypes: Mapping[str, tf.DType]) -> dict[str, NDArray[Any]]:
    if not _is_named(value):
        if len(dtypes) > 1:
            raise invalid_argument(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as "
                "per tensorinfo_map"
            )
        return {name: _to_array(value, name, dtype) for name, dtype in dtypes.items()}
    arrays = {}
    for name, dtype in sorted(dtypes.items(), key=lambda item: item[0]):
        if name not in value:
            raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _to_array(value[name], name, dtype)
    return arrays


def format_predict(outputs: Mapping[str, NDArray[Any]], body_format: Format) -> bytes:
    """Return the body of the answer with these outputs.

    Raises:
      StatusError: there are no outputs, one has a type that cannot be written as JSON, or, in row format, the
        outputs have different numbers of rows.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    write = _write_rows if body_format is Format.ROW else _write_columns
    return write(outputs).encode("utf-8", "surrogateescape")


def _write_rows(outputs: Mapping[str, NDArray[Any]]) -> str:
    batch: int | None = None
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch is not None and len(array) != batch:
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {batch}"
            )
        batch = len(array)
    writer = PrettyWriter()
    writer.start_object()
    writer.key("predictions")
    writer.start_array()
    for row in range(batch or 0):
        if len(outputs) > 1:
            writer.start_object()
        writer.single_line_arrays = True
        for name, array in outputs.items():
            if len(outputs) > 1:
                writer.key(name)
            write_values(writer, name, np.asarray(array[row], array.dtype))
        writer.single_line_arrays = False
        if len(outputs) > 1:
            writer.end()
    writer.end()
    writer.end()
    return writer.text()


def _write_columns(outputs: Mapping[str, NDArray[Any]]) -> str:
    writer = PrettyWriter()
    writer.start_object()
    writer.key("outputs")
    if len(outputs) > 1:
        writer.start_object()
    for name, array in outputs.items():
        if len(outputs) > 1:
            writer.key(name)
        write_values(writer, name, array)
    if len(outputs) > 1:
        writer.end()
    writer.end()
    return writer.text()
