"""Status codes, and the one error type that travels from a model to a transport."""

from __future__ import annotations

from enum import IntEnum

import tensorflow as tf

from nann.errors import NannError


class Code(IntEnum):
    """The canonical status codes, with the numbers that gRPC and TensorFlow give them."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# The codes that TensorFlow's file system gives to these errors; all others are UNKNOWN.
_SYSTEM_CODES: dict[type[Exception], Code] = {
    FileNotFoundError: Code.NOT_FOUND,
    PermissionError: Code.PERMISSION_DENIED,
    NotADirectoryError: Code.FAILED_PRECONDITION,
    IsADirectoryError: Code.FAILED_PRECONDITION,
    MemoryError: Code.RESOURCE_EXHAUSTED,
}


class StatusError(NannError):
    """A request failed, or a version could not be loaded.

    `code` says what kind of failure it is, `message` says what happened. `str()` gives both:

    >>> from nann.serving.server import Code, StatusError
    >>> str(StatusError(Code.NOT_FOUND, "Servable not found for request: Latest(nann)"))
    'NOT_FOUND: Servable not found for request: Latest(nann)'
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid_argument(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> StatusError:
    return StatusError(Code.NOT_FOUND, message)


def as_status(error: BaseException) -> StatusError:
    """Return the status for any exception: TensorFlow's own code and text where it has them."""
    if isinstance(error, StatusError):
        return error
    if isinstance(error, tf.errors.OpError):
        return StatusError(Code(error.error_code), error.message)
    code = next((code for kind, code in _SYSTEM_CODES.items() if isinstance(error, kind)), Code.UNKNOWN)
    if isinstance(error, OSError) and error.filename is not None:
        return StatusError(code, f"{error.filename}; {error.strerror}")
    return StatusError(code, f"{type(error).__name__}: {error}")
