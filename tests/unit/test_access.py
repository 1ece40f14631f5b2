"""The settings beside the connection string: passwords, files, certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.security import Authority, Certificate
from trader_node.link import tls
from trader_node.link.access import AccessError, read_login, read_target

SECRET = "s3cr3t pass"  # noqa: S105


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Authority(tmp_path_factory.mktemp("pki")).issue("link")


def test_passwords_of_nodes_and_sentinels_from_values_and_files(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    target = read_target(
        {
            "REDIS_URL": "sentinel://s1/m",
            "REDIS_USERNAME": "trader",
            "REDIS_PASSWORD_FILE": str(file),
            "REDIS_SENTINEL_PASSWORD": "other",
        }
    )
    assert (target.username, target.password) == ("trader", SECRET)
    assert (target.sentinel_username, target.sentinel_password) == (None, "other")
    assert SECRET not in repr(target) + str(target)
    assert "other" not in repr(target)
    assert read_target({}, "redis://u:p@r").password == "p"  # noqa: S105
    login = read_login({"LINK_CLIENT_PASSWORD_FILE": str(file)})
    assert login is not None
    assert login.accepts(b"default", SECRET.encode())
    assert read_login({"LINK_CLIENT_PASSWORD": ""}) is None


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"REDIS_URL": "x"}, "REDIS_URL: unknown scheme"),
        ({"REDIS_USERNAME": "u"}, "REDIS_USERNAME='u' is set without REDIS_PASSWORD or REDIS_PASSWORD_FILE"),
        ({"REDIS_URL": f"redis://:{SECRET}@r", "REDIS_PASSWORD": SECRET}, "given twice, in REDIS_URL and as"),
        ({"REDIS_PASSWORD": SECRET, "REDIS_PASSWORD_FILE": "/x"}, "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both"),
        ({"REDIS_PASSWORD_FILE": "/nowhere"}, "REDIS_PASSWORD_FILE='/nowhere' cannot be read: No such file"),
        ({"REDIS_PASSWORD_FILE": "/"}, "REDIS_PASSWORD_FILE='/' cannot be read: Is a directory"),
        ({"REDIS_PASSWORD_FILE": "empty"}, "is empty: write the password into it"),
        ({"REDIS_PASSWORD_FILE": "lines"}, "holds more than one line"),
        ({"REDIS_PASSWORD_FILE": "binary"}, "is not text"),
        ({"REDIS_SENTINEL_PASSWORD_FILE": "/nowhere"}, "REDIS_SENTINEL_PASSWORD_FILE='/nowhere' cannot be read"),
        ({"REDIS_TLS_CA_FILE": "ca.crt"}, "REDIS_TLS_CA_FILE='ca.crt' is set, but redis://r:6379/0 is not encrypted"),
    ],
)
def test_a_mistake_is_named(env: dict[str, str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").write_text("\n")
    Path("lines").write_text(f"{SECRET}\n{SECRET}\n")
    Path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(AccessError) as caught:
        read_target(env, "redis://r")
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def _certificates(shown: Certificate, **other: str) -> dict[str, str]:
    files = {
        "REDIS_TLS_CA_FILE": str(shown.authority),
        "REDIS_TLS_CERT_FILE": str(shown.certificate),
        "REDIS_TLS_KEY_FILE": str(shown.key),
    }
    return {"REDIS_URL": "rediss://r", **files, **other}


def test_certificates(shown: Certificate) -> None:
    settings = read_target(_certificates(shown, REDIS_TLS_CHECK_HOSTNAME="no", REDIS_TLS_SERVER_NAME="x")).tls_settings
    assert settings == tls.Tls(shown.authority, shown.certificate, shown.key, False, "x")
    assert settings.name("10.0.0.1") == "x"
    default = read_target({"REDIS_URL": "rediss://r"}).tls_settings
    assert default.check_hostname
    assert default.name("10.0.0.1") == "10.0.0.1"


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"REDIS_TLS_CA_FILE": "/nowhere"}, "REDIS_TLS_CA_FILE='/nowhere' cannot be read: No such file"),
        ({"REDIS_TLS_CA_FILE": "/"}, "cannot be read: Is a directory"),
        ({"REDIS_TLS_CA_FILE": "text"}, "REDIS_TLS_CA_FILE='text' holds no certificate in PEM form"),
        ({"REDIS_TLS_CA_FILE": "torn"}, "REDIS_TLS_CA_FILE='torn' holds a damaged certificate"),
        ({"REDIS_TLS_KEY_FILE": ""}, "REDIS_TLS_CERT_FILE is set without REDIS_TLS_KEY_FILE"),
        ({"REDIS_TLS_CERT_FILE": ""}, "REDIS_TLS_KEY_FILE is set without REDIS_TLS_CERT_FILE"),
        ({"REDIS_TLS_KEY_FILE": "text"}, "REDIS_TLS_KEY_FILE='text' holds no private key in PEM form"),
        ({"REDIS_TLS_KEY_FILE": "other"}, "REDIS_TLS_KEY_FILE='other' does not belong to REDIS_TLS_CERT_FILE="),
        ({"REDIS_TLS_KEY_FILE": "locked"}, "REDIS_TLS_KEY_FILE='locked' is encrypted"),
        ({"REDIS_TLS_CERT_FILE": "torn"}, "REDIS_TLS_CERT_FILE='torn' or REDIS_TLS_KEY_FILE="),
        ({"REDIS_TLS_CHECK_HOSTNAME": "maybe"}, "REDIS_TLS_CHECK_HOSTNAME='maybe' is not a switch"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(
    env: dict[str, str], says: str, shown: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("hello")
    Path("torn").write_text(shown.certificate.read_text()[:200])
    Path("other").write_bytes(Authority(tmp_path / "pki", "other").issue("x").key.read_bytes())
    Path("locked").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(AccessError) as caught:
        read_target(_certificates(shown, **env))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_renewed_files_count_and_half_renewed_ones_do_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    old, new = authority.issue("old"), authority.issue("new")
    settings = tls.Tls(old.authority, old.certificate, old.key)
    first = tls.context(settings)
    assert tls.context(settings) is first
    old.certificate.write_bytes(new.certificate.read_bytes())
    assert tls.context(settings) is first, "certificate and key do not belong together yet"
    assert tls.context(settings) is first
    assert caplog.text.count("does not belong to REDIS_TLS_CERT_FILE") == 1
    old.key.write_bytes(new.key.read_bytes())
    assert tls.context(settings) is not first
