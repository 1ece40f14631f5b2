"""The whole ACL file of the nodes or of the Sentinels: every user of the stack with the fewest rights that work.

.. code-block:: console

    python -m trader_node.acl nodes --trader TRADER-001 --trader TRADER-002 <hashes >nodes.acl

Standard input holds one line for each user, ``user sha256 [sha256...]``, in hex; the name of a trader's user is its id.
Several hashes let several passwords in, which is how one is replaced while everybody works. Passwords themselves never
get here. The user ``default`` is off: who does not log in may do nothing.

At the nodes that user has all rights nevertheless. Redis loads an AOF as the user ``default`` and checks the rights of
what stands in transactions (redis/redis#14541, mended at the end of 2025): where it has none, every transaction in the
file is silently left out, which is all that a link writes. Off, nobody can use these rights.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence

from trader_node.link.rights import node_rights, sentinel_rights

_HASH = re.compile(r"[0-9a-f]{64}")
# As in settings.py: nothing that means something else in a key pattern. With its hyphen it is no other user's name.
_TRADER_ID = re.compile(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)+")

#: Who does not log in. Without the rights at the nodes a restart loses all transactions, see above.
DEFAULT_AT_NODES = "off resetpass ~* &* +@all"
DEFAULT_AT_SENTINELS = "off resetpass resetkeys resetchannels -@all"
#: Scripts for people and what a node or a Sentinel does to itself, inside its own container.
ADMIN = "~* &* +@all"
#: Probes, and a node that asks its peers what they hold before it starts.
HEALTH_AT_NODES = "resetchannels -@all +ping +info +role"
HEALTH_AT_SENTINELS = (
    "resetchannels -@all +ping +sentinel|get-master-addr-by-name +sentinel|master +sentinel|replicas +sentinel|ckquorum"
)
#: A replica at its master.
REPLICA = "resetchannels -@all +ping +replconf +psync"
#: A Sentinel at the nodes.
SENTINEL_AT_NODES = (
    "resetchannels &__sentinel__:hello -@all +ping +info +role +publish +subscribe +client|setname +client|kill "
    "+multi +exec +slaveof +config|rewrite +script|kill"
)
#: A Sentinel at the others: hellos, and votes.
SENTINEL_AT_SENTINELS = (
    "resetchannels &__sentinel__:hello -@all +ping +publish +client|setname +sentinel|is-master-down-by-addr"
)
#: redis_exporter. Not CONFIG GET, which it also sends: that tells `masterauth`, and with it everybody's data.
METRICS_AT_NODES = (
    "resetchannels -@all +ping +info +client|setname +client|list +slowlog|len +slowlog|get "
    "+latency|latest +latency|histogram"
)
METRICS_AT_SENTINELS = (
    "resetchannels -@all +ping +info +client|setname +sentinel|masters +sentinel|master +sentinel|sentinels "
    "+sentinel|replicas +sentinel|slaves +sentinel|ckquorum"
)

_AT_NODES = {
    "admin": ADMIN,
    "health": HEALTH_AT_NODES,
    "replica": REPLICA,
    "sentinel": SENTINEL_AT_NODES,
    "metrics": METRICS_AT_NODES,
}
_AT_SENTINELS = {
    "admin": ADMIN,
    "health": HEALTH_AT_SENTINELS,
    "sentinel": SENTINEL_AT_SENTINELS,
    "metrics": METRICS_AT_SENTINELS,
}
SERVERS = ("nodes", "sentinels")


class AclError(ValueError):
    """The users cannot be written down; the one-line message names the user and what to do."""


def users(server: str, traders: Sequence[str]) -> dict[str, str]:
    """Return the rules of each user at ``nodes`` or ``sentinels``, without passwords.

    Raises
    ------
    AclError
        If a trader's id is none, or there twice.

    """
    for trader in traders:
        if not _TRADER_ID.fullmatch(trader):
            raise AclError(f"{trader!r} is not a trader id: letters, digits, _ and . with a hyphen, as TRADER-001")
        if traders.count(trader) > 1:
            raise AclError(f"{trader!r} is there twice: every trader has an id of its own")
    if server == "nodes":
        return _AT_NODES | {trader: node_rights(trader) for trader in traders}
    return _AT_SENTINELS | {trader: sentinel_rights() for trader in traders}


def acl_file(server: str, traders: Sequence[str], hashes: Mapping[str, Sequence[str]]) -> str:
    """Return the content of the ACL file of ``nodes`` or ``sentinels``.

    Parameters
    ----------
    server
        One of ``SERVERS``.
    traders
        Their ids.
    hashes
        SHA-256 of each user's passwords, in hex. Users that these servers do not have are left out.

    Raises
    ------
    AclError
        If a user has no hash, a hash is none, or nobody knows a user.

    """
    rules = users(server, traders)
    for user in hashes:
        if user not in _AT_NODES and user not in traders:
            raise AclError(f"user {user!r} is none of the stack's: add --trader {user} if it is a trader")
    lines = [f"user default {DEFAULT_AT_NODES if server == 'nodes' else DEFAULT_AT_SENTINELS}"]
    for user, rights in rules.items():
        if not hashes.get(user):
            raise AclError(f"user {user!r} has no password: its line '{user} <sha256>' is missing")
        for digest in hashes[user]:
            if not _HASH.fullmatch(digest):
                raise AclError(f"what stands behind user {user!r} is not a SHA-256 in hex: 64 digits, small letters")
        passwords = " ".join(f"#{digest}" for digest in hashes[user])
        lines.append(f"user {user} on {passwords} {rights}")
    return "\n".join(lines) + "\n"


def read_hashes(text: str) -> dict[str, list[str]]:
    """Return the hashes of each user from lines of ``user sha256 [sha256...]``."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        user, *digests = line.split() or [""]
        if user in found:
            raise AclError(f"user {user!r} is there twice: write all its hashes into one line")
        if user:
            found[user] = digests
    return found


def main(arguments: Sequence[str]) -> int:
    """Write the file to standard output; 2 if the users cannot be written down."""
    parser = argparse.ArgumentParser(prog="python -m trader_node.acl", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--trader", action="append", default=[], metavar="ID", help="a trader's id; may be repeated")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(acl_file(options.server, options.trader, read_hashes(sys.stdin.read())))
    except AclError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
