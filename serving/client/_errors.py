"""The exceptions that a call can raise. Each message names server, model, status code and next step."""

from __future__ import annotations

from nann.errors import NannError
from nann.serving.client._channel import proxy_variable

_BEAM_COUNT = "level_topn: expected "
# Where callers see what a model takes: those in Python, and those of `nann query`.
SIGNATURES_BY = "`NannClient.metadata`, or /v1/models/MODEL/metadata over REST, lists them"


class NannClientError(NannError):
    """A call to a server failed. The other exceptions of this package are kinds of it.

    Attributes:
      code: name of the gRPC status code, such as "NOT_FOUND"; None when the call itself succeeded.
      target: address of the server.
      model: name of the model.
      details: the server's own message.

    Example:
      >>> try:
      ...     client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], signature="no_such_signature")
      ... except NannClientError as error:
      ...     print(error.code, error.details)
      FAILED_PRECONDITION Serving signature key "no_such_signature" not found.
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
    """No answer came within the timeout of the call.

    Example:
      >>> try:
      ...     NannClient("localhost:1").wait_ready(timeout=0.1)
      ... except DeadlineExceededError as error:
      ...     print(error.code)
      DEADLINE_EXCEEDED
    """


class UnavailableError(NannClientError, ConnectionError):
    """The server cannot be reached, or is shutting down.

    Example:
      >>> try:
      ...     NannClient("localhost:1", retries=0).status()
      ... except UnavailableError as error:
      ...     print(error.code, error.target)
      UNAVAILABLE localhost:1
    """


class ModelNotFoundError(NannClientError, LookupError):
    """The server has no available version of the model, or not the version that the call asked for.

    Example:
      >>> try:
      ...     client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], version=99)
      ... except ModelNotFoundError as error:
      ...     print(error.details)
      Servable not found for request: Specific(nann, 99)
    """


class RequestRejectedError(NannClientError, ValueError):
    """The server or the model refused the inputs.

    Example:
      >>> try:
      ...     client.top_k(comm_seq, level_topn=[20, 10])
      ... except RequestRejectedError as error:
      ...     print(error.code, error.expected_beams)
      INVALID_ARGUMENT 6
    """

    @property
    def expected_beams(self) -> int | None:
        """How many values the model's `level_topn` has, when the request had another number; otherwise None.

        Example:
          >>> try:
          ...     client.top_k(comm_seq, level_topn=[20, 10])
          ... except RequestRejectedError as error:
          ...     print(f"send {error.expected_beams} beams")
          send 6 beams
        """
        # The server's message is "level_topn: expected 6 values a row (...), found 2".
        count, separator, _ = self.details.removeprefix(_BEAM_COUNT).partition(" values a row")
        return int(count) if separator and count.isdecimal() else None


class ResponseError(NannClientError):
    """The server's answer is malformed, or is not what the signature promises.

    Example:
      >>> try:
      ...     ShardedClient([target, target]).top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      ... except ResponseError as error:
      ...     print("the same shard twice:", error)
      the same shard twice: expected shards with disjoint items, found item ...
    """


class VersionMismatchError(NannClientError):
    """The shards answered with different versions of the model, and have no version in common.

    Example:
      >>> with ShardedClient(shards) as sharded:
      ...     try:
      ...         ids, scores = sharded.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10])
      ...     except VersionMismatchError:
      ...         print("a new version is being published to the shards; ask again later")
    """


class StaleReplicaError(NannClientError):
    """The server has not applied the segment that the call asked for.

    Example:
      >>> try:
      ...     client.top_k(comm_seq, level_topn=[20, 30, 30, 30, 30, 10], min_segment=17, timeout=1)
      ... except StaleReplicaError:
      ...     print("the server is behind: is the segment in its folder?")
      ... except ResponseError:
      ...     print("the export takes no segments")
      the export takes no segments
    """


_KINDS: dict[str, type[NannClientError]] = {
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "UNAVAILABLE": UnavailableError,
    "NOT_FOUND": ModelNotFoundError,
    "INVALID_ARGUMENT": RequestRejectedError,
    "FAILED_PRECONDITION": RequestRejectedError,
    "OUT_OF_RANGE": RequestRejectedError,
}
NO_ANSWER = "the server did not answer"
# (code, beginning of the server's message, next step). The first line that fits counts; an empty beginning
# fits every message. Where a code has several causes, only the message tells them apart.
NEXT_STEPS = (
    ("DEADLINE_EXCEEDED", NO_ANSWER, "is the server running? Check the address, or raise the timeout"),
    ("DEADLINE_EXCEEDED", "", "raise the timeout, or ask for narrower beams in level_topn"),
    (
        "UNAVAILABLE",
        "",
        "check that the server runs, that this is its gRPC port, and that `credentials` are what it asks "
        "for, none without TLS; `NannClient.wait_ready` waits for it",
    ),
    (
        "NOT_FOUND",
        "Op type not registered",
        "the server runs without NANN's op library; start it with the library preloaded or compiled in",
    ),
    (
        "NOT_FOUND",
        "",
        "check the names of model and version: `NannClient.status`, or /v1/models/MODEL over REST, lists the "
        "versions of a model, and the server's log says why one failed",
    ),
    (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label",
        "see the version labels in the server's model config file",
    ),
    ("INVALID_ARGUMENT", "Task size ", "the server batches requests up to a limit: send fewer users at once"),
    ("INVALID_ARGUMENT", _BEAM_COUNT, "the export's nann_manifest.json has beams that fit its index"),
    ("INVALID_ARGUMENT", "", f"compare the inputs with the model's signatures: {SIGNATURES_BY}"),
    ("FAILED_PRECONDITION", "", f"the model has other signatures: {SIGNATURES_BY}"),
    (
        "RESOURCE_EXHAUSTED",
        "Server Threadpool Exhausted",
        "the server has no free thread: send fewer requests at the same time, or start it with a larger "
        "--grpc_max_threads",
    ),
    (
        "RESOURCE_EXHAUSTED",
        "Concurrent RPC limit exceeded",
        "more requests wait than the server takes: send fewer at the same time, or start more servers",
    ),
    (
        "RESOURCE_EXHAUSTED",
        "SERVER: Received message larger than max",
        "the request is larger than the server accepts: send fewer users at once",
    ),
    ("RESOURCE_EXHAUSTED", "", "send fewer users at once, or raise `max_message_bytes`"),
    (
        "UNIMPLEMENTED",
        "",
        "this server does not know the method; check that it is a TensorFlow Serving gRPC port",
    ),
    ("UNAUTHENTICATED", "", "pass `credentials` or a `channel` that has them"),
    ("PERMISSION_DENIED", "", "pass `credentials` or a `channel` that has them"),
    ("CANCELLED", "", "the call was cancelled, here or by the server's shutdown; ask again"),
)

# (part of what gRPC says when no connection comes about, next step), for UNAVAILABLE.
_TLS_STEPS = (
    ("certificate has expired", "the server's certificate has expired: the server needs a new one"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "no authority in `credentials` signed the server's certificate: pass the one that did as "
        "`root_certificates` of grpc.ssl_channel_credentials",
    ),
    (
        "Hostname Verification Check failed",
        "the server's certificate is for another host name: ask the server by a name that is in it",
    ),
    ("WRONG_VERSION_NUMBER", "the server answers without TLS: check the port, or pass no `credentials`"),
    ("missing selected ALPN", "this port has TLS and no gRPC, such as that of REST: check the port"),
)


def from_status(code: str, details: str, *, action: str, target: str, model: str) -> NannClientError:
    """Return the error for a gRPC status. `action` names the call, such as "Predict"."""
    fitting = (step for row, beginning, step in NEXT_STEPS if row == code and details.startswith(beginning))
    of_tls = (step for part, step in _TLS_STEPS if code == "UNAVAILABLE" and part in details)
    step = next(of_tls, None) or next(fitting, "see the server's log")
    variable = proxy_variable(target) if _is_unreachable(code, details) else None
    if variable is not None:
        step += f"; calls go through the proxy in ${variable}, so add the server's host to $no_proxy"
    kind = _KINDS.get(code, NannClientError)
    return kind(
        f"{action} of model {model!r} at {target} failed with {code}: {details or 'no details'} ({step})",
        code=code,
        target=target,
        model=model,
        details=details,
    )


def _is_unreachable(code: str, details: str) -> bool:
    """Return whether an error says that the server could not be reached."""
    return code == "UNAVAILABLE" or (code == "DEADLINE_EXCEEDED" and details.startswith(NO_ANSWER))


def of_shard(error: NannClientError, shard: int, shards: int) -> NannClientError:
    """Return the same error with a message that begins with the shard's number."""
    return type(error)(
        f"shard {shard} of {shards}: {error}",
        code=error.code,
        target=error.target,
        model=error.model,
        details=error.details,
    )
