"""How to reach Redis: the connection string with the settings beside it, passwords from files included.

One reader for the link, the node and the commands for people, so that they all accept the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from . import tls
from .credentials import PasswordFileError, read_password
from .login import DEFAULT_USERNAME, Login
from .url import RedisTarget, RedisUrlError, parse_redis_url

URL = "REDIS_URL"
USERNAME = "REDIS_USERNAME"
PASSWORD = "REDIS_PASSWORD"  # noqa: S105 - the name of a setting
SENTINEL_USERNAME = "REDIS_SENTINEL_USERNAME"
SENTINEL_PASSWORD = "REDIS_SENTINEL_PASSWORD"  # noqa: S105 - the name of a setting
CLIENT_USERNAME = "LINK_CLIENT_USERNAME"
CLIENT_PASSWORD = "LINK_CLIENT_PASSWORD"  # noqa: S105 - the name of a setting
#: Settings that stand beside the URL and say the same as its user and password.
CREDENTIALS = (USERNAME, PASSWORD, f"{PASSWORD}_FILE")

_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class AccessError(ValueError):
    """A setting is wrong; the one-line message names it, its value (never a password) and what to do."""


def read_target(env: Mapping[str, str], default_url: str = "") -> RedisTarget:
    """Read where Redis is and how to log in, from variables; an empty one counts as unset.

    Raises
    ------
    AccessError
        At the first setting that is wrong. Files of certificates are read, so that a mistake shows at once.

    """
    try:
        target = parse_redis_url(_text(env, URL) or default_url)
    except RedisUrlError as error:
        raise AccessError(f"{URL}: {error}") from None
    target = _with_credentials(target, env)
    username, password = _credentials(env, SENTINEL_USERNAME, SENTINEL_PASSWORD)
    file = _file(env, SENTINEL_PASSWORD)
    target = replace(target, sentinel_username=username, sentinel_password=password, sentinel_password_file=file)
    return _with_tls(target, env)


def read_login(env: Mapping[str, str]) -> Login | None:
    """Read what clients of the link have to log in with; None: nothing. Raises ``AccessError``."""
    username, password = _credentials(env, CLIENT_USERNAME, CLIENT_PASSWORD)
    return None if password is None else Login(username or DEFAULT_USERNAME, password)


def _credentials(env: Mapping[str, str], username: str, password: str) -> tuple[str | None, str | None]:
    """Return user name and password from two settings, the password perhaps from the file of ``<password>_FILE``.

    Raises
    ------
    AccessError
        If the file cannot be read or is empty, if it is given besides the value, or if a user has no password.

    """
    name, value = _text(env, username) or None, _secret(env, password)
    if name is not None and value is None:
        raise AccessError(f"{username}={name!r} is set without {password} or {password}_FILE: set one of them")
    return name, value


def _with_credentials(target: RedisTarget, env: Mapping[str, str]) -> RedisTarget:
    username, password = _credentials(env, USERNAME, PASSWORD)
    if password is None:
        return target
    if target.password is not None:
        raise AccessError(f"the password is given twice, in {URL} and as {PASSWORD} or {PASSWORD}_FILE: use one")
    return replace(target, username=username, password=password, password_file=_file(env, PASSWORD))


def _with_tls(target: RedisTarget, env: Mapping[str, str]) -> RedisTarget:
    files = {name: _text(env, name) for name in (tls.CA_FILE, tls.CERT_FILE, tls.KEY_FILE)}
    if not target.tls:
        for name, value in files.items():
            if value:
                secure = "sentinels://" if target.sentinel else "rediss://"
                raise AccessError(f"{name}={value!r} is set, but {target} is not encrypted: use {secure} in {URL}")
        return target
    check = _text(env, tls.CHECK_HOSTNAME) or "true"
    if check.lower() not in _SWITCH:
        raise AccessError(f"{tls.CHECK_HOSTNAME}={check!r} is not a switch: use true or false")
    ca_file, cert_file, key_file = (Path(value) if value else None for value in files.values())
    settings = tls.Tls(ca_file, cert_file, key_file, _SWITCH[check.lower()], _text(env, tls.SERVER_NAME))
    try:
        tls.context(settings)
    except tls.TlsError as error:
        raise AccessError(str(error)) from None
    return replace(target, tls_settings=settings)


def _text(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip()


def _secret(env: Mapping[str, str], name: str) -> str | None:
    # Not stripped: white space may be part of a password.
    value, path = env.get(name, ""), _file(env, name)
    if path is None:
        return value or None
    if value:
        raise AccessError(f"{name} and {name}_FILE are both set: use one")
    try:
        return read_password(path)
    except PasswordFileError as error:
        raise AccessError(f"{name}_FILE={str(path)!r} {error}") from None


def _file(env: Mapping[str, str], name: str) -> Path | None:
    path = _text(env, f"{name}_FILE")
    return Path(path) if path else None
