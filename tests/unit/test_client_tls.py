"""Connections with TLS that do not come about: the client says which side has to change what."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from nann.serving.client import NannClient, UnavailableError

_TLS = Path(__file__).parents[1] / "data" / "tls"


@contextmanager
def _grpc_server(host: str, certificate: str | None) -> Iterator[str]:
    """A server with TLS, or without where there is no certificate."""
    server = grpc.server(ThreadPoolExecutor(1))
    if certificate is None:
        port = server.add_insecure_port(f"{host}:0")
    else:
        pair = ((_TLS / "server.key").read_bytes(), (_TLS / certificate).read_bytes())
        port = server.add_secure_port(f"{host}:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield f"{host}:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def _https_server() -> Iterator[str]:
    """A port with TLS that speaks no HTTP/2. It takes one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_TLS / "server.pem", _TLS / "server.key")
    with socket.create_server(("localhost", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"localhost:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("host", "certificate", "authority", "step"),
    [
        ("localhost", "server.pem", "client.pem", "no authority in `credentials` signed"),
        ("localhost", "expired.pem", "expired.pem", "the server's certificate has expired"),
        ("127.0.0.2", "server.pem", "ca.pem", "the server's certificate is for another host name"),
        ("localhost", None, "ca.pem", "the server answers without TLS"),
        ("localhost", "server.pem", None, "none without TLS"),
    ],
)
def test_the_next_step_is_that_of_the_cause(
    host: str, certificate: str | None, authority: str | None, step: str
) -> None:
    with _grpc_server(host, certificate) as target:
        assert step in _failure(target, authority)


def test_a_port_without_grpc() -> None:
    with _https_server() as target:
        assert "this port has TLS and no gRPC" in _failure(target, "ca.pem")


def _failure(target: str, authority: str | None) -> str:
    """The text of the error of a client that trusts this authority, or that has no TLS."""
    credentials = None if authority is None else grpc.ssl_channel_credentials((_TLS / authority).read_bytes())
    with (
        NannClient(target, credentials=credentials, retries=0) as client,
        pytest.raises(UnavailableError) as error,
    ):
        client.metadata()
    return str(error.value)
