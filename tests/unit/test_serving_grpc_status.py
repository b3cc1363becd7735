"""The messages of gRPC statuses."""

from __future__ import annotations

import pytest

from nann.serving.server._grpc import truncated


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024 + "...TRUNCATED"),
        ("\u00e9" * 512, "\u00e9" * 512),
        ("\u00e9" * 513, "\u00e9" * 512 + "...TRUNCATED"),
        ("x" + "\u00e9" * 512, "x" + "\u00e9" * 511 + "\ufffd...TRUNCATED"),
        ("\udcff", "\ufffd"),
    ],
)
def test_messages_are_cut_to_1024_bytes(message: str, expected: str) -> None:
    assert truncated(message) == expected
