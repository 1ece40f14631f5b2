#!/bin/sh
# Cuts a transaction that a power loss has torn off the end of an AOF. Argument: the folder of the AOF.
#
# Redis cuts off a torn command by itself (aof-load-truncated), but leaves the commands before it that belong to the same
# transaction, and does not carry them out, for want of an EXEC. Whatever it appends then stands behind an open MULTI: at
# the next start those commands are carried out after all, together with the next transaction (Redis 7.0.15: "MULTI calls
# can not be nested"). What had been sent again in between was applied twice.
#
# Whatever else is wrong with the file is left to Redis.
set -eu

manifest=$1/appendonly.aof.manifest
[ -e "$manifest" ] || exit 0
# Only the newest file can be torn.
name=$(awk '$5 == "type" && $6 == "i" { name = $2 } END { print name }' "$manifest")
[ -n "$name" ] && [ -s "$1/$name" ] || exit 0

said=$(redis-check-aof "$1/$name" 2>&1) && exit 0
# The end of the last whole command or transaction.
intact=$(printf '%s\n' "$said" | sed -n 's/.*ok_up_to=\([0-9]*\),.*/\1/p')
wrong=$(printf '%s\n' "$said" | sed -n 's/^0x[ 0-9a-f]*: //p')
[ -n "$intact" ] || exit 0
case $wrong in
    # The last two: the file ends where the end of a line should be. Anything else is damage.
    'Expected to read '* | 'Reached EOF '* | 'Expected \r\n, got: 00'* | 'Expected \r\n, got: 0d00') ;;
    *) exit 0 ;;
esac

# Whether the rest is the beginning of one transaction. Damage in the middle has an EXEC behind it, up to its line's end.
torn() {
    { tail -c "+$((intact + 1))" "$1" | tr -d '\r' && echo .; } | LC_ALL=C awk '
        NR == 3 { sub(/\.$/, ""); begun = $0 == "MULTI" }
        $0 == "EXEC" { ended = 1; exit }
        END { exit !(begun && !ended) }'
}

torn "$1/$name" || exit 0
before=$(wc -c <"$1/$name")
truncate -s "$intact" "$1/$name"
echo "the end of $name was torn: cut from $before to $intact bytes, the end of the last whole transaction"
