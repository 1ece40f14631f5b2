#!/bin/sh
# Runs a Docker engine as the first process, so that killing the container kills everything on this host at once.
set -eu

# Of an engine that was killed. With a process id that belongs to another process by now, the next one would not start.
rm -f /run/docker.pid /run/docker/containerd/containerd.pid

# Docker mounts these read-only for a container that is not privileged, which this one is not: there are machines that
# lack a capability of a privileged container (CAP_SYS_RESOURCE), and none of them is missed here.
awk '$2 ~ "^/sys" && $4 ~ /(^|,)ro(,|$)/ { print $2 }' /proc/mounts | while read -r place; do
    mount -o remount,rw "$place" 2>/dev/null || mount -o remount,bind,rw "$place"
done

# Under cgroup v2 the group that the engine makes groups in must not hold processes itself.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p /sys/fs/cgroup/init
    xargs -rn 1 </sys/fs/cgroup/cgroup.procs >/sys/fs/cgroup/init/cgroup.procs 2>/dev/null || :
    sed -e 's/ / +/g' -e 's/^/+/' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
fi

exec dockerd --host unix:///run/host/docker.sock "$@"
