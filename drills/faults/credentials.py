"""Certificates and passwords that are replaced under full traffic: what is no fault must be no outage either."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl

from redis import Redis
from redis.exceptions import AuthenticationError

from drills.scripts import run_on
from drills.stack import NODES, SENTINELS, Stack

from .base import Fault


class _Credentials(Fault):
    """One of our scripts replaces credentials of a stack that runs."""

    #: Nobody is promoted, but an election that chance brings is not forbidden either: Sentinels are restarted.
    changes_master = None
    interrupts_writes = False
    interrupts_trader = False
    needs_logins = True

    @classmethod
    def unavailable(cls, stack: Stack) -> str:
        """Return why there is nothing to replace."""
        if stack.secrets is None:
            return "the stack has neither certificates nor passwords: ./scripts/up --staging starts one with both"
        return ""

    def heal(self) -> None:
        """Nothing is broken."""


class RenewCertificates(_Credentials):
    """``./scripts/certs renew``: every server and every client gets a new certificate and key."""

    name = "renew-certificates"
    summary = "all certificates and keys are replaced, of servers and clients alike (./scripts/certs renew)"

    def prepare(self) -> None:
        """Note which certificates the servers show."""
        self._before = {service: self._shown(service) for service in (*NODES, *SENTINELS)}

    def inject(self) -> None:
        """Replace them."""
        run_on(self.stack, "certs", "renew")

    def confirm(self) -> str:
        """Look at what every server shows now."""
        kept = [service for service, before in self._before.items() if self._shown(service) == before]
        if kept:
            raise RuntimeError(f"the certificate is the one of before: {', '.join(kept)}")
        return f"{', '.join(self._before)} show new certificates, of the authority that everybody trusts"

    def _shown(self, service: str) -> str:
        """Return the fingerprint of the certificate that a server shows; it has to be valid for its address."""
        assert self.stack.secrets is not None
        mine = self.stack.secrets.certificate()
        context = ssl.create_default_context(cafile=str(mine / "ca.crt"))
        context.load_cert_chain(mine / "tls.crt", mine / "tls.key")
        host, port = self.stack.address(service)
        with (
            socket.create_connection((host, port), 5) as plain,
            context.wrap_socket(plain, server_hostname=host) as wire,
        ):
            return hashlib.sha256(wire.getpeercert(binary_form=True) or b"").hexdigest()


class RotatePasswords(_Credentials):
    """``./scripts/secrets rotate all``: every user gets a new password, and the old ones end."""

    name = "rotate-passwords"
    summary = "all passwords are replaced, of the stack's own users and of every trader (./scripts/secrets rotate all)"

    def prepare(self) -> None:
        """Note the passwords."""
        self._before = self._passwords()

    def inject(self) -> None:
        """Replace them."""
        run_on(self.stack, "secrets", "rotate", "all")

    def confirm(self) -> str:
        """Try the old ones at every server, and the new one of the administrator."""
        now = self._passwords()
        kept = [user for user, password in self._before.items() if now.get(user) == password]
        if kept or not now:
            raise RuntimeError(f"the password is the one of before: {', '.join(kept)}")
        for service in (*NODES, *SENTINELS):
            self.stack.client(service).ping()
            valid = [user for user, password in self._before.items() if self._lets_in(service, user, password)]
            if valid:
                raise RuntimeError(f"{service} still takes the old password of {', '.join(valid)}")
        return f"the passwords of {', '.join(now)} are new, and no server takes an old one"

    def _passwords(self) -> dict[str, str]:
        assert self.stack.secrets is not None
        folder = self.stack.secrets.folder / "passwords"
        return {re.sub("^trader-", "", path.name): path.read_text().strip() for path in sorted(folder.iterdir())}

    def _lets_in(self, service: str, user: str, password: str) -> bool:
        client: Redis = self.stack.client(service)
        pool = client.connection_pool
        pool.connection_kwargs |= {"credential_provider": None, "username": user, "password": password}
        try:
            client.execute_command("AUTH", user, password)
        except AuthenticationError:
            return False
        return True


FAULTS: tuple[type[Fault], ...] = (RenewCertificates, RotatePasswords)
