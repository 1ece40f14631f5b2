"""Certificates and ACL users of the kind that a guarded stack has, for clusters of the tests."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trader_node import acl


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM form."""

    authority: Path
    certificate: Path
    key: Path


class Authority:
    """A certificate authority of its own."""

    def __init__(self, folder: Path, name: str = "authority", *, strict: bool = True) -> None:
        """``strict``: with the extensions that Python's defaults insist on, and Redis' own generator leaves out."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self.certificate = folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        _openssl(
            name, self._key, self.certificate, ("-addext", "keyUsage=critical,keyCertSign,cRLSign") if strict else ()
        )

    def issue(self, name: str, *names: str) -> Certificate:
        """Issue a certificate for ``names`` in OpenSSL's form, such as ``IP:127.0.0.1`` (the default)."""
        path, key = self._folder / f"{self._name}-{name}.crt", self._folder / f"{self._name}-{name}.key"
        alternatives = ",".join(names or ("IP:127.0.0.1",))
        signing = ("-CA", str(self.certificate), "-CAkey", str(self._key))
        ends = ("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={alternatives}")
        _openssl(name, key, path, (*signing, *ends))
        return Certificate(self.certificate, path, key)


def _openssl(name: str, key: Path, certificate: Path, more: Sequence[str]) -> None:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    files = ("-keyout", str(key), "-out", str(certificate))
    arguments = ["openssl", "req", "-x509", *curve, *files, "-days", "2", "-subj", f"/CN={name}", *more]
    subprocess.run(arguments, check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Account:
    """A user of Redis."""

    name: str
    password: str = field(repr=False)
    #: Rules of its ACL, without the password.
    rights: str = "~* &* +@all"

    @property
    def acl(self) -> str:
        """The line of an ACL file."""
        return f"user {self.name} on >{self.password} {self.rights}"


#: The line of who does not log in, with the rights to load an AOF.
DEFAULT = f"user default {acl.DEFAULT_AT_NODES}"
#: What Sentinels may do at the nodes and at each other, and replicas at their master.
SENTINEL_AT_NODES = Account("sentinel", "of-sentinels", acl.SENTINEL_AT_NODES)
SENTINEL_AT_SENTINELS = Account("sentinel", "of-sentinels", acl.SENTINEL_AT_SENTINELS)
REPLICA = Account("replica", "of-replicas", acl.REPLICA)
ADMIN = Account("admin", "of-admins")


@dataclass(frozen=True, slots=True)
class Security:
    """How the servers of a cluster are guarded."""

    #: What servers show; None: plain text.
    servers: Certificate | None = None
    #: What the tests' own clients show.
    clients: Certificate | None = None
    #: Users of the nodes and of the Sentinels besides those that the cluster itself needs; None: no login at all.
    node_users: Sequence[Account] | None = None
    sentinel_users: Sequence[Account] | None = None
