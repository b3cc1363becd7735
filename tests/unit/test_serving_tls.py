"""Keys and certificates of the server."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest

from nann.errors import InvalidFileError
from nann.serving.server import TlsConfig
from nann.serving.server._tls import read_ssl_config_file

_TLS = Path(__file__).parents[1] / "data" / "tls"


def _tls(**fields: object) -> TlsConfig:
    key, cert = ((_TLS / name).read_text() for name in ("server.key", "server.pem"))
    return TlsConfig(server_key=key, server_cert=cert, **fields)  # type: ignore[arg-type]


def _system_has(monkeypatch: pytest.MonkeyPatch, *, cafile: Path | None, capath: Path | None) -> None:
    paths = SimpleNamespace(cafile=cafile and str(cafile), capath=capath and str(capath))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)


def test_callers_without_a_certificate_need_none() -> None:
    assert _tls().client_roots() == ""
    assert _tls().grpc_credentials() is not None


def test_callers_certificates_are_signed_by_those_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _system_has(monkeypatch, cafile=None, capath=None)
    assert _tls(client_verify=True, client_ca="given").client_roots() == "given"


@pytest.mark.parametrize("by_folder", [False, True])
def test_without_any_the_system_s_are_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by_folder: bool
) -> None:
    roots = tmp_path / "ca-certificates.crt"
    roots.write_text((_TLS / "ca.pem").read_text())
    _system_has(monkeypatch, cafile=None if by_folder else roots, capath=tmp_path if by_folder else None)
    tls = _tls(client_verify=True)
    assert tls.client_roots() == roots.read_text()
    assert tls.grpc_credentials() is not None


def test_no_certificates_at_all_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _system_has(monkeypatch, cafile=None, capath=tmp_path)
    with pytest.raises(InvalidFileError, match="expected custom_ca"):
        _tls(client_verify=True).grpc_credentials()


def _text(name: str) -> str:
    return (_TLS / name).read_text()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"server_key": _text("encrypted.key")},
            "server_key: .* without a pass phrase, found an encrypted one",
        ),
        ({"server_key": _text("client.key")}, "server_key: .* of the first certificate in server_cert"),
        ({"server_cert": _text("ca.pem") + _text("server.pem")}, "put the server's own certificate first"),
        ({"server_key": "key.pem"}, "server_key: expected a private key in PEM text"),
        ({"server_key": _text("server.key")[:80]}, "server_key: expected a private key in PEM text"),
        ({"server_cert": "cert.pem"}, "server_cert: expected certificates in PEM text"),
        ({"server_cert": _text("server.key")}, "server_cert: expected certificates in PEM text"),
        ({"server_cert": _text("server.pem")[:200]}, "server_cert: expected certificates in PEM text"),
        ({"custom_ca": "é"}, "custom_ca: expected certificates in PEM text"),
        (
            {"custom_ca": _text("ca.pem") + _text("ca.pem")[:200]},
            "custom_ca: expected certificates in PEM text",
        ),
        ({"server_cert": ""}, "found no server_cert"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, fields: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidFileError, match=f"ssl.config: .*{message}"):
        read_ssl_config_file(_config(tmp_path, fields))


def test_comments_beside_certificates_may_have_any_letters(tmp_path: Path) -> None:
    roots = f"# Főtanúsítvány\n{_text('ca.pem')}"
    assert read_ssl_config_file(_config(tmp_path, {"custom_ca": roots})).client_ca == roots


def _config(folder: Path, fields: dict[str, str]) -> Path:
    texts = {"server_key": _text("server.key"), "server_cert": _text("server.pem"), **fields}
    path = folder / "ssl.config"
    lines = (f"{name}: {json.dumps(text, ensure_ascii=False)}" for name, text in texts.items())
    path.write_text("\n".join(lines))
    return path
