"""Keys and certificates of the server."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import SimpleNamespace

import pytest

from nann.errors import InvalidFileError
from nann.serving.server import TlsConfig

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
