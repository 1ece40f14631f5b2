"""An AOF whose end a power loss has torn: no transaction stays open at its end, and nothing else is touched."""

from __future__ import annotations

import subprocess

import pytest

IMAGE = "nautilus-redis-ha/redis:local"

#: Tries every length of a file, and prints what is left of each.
EVERY_CUT = r"""
mkdir -p /tmp/aof && cd /tmp/aof
echo 'file a.base.rdb seq 1 type b
file old.incr.aof seq 1 type i
file new.incr.aof seq 2 type i' >appendonly.aof.manifest
printf 'torn as well' >old.incr.aof
write() { for argument in "$@"; do printf '$%s\r\n%s\r\n' ${#argument} "$argument"; done; }
{ printf '*3\r\n'; write SET key value; } >/tmp/first
{ printf '*1\r\n'; write MULTI; printf '*3\r\n'; write RPUSH list 1; printf '*3\r\n'; write RPUSH list 22
  printf '*1\r\n'; write EXEC; } >/tmp/second
cat /tmp/first /tmp/second >/tmp/whole
echo "sizes $(wc -c </tmp/first) $(wc -c </tmp/whole)"
length=1
while [ "$length" -le "$(wc -c </tmp/whole)" ]; do
    head -c "$length" /tmp/whole >new.incr.aof
    sh /opt/redis-node/torn-tail.sh /tmp/aof >/tmp/said
    echo "$length $(wc -c <new.incr.aof) $(wc -l </tmp/said)"
    length=$((length + 1))
done
[ "$(cat old.incr.aof)" = 'torn as well' ] && echo untouched
"""

#: Damaged in the middle, and intact behind it.
DAMAGED = (
    EVERY_CUT[: EVERY_CUT.index('echo "sizes')]
    + r"""
{ cat /tmp/first; printf 'XXXX'; cat /tmp/second; } >new.incr.aof
before=$(wc -c <new.incr.aof)
sh /opt/redis-node/torn-tail.sh /tmp/aof
[ "$(wc -c <new.incr.aof)" = "$before" ] && echo kept
{ cat /tmp/first; head -c 40 /tmp/second; printf 'garbage instead of the rest, and nothing behind it'; } >new.incr.aof
before=$(wc -c <new.incr.aof)
sh /opt/redis-node/torn-tail.sh /tmp/aof
[ "$(wc -c <new.incr.aof)" = "$before" ] && echo kept
rm /tmp/aof/*
sh /opt/redis-node/torn-tail.sh /tmp/aof && sh /opt/redis-node/torn-tail.sh /tmp/nowhere && echo nothing
"""
)


def run(script: str) -> list[str]:
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", IMAGE, "-euc", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(150)
def test_every_cut_ends_at_a_whole_transaction() -> None:
    sizes, *lines, untouched = run(EVERY_CUT)
    assert untouched == "untouched"
    first, whole = map(int, sizes.split()[1:])
    left = {int(length): (int(size), int(said)) for length, size, said in (line.split() for line in lines)}
    assert len(left) == whole
    # From here on MULTI is complete; what is torn before that, Redis cuts off rightly.
    opened = first + len("*1\r\n$5\r\nMULTI")
    for length, (size, said) in left.items():
        wanted = first if opened <= length < whole else length
        assert size == wanted, f"cut to {length} bytes"
        assert said == (length != wanted), f"cut to {length} bytes"


def test_damage_that_is_no_torn_end_is_left_to_redis() -> None:
    assert run(DAMAGED) == ["kept", "kept", "nothing"]
