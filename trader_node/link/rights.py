"""The least rights with which a link works: ACL rules for its user at the nodes and at the Sentinels.

``python -m trader_node.link.rights TRADER-001`` prints them. Keys are those of one trader, so that a password that
leaks opens nothing of another one. CONFIG GET is not among the rights: it tells ``masterauth``, with which one is a
replica and gets everybody's data. Without it the link assumes 16 databases.
"""

from __future__ import annotations

import sys

#: The link's own handshake, transactions and probes; the last one tells whether another link uses the marker.
LINK_COMMANDS = "+multi +exec +watch +hset +hmget +role +info +select +ping +object|idletime"
#: What NautilusTrader, the paper node and the commands for people send. FLUSHDB is not among them: an ACL cannot bound
#: it to the trader's keys.
TRADER_COMMANDS = (
    "+get +set +mget +del +exists +type +scan +rpush +rpushx +lrange +ltrim +llen +sadd +srem +smembers +scard "
    "+hget +hdel +hgetall +xadd +xtrim +xrange +xread +xlen"
)


def node_rights(trader_id: str) -> str:
    """Return the rules for the link's user at every node."""
    keys = f"~trader-{trader_id}:* ~trader-{trader_id}.link"
    return f"resetkeys {keys} resetchannels -@all {LINK_COMMANDS} {TRADER_COMMANDS}"


def sentinel_rights() -> str:
    """Return the rules for the link's user at every Sentinel."""
    commands = "+ping +subscribe +sentinel|master +sentinel|replicas"
    for_people = "+sentinel|get-master-addr-by-name +sentinel|ckquorum"
    # LINK_FORCE_FAILOVER needs +sentinel|failover as well.
    return f"resetchannels &+switch-master -@all {commands} {for_people}"


if __name__ == "__main__":
    for trader in sys.argv[1:] or ["TRADER-001"]:
        sys.stdout.write(f"nodes:     user {trader} on >PASSWORD {node_rights(trader)}\n")
    sys.stdout.write(f"Sentinels: user link on >PASSWORD {sentinel_rights()}\n")
