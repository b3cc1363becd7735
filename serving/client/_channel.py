"""The gRPC channels that the clients open."""

from __future__ import annotations

import ipaddress
import json
import os
from typing import Any

import grpc

from nann.errors import InvalidInputError

# Room for 1,000 users with a state of float32 [50, 200] each, 40 MB. gRPC alone allows 4 MiB.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# gRPC itself allows at most five attempts.
_MAX_RETRIES = 4
# gRPC alone waits up to two minutes before it tries again to connect to a server that was away.
_MAX_RECONNECT_MILLISECONDS = 2_000
# How long an answer to a ping may take. A server that cannot send one within so long has gone.
_KEEPALIVE_ANSWER_MILLISECONDS = 10_000
# A failed attempt takes a token and a success gives a tenth of one back. With half of the tokens or fewer
# nothing is sent again: retries must not multiply the load of servers that are down.
_RETRY_BUDGET = {"maxTokens": 20, "tokenRatio": 0.1}


def check_credentials(channel: object, credentials: grpc.ChannelCredentials | None) -> None:
    """Raise InvalidInputError when the caller gives both a channel and credentials for one."""
    if channel is not None and credentials is not None:
        raise InvalidInputError("give `credentials` or a `channel` that has them, not both")


def open_channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None,
    retries: int,
    max_message_bytes: int,
    round_robin: bool = False,
    keepalive_seconds: float | None = None,
    api: Any = grpc,
) -> Any:
    """Return a channel that sends a call again while the server cannot be reached.

    It does so up to `retries` times, within the deadline of the call. A search changes nothing on the server,
    so sending it twice is safe.

    With `round_robin`, requests to a name with several addresses go to all of them in turn, otherwise to the
    first that can be reached. `api` is `grpc` or, for a channel of an asyncio program, `grpc.aio`.

    Raises:
      InvalidInputError: a value is out of range, or the target is empty.
    """
    if not target:
        raise InvalidInputError(f"target: expected an address such as localhost:8500, got {target!r}")
    options = channel_options(
        target,
        retries=retries,
        max_message_bytes=max_message_bytes,
        round_robin=round_robin,
        keepalive_seconds=keepalive_seconds,
    )
    if credentials is None:
        return api.insecure_channel(target, options=options)
    return api.secure_channel(target, credentials, options=options)


def channel_options(
    target: str,
    *,
    retries: int,
    max_message_bytes: int,
    round_robin: bool = False,
    keepalive_seconds: float | None = None,
) -> list[tuple[str, int | str]]:
    """Return gRPC's options for such a channel.

    Raises:
      InvalidInputError: a value is out of range.
    """
    if not 0 <= retries <= _MAX_RETRIES:
        raise InvalidInputError(f"retries: expected 0 to {_MAX_RETRIES}, got {retries}")
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MILLISECONDS),
    ]
    if is_loopback(target):
        # A proxy cannot reach the caller's own machine, whatever `http_proxy` says.
        options.append(("grpc.enable_http_proxy", 0))
    config: dict[str, Any] = {}
    if retries:
        config["methodConfig"] = [_retries(retries + 1)]
        config["retryThrottling"] = _RETRY_BUDGET
    if round_robin:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    options.append(("grpc.service_config", json.dumps(config)))
    return [*options, *_keepalive(keepalive_seconds)]


def _keepalive(seconds: float | None) -> list[tuple[str, int | str]]:
    if seconds is None:
        return []
    if not seconds > 0:
        raise InvalidInputError(f"keepalive_seconds: expected more than 0, or None, got {seconds}")
    milliseconds = max(round(seconds * 1000), 1)
    return [
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_ANSWER_MILLISECONDS),
        # A connection without calls is what a firewall forgets.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def is_loopback(target: str) -> bool:
    """Return whether a target is on the caller's own machine.

    >>> [is_loopback(target) for target in ("localhost:8500", "[::1]:8500", "nann:8500")]
    [True, True, False]
    """
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    if host == "localhost" or target.startswith("unix:"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_variable(target: str) -> str | None:
    """Return the environment variable that sends calls of this target to a proxy, None if there is none.

    The order of the variables is gRPC's.
    """
    if is_loopback(target):
        return None
    found = (name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name))
    return next(found, None)


def _retries(attempts: int) -> dict[str, Any]:
    # The first wait is short, so that the second attempt fits into the deadline of a request.
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.02s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    services = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
    return {"name": [{"service": service} for service in services], "retryPolicy": policy}
