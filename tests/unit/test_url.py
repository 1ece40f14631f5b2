"""Connection strings."""

from __future__ import annotations

import pytest

from trader_node.link.url import RedisTarget, RedisUrlError, parse_redis_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "sentinel://s1:26379,s2:26380,s3/trading",
            RedisTarget(True, (("s1", 26379), ("s2", 26380), ("s3", 26379)), "trading"),
        ),
        ("sentinel://s1", RedisTarget(True, (("s1", 26379),), "mymaster")),
        ("sentinel://s1/", RedisTarget(True, (("s1", 26379),), "mymaster")),
        ("sentinel://u:p@s1/m?db=3", RedisTarget(True, (("s1", 26379),), "m", "u", "p", 3)),
        ("sentinel://:p@s1/m", RedisTarget(True, (("s1", 26379),), "m", None, "p")),
        ("sentinels://s1/m", RedisTarget(True, (("s1", 26379),), "m", tls=True)),
        ("redis://r", RedisTarget(False, (("r", 6379),))),
        ("redis://r:7000/4", RedisTarget(False, (("r", 7000),), db=4)),
        ("rediss://r?db=5", RedisTarget(False, (("r", 6379),), db=5, tls=True)),
        ("redis://[::1]:7000/0", RedisTarget(False, (("::1", 7000),))),
        ("redis://[::1]", RedisTarget(False, (("::1", 6379),))),
        # '@', '/' and ':' in a password, escaped or not.
        ("redis://u:p%40%2F%3A@r", RedisTarget(False, (("r", 6379),), username="u", password="p@/:")),  # noqa: S106
        ("redis://u:p?q@r?db=1", RedisTarget(False, (("r", 6379),), username="u", password="p?q", db=1)),  # noqa: S106
        ("redis://u:p@q:x@r", RedisTarget(False, (("r", 6379),), username="u", password="p@q:x")),  # noqa: S106
        ("  redis://r \n", RedisTarget(False, (("r", 6379),))),
    ],
)
def test_good(url: str, expected: RedisTarget) -> None:
    assert parse_redis_url(url) == expected


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("", "unknown scheme '(none)'"),
        ("s1:26379", "unknown scheme"),
        ("http://s1", "'http'"),
        ("sentinel://", "a host is missing"),
        ("sentinel://s1,,s2/m", "a host is missing"),
        ("sentinel://s1,s1:26379/m", "listed twice"),
        ("sentinel://s1:0/m", "port of host 's1'"),
        ("sentinel://s1:65536/m", "port of host 's1'"),
        ("sentinel://s1:six/m", "port of host 's1'"),
        ("sentinel://s1:٣/m", "port of host 's1'"),
        ("sentinel://s 1/m", "white space"),
        ("sentinel://s1/a/b", "must not hold '/'"),
        ("sentinel://s1/m?db=x", "database 'x'"),
        ("sentinel://s1/m?timeout=3", "unknown option 'timeout'"),
        ("redis://a,b", "takes one host"),
        ("redis://a/1?db=2", "given twice"),
        ("redis://a/-1", "database '-1'"),
        ("redis://[::1:6379", "malformed IPv6"),
        ("redis://user@a", "without password"),
        ("redis://user:@a", "password is empty"),
        ("redis://u:p#q@a", "%23"),
    ],
)
def test_bad(url: str, names: str) -> None:
    with pytest.raises(RedisUrlError) as caught:
        parse_redis_url(url)
    assert names in str(caught.value)


PASSWORD = "s3cr3t"  # noqa: S105


@pytest.mark.parametrize(
    "url",
    [
        f"sentinel://user:{PASSWORD}@s1:x/m",
        f"sentinel://user:{PASSWORD}@/m",
        f"sentinel://user:{PASSWORD}@s1,s1/m",
        f"redis://user:{PASSWORD}@a,b/0",
        f"redis://user:{PASSWORD}@a/x",
        f"redis://user:{PASSWORD}@[::1",
        f"redis://{PASSWORD}@a",
        f"redis://user:{PASSWORD}#@a",
        f"redis://user:{PASSWORD}@a?x=1",
        f"redis://user:a/{PASSWORD}@host:99999",
        f"redis://user:a?{PASSWORD}@host:99999",
        # The host is forgotten.
        f"redis://user:{PASSWORD}",
        f"redis://:{PASSWORD}/0",
    ],
)
def test_an_error_never_shows_the_password(url: str) -> None:
    with pytest.raises(RedisUrlError) as caught:
        parse_redis_url(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"sentinel://user:{PASSWORD}@s1,s2:1/m?db=2", "sentinel://s1:26379,s2:1/m?db=2"),
        (f"redis://:{PASSWORD}@[::1]/3", "redis://[::1]:6379/3"),
    ],
)
def test_neither_text_nor_repr_show_the_password(url: str, shown: str) -> None:
    target = parse_redis_url(url)
    assert str(target) == shown
    assert PASSWORD not in repr(target)
    assert target.password == PASSWORD
    # The text is a connection string itself, of the same place.
    assert parse_redis_url(shown).hosts == target.hosts
