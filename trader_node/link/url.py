"""The connection string: where Redis is, told by one URL.

``sentinel://[user:password@]host:port,host:port,.../master-name[?db=N]`` follows a master through Sentinel;
``redis://[user:password@]host:port[/N]`` is one fixed server without failover. ``sentinels://`` and ``rediss://``
are the same over TLS.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from .tls import Tls

DEFAULT_MASTER_NAME = "mymaster"
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_REDIS_PORT = 6379
EXAMPLE = "sentinel://s1:26379,s2:26379,s3:26379/mymaster"

_SCHEMES = {
    "sentinel": (True, False),
    "sentinels": (True, True),
    "redis": (False, False),
    "rediss": (False, True),
}

Address = tuple[str, int]


class RedisUrlError(ValueError):
    """The connection string is wrong; the message names the part and what to do, never the password."""


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """A parsed connection string.

    ``hosts`` are the Sentinels if ``sentinel`` is true, otherwise the single Redis server. ``master_name`` is empty
    for a single server. User name and password are those of the Redis nodes; the Sentinels' own are not in the URL
    (see ``access``).
    """

    sentinel: bool
    hosts: tuple[Address, ...]
    master_name: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: bool = False
    #: How to know the servers if ``tls`` is true.
    tls_settings: Tls = field(default_factory=Tls)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    #: Where the passwords came from, if from files: a newer one may be there.
    password_file: Path | None = None
    sentinel_password_file: Path | None = None

    def __str__(self) -> str:
        """Return the connection string without user name and password, for logs."""
        scheme = next(name for name, kind in _SCHEMES.items() if kind == (self.sentinel, self.tls))
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        if self.sentinel:
            return f"{scheme}://{hosts}/{self.master_name}" + (f"?db={self.db}" if self.db else "")
        return f"{scheme}://{hosts}/{self.db}"


def parse_redis_url(url: str) -> RedisTarget:
    """Parse a connection string.

    Raises
    ------
    RedisUrlError
        If any part is missing, malformed or unknown. The message never holds user name or password.

    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        shown = scheme if separator else "(none)"
        raise RedisUrlError(
            f"unknown scheme {shown!r}: use one of {', '.join(name + '://' for name in _SCHEMES)}, e.g. {EXAMPLE}"
        )
    sentinel, tls = _SCHEMES[scheme]
    if "#" in rest:
        raise RedisUrlError("'#' is not allowed: write it as %23 if it belongs to the password")
    # The last '@' divides, so that an unescaped '@' or '?' in a password is not taken for the host or an option.
    credentials, _, location = rest.rpartition("@")
    location, _, query = location.partition("?")
    hosts_text, _, path = location.partition("/")
    username, password = _credentials(credentials)
    default_port = DEFAULT_SENTINEL_PORT if sentinel else DEFAULT_REDIS_PORT
    hosts = tuple(_address(text, default_port) for text in hosts_text.split(","))
    if len(set(hosts)) != len(hosts):
        raise RedisUrlError(f"a host is listed twice in {hosts_text!r}: name each Sentinel once")
    options = _options(query, {"db"})
    path = unquote(path.rstrip("/"))
    if sentinel:
        if "/" in path:
            raise RedisUrlError(f"master name {path!r} must not hold '/': the form is {EXAMPLE}")
        return RedisTarget(
            sentinel=True,
            hosts=hosts,
            master_name=path or DEFAULT_MASTER_NAME,
            username=username,
            password=password,
            db=_database(options.get("db", "0")),
            tls=tls,
        )
    if len(hosts) != 1:
        raise RedisUrlError(f"{scheme}:// takes one host, got {len(hosts)}: list Sentinels with sentinel://")
    if path and "db" in options:
        raise RedisUrlError("the database is given twice, in the path and as ?db=: use one")
    return RedisTarget(
        sentinel=False,
        hosts=hosts,
        username=username,
        password=password,
        db=_database(path or options.get("db", "0")),
        tls=tls,
    )


def _credentials(text: str) -> tuple[str | None, str | None]:
    if not text:
        return None, None
    username, separator, password = text.partition(":")
    if not separator:
        raise RedisUrlError("user name without password: write user:password@ or :password@ before the hosts")
    if not password:
        raise RedisUrlError("the password is empty: give one after 'user:' or leave out 'user:@'")
    return unquote(username) or None, unquote(password)


def _address(text: str, default_port: int) -> Address:
    text = text.strip()
    if text.startswith("["):
        host, bracket, tail = text[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise RedisUrlError(f"malformed IPv6 address {text!r}: write [address]:port")
        port_text = tail[1:]
    else:
        host, _, port_text = text.partition(":")
    if not host:
        raise RedisUrlError(f"a host is missing: the form is {EXAMPLE}")
    if any(character.isspace() for character in host):
        raise RedisUrlError(f"host {host!r} must not hold white space")
    if not port_text:
        return host, default_port
    if not (port_text.isascii() and port_text.isdecimal()) or not 1 <= int(port_text) <= 65535:
        # Without the text: where the hosts are forgotten, it is the password.
        raise RedisUrlError(f"the port of host {host!r} is not a number from 1 to 65535: the form is {EXAMPLE}")
    return host, int(port_text)


def _options(query: str, known: set[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise RedisUrlError(f"unknown option {name!r}: known are {', '.join(sorted(known))}")
        options[name] = value
    return options


def _database(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise RedisUrlError(f"database {text!r} is not a number of 0 or more")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
