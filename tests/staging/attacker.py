"""What an attacker has: a socket, perhaps a certificate or a password; and what a server answers, word by word."""

from __future__ import annotations

import ssl
import subprocess
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from socket import create_connection, socket
from types import TracebackType
from typing import Any, Self

import hiredis

from drills.redis_access import Secrets

#: Seconds for connecting and for each answer.
_PATIENCE = 5.0


def tls(secrets: Secrets, certificate: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the stack's authority and shows a certificate: a folder with tls.crt and tls.key."""
    context = ssl.create_default_context(cafile=str(secrets.certificate() / "ca.crt"))
    if certificate is not None:
        context.load_cert_chain(certificate / "tls.crt", certificate / "tls.key")
    return context


class Wire(AbstractContextManager["Wire"]):
    """One connection; without a context it is plain text."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        self._reader = hiredis.Reader(encoding="utf-8", errors="replace")
        plain: socket = create_connection(address, _PATIENCE)
        plain.settimeout(_PATIENCE)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=address[0]) if context else plain
        except BaseException:
            plain.close()
            raise

    def ask(self, *command: str) -> Any:
        """Return the answer to a command; an error as its text, as the server wrote it."""
        self._socket.sendall(hiredis.pack_command(command))
        while (reply := self._reader.gets()) is False:
            more = self._socket.recv(1 << 16)
            if not more:
                raise ConnectionError("closed by the server")
            self._reader.feed(more)
        return str(reply) if isinstance(reply, hiredis.ReplyError) else reply

    def hear(self) -> bytes:
        """Return what the server says by itself; nothing if it closes the connection."""
        return self._socket.recv(1 << 16)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close it."""
        with suppress(OSError):
            self._socket.close()


def as_user(address: tuple[str, int], secrets: Secrets, user: str, certificate: str) -> Wire:
    """Return a connection that has logged in with a user's own password and shows a certificate of the stack's."""
    wire = Wire(address, tls(secrets, secrets.certificate(certificate)))
    assert wire.ask("AUTH", user, secrets.password_file(user).read_text().strip()) == "OK"
    return wire


def issue(folder: Path, *, authority: tuple[Path, Path] | None = None, expired: bool = False) -> Path:
    """Make a certificate for a client; return its folder.

    ``authority`` is its certificate and key; None: the certificate comes from an authority that nobody knows.
    """
    folder.mkdir(parents=True)
    if authority is None:
        authority = folder / "ca.crt", folder / "ca.key"
        _openssl("req", "-x509", *_NEW_KEY, "-keyout", authority[1], "-out", authority[0], "-subj", "/CN=nobody")
    request = folder / "request"
    _openssl("req", *_NEW_KEY, "-keyout", folder / "tls.key", "-out", request, "-subj", "/CN=trader-2")
    dates = ("20200101000000Z", "20200201000000Z") if expired else ("20200101000000Z", "20990101000000Z")
    # `openssl x509` cannot set dates in the past before version 3.4; `openssl ca` can, and wants a database.
    database = folder / "database"
    database.touch()
    (folder / "serial").write_text("01\n")
    (folder / "config").write_text(
        f"[ca]\ndefault_ca=it\n[it]\ndatabase={database}\nserial={folder}/serial\nnew_certs_dir={folder}\n"
        "default_md=sha256\npolicy=any\n[any]\ncommonName=supplied\n"
    )
    _openssl(
        *("ca", "-batch", "-notext", "-config", folder / "config", "-cert", authority[0], "-keyfile", authority[1]),
        *("-startdate", dates[0], "-enddate", dates[1], "-in", request, "-out", folder / "tls.crt"),
    )
    return folder


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
