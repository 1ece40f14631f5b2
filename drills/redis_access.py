"""How the Redis nodes and Sentinels of a stack are reached from this host.

A plain stack publishes ports on loopback. One with TLS and logins (compose/staging.yaml) publishes none: this host
reaches the containers' own addresses, and the files that make an administrator are in the folder of its secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff, NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

#: The user, and the name of the certificate, with which the drills look, break and heal.
ADMIN = "admin"
#: How often, and after how many seconds, a client that persists asks again.
_ATTEMPTS, _PAUSE = 3, 0.5
#: What ./scripts/certs names the files of a certificate: the authority, our own, its key.
_TLS_FILES = ("ca.crt", "tls.crt", "tls.key")


@dataclass(frozen=True, slots=True)
class Secrets:
    """The folder that ./scripts/secrets and ./scripts/certs have filled (``SECRETS_DIR``)."""

    folder: Path

    def password_file(self, user: str) -> Path:
        """Return the file that holds a user's password; a trader's user is the trader's id."""
        own = self.folder / "passwords" / user
        of_a_trader = own.with_name(f"trader-{user}")
        return of_a_trader if of_a_trader.exists() else own

    def certificate(self, name: str = ADMIN) -> Path:
        """Return the folder of a certificate."""
        return self.folder / "tls" / name

    def lacking(self) -> str:
        """Return why nobody can log in with these files, in one line; empty if they are there and can be read."""
        needed = [self.password_file(ADMIN), *(self.certificate() / name for name in _TLS_FILES)]
        for path in needed:
            try:
                path.read_bytes()
            except OSError as error:
                return (
                    f"{path}: {error.strerror}: this stack wants TLS and a login; give SECRETS_DIR the folder with "
                    "which it was started, and run this as root, for the files belong to the users of the containers"
                )
        return ""


@dataclass(frozen=True, slots=True)
class _Login(CredentialProvider):
    """Reads the password at every login: it may have been changed since the last one."""

    user: str
    file: Path

    def get_credentials(self) -> tuple[str, str]:
        return self.user, self.file.read_text().strip()


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """Makes clients of nodes and Sentinels; they connect at their first command."""

    #: Host and port of every node and Sentinel.
    addresses: Mapping[str, tuple[str, int]]
    #: None: plain text, and no login.
    secrets: Secrets | None = None

    def client(
        self,
        service: str,
        timeout: float = 1.0,
        *,
        decode: bool = True,
        persists: bool = False,
        user: str = ADMIN,
        certificate: str = ADMIN,
    ) -> Redis:
        """Return a client of a node or a Sentinel.

        ``timeout`` is in seconds, for connecting and for each answer; ``decode``: replies are text; ``persists``: it
        asks again if it loses its connection, which is for commands that may run twice. ``user`` and ``certificate``
        say as whom, where there are logins.
        """
        host, port = self.addresses[service]
        # An answer that does not come is what drills look for; redis-py would try again for seconds.
        retry = Retry(ConstantBackoff(_PAUSE), _ATTEMPTS) if persists else Retry(NoBackoff(), 0)
        if self.secrets is None:
            return Redis(
                host=host,
                port=port,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                decode_responses=decode,
                retry=retry,
            )
        authority, own, key = (str(self.secrets.certificate(certificate) / name) for name in _TLS_FILES)
        return Redis(
            host=host,
            port=port,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            decode_responses=decode,
            retry=retry,
            credential_provider=_Login(user, self.secrets.password_file(user)),
            ssl=True,
            ssl_ca_certs=authority,
            ssl_certfile=own,
            ssl_keyfile=key,
            ssl_check_hostname=True,
        )
