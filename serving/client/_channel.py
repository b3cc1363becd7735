"""How the client's own gRPC channel is set up."""

from __future__ import annotations

import json
from typing import Any

import grpc

from nann.errors import InvalidInputError

# gRPC itself allows at most five attempts.
_MAX_RETRIES = 4
# gRPC by itself waits up to two minutes before it looks again for a server that is away.
_MAX_RECONNECT_MILLISECONDS = 2_000


def open_channel(
    target: str,
    *,
    credentials: grpc.ChannelCredentials | None,
    retries: int,
    max_message_bytes: int,
    round_robin: bool = False,
) -> grpc.Channel:
    """Return a channel that tries again, up to `retries` times and within the call's deadline, while the
    server cannot be reached. Searches change nothing on the server, so asking twice is safe.

    With `round_robin` the requests to a name that has several addresses go to all of them in turn,
    otherwise to the first that can be reached.
    """
    if not 0 <= retries <= _MAX_RETRIES:
        raise InvalidInputError(f"retries: expected 0 to {_MAX_RETRIES}, got {retries}")
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_MILLISECONDS),
    ]
    config: dict[str, Any] = {}
    if retries:
        config["methodConfig"] = [_retries(retries + 1)]
    if round_robin:
        config["loadBalancingConfig"] = [{"round_robin": {}}]
    options.append(("grpc.service_config", json.dumps(config)))
    if credentials is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, credentials, options=options)


def _retries(attempts: int) -> dict[str, Any]:
    policy = {
        "maxAttempts": attempts,
        "initialBackoff": "0.02s",
        "maxBackoff": "1s",
        "backoffMultiplier": 3,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    services = ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
    return {"name": [{"service": service} for service in services], "retryPolicy": policy}
