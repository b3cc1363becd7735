"""TLS for both ports, from TensorFlow Serving's ssl config file."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from nann.errors import InvalidFileError
from nann.serving.server._messages import SSLConfig, read_text_message


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """The server's key and certificate as PEM text, and whose certificates callers must have.

    client_ca: certificates that sign the callers'; empty for the system's.
    client_verify: refuse callers without a certificate (mutual TLS).

    >>> from nann.serving.server import TlsConfig
    >>> TlsConfig(server_key="-----BEGIN ...", server_cert="-----BEGIN ...").client_verify
    False
    """

    server_key: str
    server_cert: str
    client_ca: str = ""
    client_verify: bool = False

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """Return the credentials for gRPC in Python.

        Raises:
          InvalidFileError: as `client_roots`.
        """
        return grpc.ssl_server_credentials(
            [(self.server_key.encode(), self.server_cert.encode())],
            root_certificates=self.client_roots().encode() or None,
            require_client_auth=self.client_verify,
        )

    def client_roots(self) -> str:
        """Return the certificates that sign the callers', PEM text; empty where callers need none.

        Raises:
          InvalidFileError: callers need one, no certificates were given, and the system has none.
        """
        if self.client_ca or not self.client_verify:
            return self.client_ca
        paths = ssl.get_default_verify_paths()
        # Debian's OpenSSL names the folder only, in which all certificates are one file as well.
        for path in (paths.cafile, f"{paths.capath}/ca-certificates.crt"):
            if path is not None and Path(path).is_file():
                return Path(path).read_text()
        raise InvalidFileError(
            "client_verify: expected custom_ca, or a file of the system's certificates, found neither. Set "
            "custom_ca to the certificates that sign the callers'."
        )

    def ssl_context(self) -> ssl.SSLContext:
        """Return the context for REST.

        Raises:
          InvalidFileError: key and certificate do not fit or are not PEM text.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Python's module reads keys from files only. The folder is readable by this user alone.
            with tempfile.TemporaryDirectory() as folder:
                key, cert = Path(folder, "key.pem"), Path(folder, "cert.pem")
                key.write_text(self.server_key)
                cert.write_text(self.server_cert)
                context.load_cert_chain(cert, key)
            if self.client_ca:
                context.load_verify_locations(cadata=self.client_ca)
        except ssl.SSLError as error:
            raise InvalidFileError(
                f"server_key, server_cert or custom_ca cannot be used for TLS: {error}"
            ) from error
        if self.client_verify:
            if not self.client_ca:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def read_ssl_config_file(path: Path) -> TlsConfig:
    """Return what an ssl config file says, in the text format of TensorFlow Serving.

    ```
    server_key: "-----BEGIN PRIVATE KEY-----\\n..." server_cert: "-----BEGIN CERTIFICATE-----\\n..."
    custom_ca: "..." client_verify: true
    ```

    Raises:
      InvalidFileError: the file cannot be read or parsed, or lacks a key or certificates.
    """
    config = read_text_message(path, SSLConfig())
    if not config.server_key or not config.server_cert:
        raise InvalidFileError(f"{path}: expected server_key and server_cert, both PEM text")
    tls = TlsConfig(
        server_key=config.server_key,
        server_cert=config.server_cert,
        client_ca=config.custom_ca,
        client_verify=config.client_verify,
    )
    try:
        tls.ssl_context()
        tls.client_roots()
    except InvalidFileError as error:
        raise InvalidFileError(f"{path}: {error}") from error
    return tls
