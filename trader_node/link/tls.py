"""TLS toward Redis and the Sentinels.

The certificate chain is always verified. The address is too unless that is switched off: Sentinels name nodes by IP
address, so certificates need the addresses of the nodes, or one name that all of them carry (``server_name``).
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from .events import event

logger = logging.getLogger("link.tls")

#: Settings, by the field of ``Tls`` that they fill.
CA_FILE = "REDIS_TLS_CA_FILE"
CERT_FILE = "REDIS_TLS_CERT_FILE"
KEY_FILE = "REDIS_TLS_KEY_FILE"
CHECK_HOSTNAME = "REDIS_TLS_CHECK_HOSTNAME"
SERVER_NAME = "REDIS_TLS_SERVER_NAME"

# Codes of OpenSSL's X509_V_ERR_*.
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
_OTHER_ADDRESS = frozenset({62, 64})


class TlsError(ValueError):
    """A file cannot be used; the message names the setting, the path and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How to know a server, and how to be known by it."""

    #: Authorities to trust; None: those of the system.
    ca_file: Path | None = None
    #: Certificate and key that servers ask for (``tls-auth-clients``, on by default in Redis).
    cert_file: Path | None = None
    key_file: Path | None = None
    check_hostname: bool = True
    #: Name that every certificate has to carry, instead of the address that was connected to.
    server_name: str = ""

    def name(self, host: str) -> str:
        """Return the name that the certificate of ``host`` has to carry."""
        return self.server_name or host


_contexts: dict[Tls, tuple[tuple[int, ...], ssl.SSLContext]] = {}


def context(tls: Tls) -> ssl.SSLContext:
    """Return what connections are made with. Files that were renewed count from the next connection on.

    Raises
    ------
    TlsError
        If a file cannot be used and never could: during a renewal, certificate and key may not belong together.

    """
    stamp = _stamp(tls)
    known = _contexts.get(tls)
    if known is not None and known[0] == stamp:
        return known[1]
    try:
        made = _make(tls)
    except TlsError as error:
        if known is None:
            raise
        made = known[1]
        logger.warning("TLS: going on with the files as they were: %s", error, extra=event("certificates_kept"))
    _contexts[tls] = (stamp, made)
    return made


def _stamp(tls: Tls) -> tuple[int, ...]:
    stamp = []
    for path in (tls.ca_file, tls.cert_file, tls.key_file):
        try:
            status = path.stat() if path is not None else None
        except OSError:
            status = None
        stamp += [status.st_mtime_ns, status.st_ino, status.st_size] if status is not None else [0, 0, 0]
    return tuple(stamp)


def _make(tls: Tls) -> ssl.SSLContext:
    made = ssl.create_default_context()
    # Python 3.13 refuses certificates without an authority key identifier; those of Redis' own generator have none.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if tls.ca_file is not None:
        # Nobody else's certificates: the authorities of the system have no say about a private one's servers.
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pem = _pem(tls.ca_file, CA_FILE, "CERTIFICATE-----")
        try:
            made.load_verify_locations(cadata=pem)
        except ssl.SSLError as error:
            raise TlsError(f"{CA_FILE}={str(tls.ca_file)!r} holds a damaged certificate: {_reason(error)}") from None
    made.check_hostname = tls.check_hostname
    if tls.cert_file is not None and tls.key_file is not None:
        _present(made, tls.cert_file, tls.key_file)
    elif tls.cert_file is not None or tls.key_file is not None:
        lone, missing = (CERT_FILE, KEY_FILE) if tls.key_file is None else (KEY_FILE, CERT_FILE)
        raise TlsError(f"{lone} is set without {missing}: set both, or neither if no client certificate is asked for")
    return made


def _present(made: ssl.SSLContext, cert_file: Path, key_file: Path) -> None:
    _pem(cert_file, CERT_FILE, "CERTIFICATE-----")
    if "ENCRYPTED" in _pem(key_file, KEY_FILE, "PRIVATE KEY-----"):
        raise TlsError(
            f"{KEY_FILE}={str(key_file)!r} is encrypted: give a key without passphrase, readable by us alone"
        )
    try:
        made.load_cert_chain(cert_file, key_file)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise TlsError(f"{KEY_FILE}={str(key_file)!r} does not belong to {CERT_FILE}={str(cert_file)!r}") from None
        raise TlsError(
            f"{CERT_FILE}={str(cert_file)!r} or {KEY_FILE}={str(key_file)!r} is damaged: {_reason(error)}"
        ) from None


def _pem(path: Path, setting: str, marks: str) -> str:
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise TlsError(f"{setting}={str(path)!r} cannot be read: {error.strerror}") from None
    if marks not in text:
        what = "certificate" if "CERT" in marks else "private key"
        raise TlsError(f"{setting}={str(path)!r} holds no {what} in PEM form ('-----BEGIN ...')")
    return text


def problem(error: BaseException | None) -> str:
    """Return what is wrong with the certificates or with TLS itself, in words to act on; empty if it is neither."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ssl.SSLCertVerificationError):
            return _refused_by_us(error)
        if isinstance(error, ssl.SSLError):
            return _failed(error)
        if isinstance(error, TlsError):
            return str(error)
        error = error.__cause__ or error.__context__
    return ""


def _refused_by_us(error: ssl.SSLCertVerificationError) -> str:
    advice = ""
    if error.verify_code in _UNKNOWN_ISSUER:
        advice = f": is {CA_FILE} the authority that issued it?"
    elif error.verify_code in _OTHER_ADDRESS:
        advice = (
            f": put the address into the certificate, or set {SERVER_NAME} to a name that it has, or {CHECK_HOSTNAME} "
            "to false"
        )
    return f"TLS: its certificate is refused: {error.verify_message.rstrip('.')}{advice}"


def _failed(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if "CERTIFICATE_REQUIRED" in reason:
        return f"TLS: it asks for a client certificate: set {CERT_FILE} and {KEY_FILE}"
    if "ALERT_UNKNOWN_CA" in reason or "ALERT_BAD_CERTIFICATE" in reason or "ALERT_CERTIFICATE" in reason:
        return f"TLS: it refuses our certificate ({_reason(error)}): is {CERT_FILE} issued by its authority, and valid?"
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason or "PACKET_LENGTH" in reason:
        return "TLS: its port speaks plain text: give its TLS port, or use sentinel:// or redis://"
    return f"TLS: {_reason(error)}"


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()
