"""When certificates expire: read off files and off what servers present."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from drills.security import Authority
from trader_node.link.certificates import Certificates, not_after
from trader_node.link.tls import Tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def _certificate(folder: Path, days: int) -> Path:
    path = folder / f"{days}.crt"
    files = ("-keyout", str(folder / "key"), "-out", str(path))
    arguments = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-subj", "/CN=x")
    subprocess.run(["openssl", "req", *arguments, *files, "-days", str(days)], check=True, capture_output=True)
    return path


def _end(path: Path) -> float:
    """What OpenSSL itself says."""
    command = ["openssl", "x509", "-in", str(path), "-noout", "-enddate"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(ssl.cert_time_to_seconds(said.strip().removeprefix("notAfter=")))


# From 2050 on the date has four digits for the year.
@pytest.mark.parametrize("days", [1, 90, 3650, 20000])
def test_the_end_is_what_openssl_says(days: int, tmp_path: Path) -> None:
    path = _certificate(tmp_path, days)
    assert not_after(path) == _end(path)


def test_of_several_certificates_the_first_to_expire_counts(tmp_path: Path) -> None:
    early, late = _certificate(tmp_path, 3), _certificate(tmp_path, 30)
    both = tmp_path / "both.crt"
    both.write_text(late.read_text() + "text in between\n" + early.read_text())
    assert not_after(both) == _end(early)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        # Somebody is just writing it: the end is missing right behind the outer header.
        "-----BEGIN CERTIFICATE-----\nMIIF",
        "-----BEGIN CERTIFICATE-----\nMIIFYz==\n-----END CERTIFICATE-----\n",
    ],
)
def test_what_is_no_certificate_has_no_end(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert not_after(path) is None
    assert not_after(tmp_path / "absent") is None


def test_a_server_is_asked_again_and_one_that_is_gone_keeps_its_last(authority: Authority, tmp_path: Path) -> None:
    shown, ours = authority.issue("server"), authority.issue("client")
    settings = Tls(authority.certificate, ours.certificate, ours.key)
    certificates = Certificates(settings)

    async def look() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(shown.certificate, shown.key)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        host, port = server.sockets[0].getsockname()
        await certificates.refresh({(host, port), ("127.0.0.1", 1)})
        server.close()
        await certificates.refresh({(host, port)})
        return f"{host}:{port}"

    name = asyncio.run(look())
    ends = certificates.not_after()
    assert ends == {
        "client": _end(ours.certificate),
        "ca": _end(authority.certificate),
        name: _end(shown.certificate),
    }


def test_a_server_of_another_authority_is_not_believed(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other").issue("server")
    certificates = Certificates(Tls(authority.certificate))

    async def look() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(other.certificate, other.key)
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
        await certificates.refresh({server.sockets[0].getsockname()})
        server.close()

    asyncio.run(look())
    assert certificates.not_after() == {"ca": _end(authority.certificate)}
