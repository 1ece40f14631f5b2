"""What of a Compose project reaches Docker Swarm, and how."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.lib.stack_file import StackFileError, stack_file

PLACE = {"placement": {"constraints": ["node.labels.redis-ha.host == 1"]}}


def project(**service: Any) -> dict[str, Any]:
    """A project as Compose prints it, with one node and what a test adds to it."""
    node = {
        "image": "nautilus-redis-ha/redis:local",
        "build": {"context": "."},
        "command": None,
        "restart": "unless-stopped",
        "environment": {"NODE_IP": "10.0.1.5", "UNSET": None},
        "networks": {"stack": {"ipv4_address": "172.28.77.11"}, "hosts": {}},
        "deploy": {**PLACE, "resources": {}},
        "volumes": [{"type": "volume", "source": "redis-1", "target": "/data", "volume": {}}],
    }
    return {
        "name": "positions",
        "services": {"redis-1": {**node, **service}},
        "networks": {
            "stack": {"name": "positions_stack", "ipam": {"config": [{"subnet": "172.28.77.0/24"}]}},
            "hosts": {"name": "host", "external": True, "ipam": {}},
            "calls": {"name": "positions_calls", "driver": "overlay", "ipam": {}},
        },
        "volumes": {"redis-1": {"name": "positions_redis-1"}, "trader": {"name": "positions_trader"}},
        "secrets": {},
    }


def rendered(source: dict[str, Any]) -> dict[str, Any]:
    service: dict[str, Any] = stack_file(source)["services"]["redis-1"]
    return service


def test_node_is_in_its_hosts_network_alone() -> None:
    file = stack_file(project())
    assert file["services"]["redis-1"]["networks"] == ["hosts"]
    assert file["networks"] == {"hosts": {"name": "host", "external": True}}
    assert file["volumes"] == {"redis-1": {"name": "positions_redis-1"}}


def test_who_has_no_network_in_the_swarm_is_on_the_overlay() -> None:
    assert rendered(project(networks={"stack": {"ipv4_address": "172.28.77.31"}}))["networks"] == ["calls"]


def test_limits_become_those_of_swarm() -> None:
    service = rendered(project(mem_limit="1073741824", pids_limit=256, cpus=0.5))
    assert service["deploy"] == {
        **PLACE,
        "resources": {"limits": {"memory": "1073741824", "pids": 256, "cpus": "0.5"}},
    }


def test_ulimit_of_zero_stays_one() -> None:
    assert rendered(project(ulimits={"core": {}, "nofile": {"soft": 1, "hard": 2}}))["ulimits"] == {
        "core": 0,
        "nofile": {"soft": 1, "hard": 2},
    }


def test_names_mean_the_hosts_addresses_and_no_others() -> None:
    service = rendered(project(extra_hosts=["redis-1=172.28.77.11", "prometheus:172.28.77.42"]))
    assert service["extra_hosts"] == ["redis-1:10.0.1.5"]


def test_variables_without_a_value_are_left_out() -> None:
    assert rendered(project())["environment"] == {"NODE_IP": "10.0.1.5"}


def test_secret_belongs_to_the_reader_and_its_name_changes_with_the_file(tmp_path: Path) -> None:
    password = tmp_path / "admin"
    password.write_text("a password")
    os.utime(password, (1000, 1000))
    source = project(secrets=[{"source": "admin"}])
    source["secrets"] = {"admin": {"file": str(password)}, "pip_cert": {"file": "/dev/null"}}

    file = stack_file(source)

    assert file["services"]["redis-1"]["secrets"] == [
        {"source": "admin", "target": "admin", "uid": "10002", "gid": "10002", "mode": 0o400}
    ]
    assert file["secrets"] == {"admin": {"name": "positions_admin-1000", "file": str(password)}}
    os.utime(password, (2000, 2000))
    assert stack_file(source)["secrets"]["admin"]["name"] == "positions_admin-2000"
    assert "a password" not in str(file)


def test_files_mounted_from_this_machine_become_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "redis-1"
    folder.mkdir()
    for name in ("ca.crt", "tls.key"):
        (folder / name).write_text(name)
    source = project(volumes=[{"type": "bind", "source": str(folder), "target": "/run/tls", "read_only": True}])

    service = rendered(source)

    assert [secret["target"] for secret in service["secrets"]] == ["/run/tls/ca.crt", "/run/tls/tls.key"]
    assert service["volumes"] == []


def test_memory_file_system_keeps_its_size() -> None:
    service = rendered(project(volumes=[], tmpfs=["/run/y:size=16m,mode=1777,noexec", "/run/x"]))
    assert service["volumes"] == [
        {"type": "tmpfs", "target": "/run/y", "tmpfs": {"size": 16777216}},
        {"type": "tmpfs", "target": "/run/x"},
    ]


@pytest.mark.parametrize(
    ("service", "says"),
    [
        ({"gpus": "all"}, "gpus: not known"),
        ({"deploy": {}}, "has no place"),
        ({"volumes": [{"type": "bind", "source": "/", "target": "/host"}]}, "/host is mounted from this machine"),
        ({"volumes": [{"type": "bind", "source": "/nowhere", "target": "/x", "read_only": True}]}, "/nowhere: no such"),
    ],
)
def test_what_cannot_be_expressed_is_an_error_that_names_it(service: dict[str, Any], says: str) -> None:
    with pytest.raises(StackFileError, match=says):
        stack_file(project(**service))


def test_secret_that_nobody_may_read_is_an_error(tmp_path: Path) -> None:
    source = project(secrets=[{"source": "admin"}])
    source["secrets"] = {"admin": {"file": str(tmp_path / "admin")}}
    with pytest.raises(StackFileError, match="No such file"):
        stack_file(source)


def test_only_the_named_services_are_taken() -> None:
    source = project()
    source["services"]["trader"] = copy.deepcopy(source["services"]["redis-1"])
    source["services"]["trader"]["volumes"] = []
    file = stack_file(source, ["trader"])
    assert list(file["services"]) == ["trader"]
    assert file["volumes"] == {}
