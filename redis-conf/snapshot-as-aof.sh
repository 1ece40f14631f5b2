#!/bin/sh
# Makes an AOF set of an RDB snapshot: with an AOF configured Redis does not read dump.rdb, but the base of an AOF is a
# snapshot too. Arguments: the snapshot, which is moved, and the folder of the AOF, which must not exist.
set -eu

mkdir "$2"
mv "$1" "$2/appendonly.aof.1.base.rdb"
echo 'file appendonly.aof.1.base.rdb seq 1 type b' >"$2/appendonly.aof.manifest"
