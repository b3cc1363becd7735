"""TLS for both ports, from TensorFlow Serving's ssl config file."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

import grpc

from nann.errors import InvalidFileError
from nann.serving.server._messages import SSLConfig, read_text_message

# OpenSSL's reasons for a certificate that its security level refuses.
_WEAK = ("EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK")


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
        # Python's module reads keys from files only. The folder is readable by this user alone.
        with tempfile.TemporaryDirectory() as folder:
            key, cert, roots = (Path(folder, name) for name in ("key.pem", "cert.pem", "roots.pem"))
            for path, text in ((key, self.server_key), (cert, self.server_cert), (roots, self.client_ca)):
                path.write_text(text, encoding="utf-8")
            _load_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert, "server_cert")
            _load_key(context, cert, key)
            if self.client_ca:
                _load_certificates(context, roots, "custom_ca")
        if self.client_verify:
            if not self.client_ca:
                context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _load_certificates(context: ssl.SSLContext, path: Path, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise InvalidFileError(
            f"{name}: expected certificates in PEM text, found text that cannot be read as such "
            f"({_reason(error)}). Set {name} to the content of a certificate file, not to its path"
        ) from error


def _load_key(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    try:
        context.load_cert_chain(cert, key, password=_refuse_pass_phrase)
    except ssl.SSLError as error:
        reason = _reason(error)
        if reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise InvalidFileError(
                "server_key: expected the private key of the first certificate in server_cert, found another "
                "one. Set server_key to that key, and put the server's own certificate first in server_cert"
            ) from error
        if reason in _WEAK:
            raise InvalidFileError(
                f"server_cert: expected a certificate that OpenSSL deems secure, found a weak one "
                f"({reason}). Make a new one, such as with an RSA key of 2048 bits"
            ) from error
        raise InvalidFileError(
            "server_key: expected a private key in PEM text, found text that cannot be read as such "
            f"({reason}). Set server_key to the content of the key's file, not to its path"
        ) from error


def _refuse_pass_phrase() -> str:
    """Stand for the terminal, at which OpenSSL would wait for a pass phrase."""
    raise InvalidFileError(
        "server_key: expected a private key without a pass phrase, found an encrypted one. Write it without: "
        "`openssl pkey -in KEY -out PLAIN`"
    )


def _reason(error: ssl.SSLError) -> str:
    return error.reason or "no PEM"


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
    missing = [name for name in ("server_key", "server_cert") if not getattr(config, name)]
    if missing:
        raise InvalidFileError(
            f"{path}: expected server_key and server_cert, both PEM text, found no "
            f"{' and no '.join(missing)}; add the content of the file"
        )
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
