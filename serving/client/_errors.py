"""What a call can raise. Every error names the server, the model, the status code and the next step."""

from __future__ import annotations

from nann.errors import NannError


class NannClientError(NannError):
    """A call to a server failed.

    Attributes:
      code: the gRPC status code's name, such as "NOT_FOUND"; None when the call itself succeeded.
      target: the server's address.
      model: the model asked for.
      details: the server's own message.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        target: str | None = None,
        model: str | None = None,
        details: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.target = target
        self.model = model
        self.details = details


class DeadlineExceededError(NannClientError, TimeoutError):
    """No answer came within the call's timeout."""


class UnavailableError(NannClientError, ConnectionError):
    """The server could not be reached, or is shutting down."""


class ModelNotFoundError(NannClientError, LookupError):
    """The server has no available version of the model that was asked for."""


class RequestRejectedError(NannClientError, ValueError):
    """The server or the model refused the inputs."""


class ResponseError(NannClientError):
    """The server answered with something that is not an answer to the request."""


class VersionMismatchError(NannClientError):
    """Shards answered with different versions of the model, and have none of them in common."""


_KINDS: dict[str, type[NannClientError]] = {
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNAVAILABLE": UnavailableError,
    "NOT_FOUND": ModelNotFoundError,
    "INVALID_ARGUMENT": RequestRejectedError,
    "FAILED_PRECONDITION": RequestRejectedError,
    "OUT_OF_RANGE": RequestRejectedError,
}
_NEXT_STEPS = {
    "DEADLINE_EXCEEDED": "raise `timeout`, or ask for narrower beams in `level_topn`",
    "UNAVAILABLE": "check that the server runs and that this is its gRPC port; `wait_ready` waits for it",
    "NOT_FOUND": "see `status()` for the versions the server has, and the server's log for why one failed",
    "INVALID_ARGUMENT": "compare the inputs with `metadata()`",
    "FAILED_PRECONDITION": "see `metadata()` for the signatures that the model has",
    "RESOURCE_EXHAUSTED": "ask for less at once, or raise `max_message_bytes`",
    "UNIMPLEMENTED": "this server does not know the method; check that it is a TensorFlow Serving gRPC port",
    "UNAUTHENTICATED": "pass `credentials` or a `channel` that has them",
    "PERMISSION_DENIED": "pass `credentials` or a `channel` that has them",
    "CANCELLED": "the call was cancelled, here or by the server's shutdown; ask again",
}


def from_status(code: str, details: str, *, action: str, target: str, model: str) -> NannClientError:
    """Return the error for a gRPC status; `action` says what was being asked, such as "Predict"."""
    kind = _KINDS.get(code, NannClientError)
    step = _NEXT_STEPS.get(code, "see the server's log")
    return kind(
        f"{action} of model {model!r} at {target} failed with {code}: {details or 'no details'} ({step})",
        code=code,
        target=target,
        model=model,
        details=details,
    )


def of_shard(error: NannClientError, shard: int, shards: int) -> NannClientError:
    """Return the same error, its message headed by the shard's number."""
    return type(error)(
        f"shard {shard} of {shards}: {error}",
        code=error.code,
        target=error.target,
        model=error.model,
        details=error.details,
    )
