"""How the drills reach Redis: plain by published ports, or with TLS and a login."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.connection import SSLConnection

from drills.redis_access import RedisAccess, Secrets
from drills.stack import NODES, SENTINELS, Stack

ROOT = Path(__file__).resolve().parents[2]
STAGING = ("compose/base.yaml", "compose/staging.yaml")


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    """A folder as ./scripts/secrets and ./scripts/certs leave it."""
    for name in ("passwords/admin", "passwords/trader-TRADER-001", "tls/admin/ca.crt", "tls/admin/tls.crt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    (tmp_path / "tls/admin/tls.key").write_text("key\n")
    return Secrets(tmp_path)


def settings(access: RedisAccess, **options: Any) -> dict[str, Any]:
    pool = access.client("redis-1", **options).connection_pool
    return {**pool.connection_kwargs, "class": pool.connection_class}


def test_a_plain_stack_is_reached_by_its_published_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_TLS", raising=False)
    stack = Stack(ROOT, environment={"REDIS_1_PORT": "17431", "SUBNET_PREFIX": "172.28.93"})
    found = stack.client("redis-1").connection_pool.connection_kwargs
    assert (found["host"], found["port"]) == ("127.0.0.1", 17431)
    assert found.get("credential_provider") is None
    assert stack.secrets is None


def test_a_secured_stack_is_reached_by_its_own_addresses(secrets: Secrets) -> None:
    stack = Stack(ROOT, STAGING, {"SECRETS_DIR": str(secrets.folder), "SUBNET_PREFIX": "172.28.93"})
    assert stack.secrets == secrets
    reached = {}
    for service in (*NODES, *SENTINELS):
        pool = stack.client(service).connection_pool
        assert pool.connection_class is SSLConnection
        reached[service] = (pool.connection_kwargs["host"], pool.connection_kwargs["port"])
    assert reached["redis-2"] == ("172.28.93.12", 6379)
    assert reached["sentinel-3"] == ("172.28.93.23", 26379)


def test_a_secured_stack_is_known_by_its_containers_too(secrets: Secrets) -> None:
    stack = Stack(ROOT, ("my.yaml",), {"SECRETS_DIR": str(secrets.folder), "REDIS_TLS": "yes"})
    assert stack.secrets == secrets


def test_certificates_are_verified_and_one_of_our_own_is_shown(secrets: Secrets) -> None:
    found = settings(RedisAccess({"redis-1": ("172.28.93.11", 6379)}, secrets))
    assert found["ssl_check_hostname"]
    assert found["ssl_ca_certs"] == str(secrets.folder / "tls/admin/ca.crt")
    assert found["ssl_certfile"] == str(secrets.folder / "tls/admin/tls.crt")
    assert found["ssl_keyfile"] == str(secrets.folder / "tls/admin/tls.key")


def test_a_password_is_read_at_every_login(secrets: Secrets) -> None:
    login = settings(RedisAccess({"redis-1": ("172.28.93.11", 6379)}, secrets))["credential_provider"]
    assert login.get_credentials() == ("admin", "passwords/admin")
    (secrets.folder / "passwords/admin").write_text("rotated\n")
    assert login.get_credentials() == ("admin", "rotated")


def test_the_user_of_a_trader_is_its_id(secrets: Secrets) -> None:
    access = RedisAccess({"redis-1": ("172.28.93.11", 6379)}, secrets)
    login = settings(access, user="TRADER-001")["credential_provider"]
    assert login.get_credentials() == ("TRADER-001", "passwords/trader-TRADER-001")


@pytest.mark.parametrize("name", ["passwords/admin", "tls/admin/tls.key"])
def test_what_is_missing_is_one_line_that_names_the_setting(secrets: Secrets, name: str) -> None:
    assert secrets.lacking() == ""
    (secrets.folder / name).unlink()
    said = secrets.lacking()
    assert name in said
    assert "SECRETS_DIR" in said
    assert "\n" not in said


def test_a_stack_has_a_second_trader_if_its_overlay_is_there() -> None:
    stack = Stack(ROOT, ("compose/base.yaml", "compose/second-trader.yaml"), {"TRADER_2_ID": "SHOP-002"})
    assert [(trader.service, trader.id) for trader in stack.traders] == [
        ("trader", "TRADER-001"),
        ("trader-2", "SHOP-002"),
    ]
    assert stack.services[-2:] == ("trader", "trader-2")
    assert stack.traders[1].prefix == "trader-SHOP-002:"
    assert Stack(ROOT).services[-1] == "trader"
