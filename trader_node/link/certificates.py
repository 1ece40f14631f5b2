"""When certificates expire: our own, the authorities', and those that the servers present.

Servers are asked by a TLS handshake of its own. Connections that carry commands live for weeks, and would go on to tell
of a certificate that was renewed long ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from . import tls
from .url import Address

#: Seconds for a handshake.
_TIMEOUT = 3.0
#: Tags of ASN.1's DER.
_VERSION, _UTC_TIME = 0xA0, 0x17
#: Of the elements of a certificate (RFC 5280, 4.1), without the version: number, algorithm, issuer, validity.
_VALIDITY = 3
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def not_after(path: Path) -> float | None:
    """Return the Unix time at which the first of a PEM file's certificates expires; None if it holds none."""
    # Whatever is wrong with a file that somebody is just writing, or with a server: to look at it ends nothing.
    with contextlib.suppress(Exception):
        parts = path.read_text(encoding="ascii", errors="replace").split(_BEGIN)[1:]
        ends = [_end_of(ssl.PEM_cert_to_DER_cert(_BEGIN + part.partition(_END)[0] + _END)) for part in parts]
        return min(ends, default=None)
    return None


def _end_of(certificate: bytes) -> float:
    """Return the end of a certificate's validity. The standard library tells it of a peer's certificate only."""
    ((_, signed),) = _elements(certificate)
    _, contents = next(_elements(signed))
    fields = [content for tag, content in _elements(contents) if tag != _VERSION]
    _, (tag, end) = _elements(fields[_VALIDITY])
    text = end.decode("ascii")
    if tag == _UTC_TIME:
        # Two digits for the year: from 1950 on (RFC 5280, 4.1.2.5.1).
        text = ("19" if text >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        yield tag, data[at : at + length]
        at += length


class Certificates:
    """The expiry of every certificate that this link has to do with."""

    def __init__(self, settings: tls.Tls) -> None:
        self._settings = settings
        #: Unix time, by server; one that does not answer keeps what it showed last.
        self._servers: dict[Address, float] = {}

    def not_after(self) -> dict[str, float]:
        """Return the Unix time of each expiry: of ``client``, of ``ca``, and by address those of the servers."""
        files = {"client": self._settings.cert_file, "ca": self._settings.ca_file}
        own = {name: not_after(path) for name, path in files.items() if path is not None}
        shown = {f"{host}:{port}": end for (host, port), end in sorted(self._servers.items())}
        return {name: end for name, end in own.items() if end is not None} | shown

    async def refresh(self, servers: Iterable[Address]) -> None:
        """Look at the certificates of servers."""
        await asyncio.gather(*(self._look(server) for server in servers))

    async def _look(self, server: Address) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_TIMEOUT):
                _, writer = await asyncio.open_connection(
                    *server, ssl=tls.context(self._settings), server_hostname=self._settings.name(server[0])
                )
                shown = writer.get_extra_info("ssl_object").getpeercert()
                writer.close()
            if shown:
                self._servers[server] = float(ssl.cert_time_to_seconds(shown["notAfter"]))


__all__ = ["Certificates", "not_after"]
