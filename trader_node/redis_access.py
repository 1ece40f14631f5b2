"""Reaches Redis directly, past the link: for the commands that show people and tests what is really there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from trader_node.link import access
from trader_node.link.credentials import credentials
from trader_node.link.secured import over_tls
from trader_node.link.tls import problem
from trader_node.link.url import Address, RedisTarget

TIMEOUT_SECS = 0.8
ASK_ALL_SECS = 1.2


class RedisAccessError(RuntimeError):
    """Redis cannot be reached as asked; the message names the part and what to do."""


def client(address: Address, target: RedisTarget, timeout: float = TIMEOUT_SECS, *, sentinel: bool = False) -> Redis:
    """Return a client of one server; it connects at its first command.

    Parameters
    ----------
    address
        Host and port of the server.
    target
        Where credentials, database and TLS come from.
    timeout
        Seconds for connecting and for each answer.
    sentinel
        The server is a Sentinel: it has no databases, and credentials of its own.

    """
    host, port = address
    options: dict[str, Any] = {} if sentinel else {"db": target.db}
    redis = Redis(
        host=host,
        port=port,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        credential_provider=credentials(target, sentinel=sentinel),
        **options,
    )
    if target.tls:
        over_tls(redis, target.tls_settings)
    return redis


def ask_all[T](
    addresses: Sequence[Address], ask: Callable[[Address], T], timeout: float = ASK_ALL_SECS
) -> list[T | Exception]:
    """Ask all servers at once and return an answer or the error of each, in the order of the addresses.

    At once, so that the slowest bounds the whole and not their sum; and within ``timeout`` seconds whatever happens: a
    lookup of the name of a container that is down can take 20 s, which no socket timeout covers.
    """
    answers: list[T | Exception] = [TimeoutError(f"no answer within {timeout:g} s") for _ in addresses]

    def run(index: int, address: Address) -> None:
        try:
            answers[index] = ask(address)
        except (RedisError, OSError) as error:
            answers[index] = RedisAccessError(text) if (text := problem(error)) else error

    # Daemon threads, because a thread pool would wait for the slow ones at exit.
    threads = [
        threading.Thread(target=run, args=(index, address), daemon=True) for index, address in enumerate(addresses)
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return list(answers)


def find_master(target: RedisTarget, timeout: float = TIMEOUT_SECS) -> Address:
    """Return the address of the server to read from: what most Sentinels say, or the single server of the URL.

    Raises
    ------
    RedisAccessError
        If no Sentinel answers, or none knows the master name.

    """
    if not target.sentinel:
        return target.hosts[0]

    def ask(address: Address) -> Address | None:
        with client(address, target, timeout, sentinel=True) as sentinel:
            answer = sentinel.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", target.master_name)
        return None if answer is None else (_text(answer[0]), int(answer[1]))

    answers = ask_all(target.hosts, ask)
    found = Counter(answer for answer in answers if isinstance(answer, tuple))
    if found:
        return found.most_common(1)[0][0]
    if any(answer is None for answer in answers):
        raise RedisAccessError(
            f"no Sentinel knows a master named {target.master_name!r}: fix the name after the hosts ({target})"
        )
    hosts = ", ".join(f"{host}:{port}" for host, port in target.hosts)
    if any(isinstance(answer, AuthenticationError | NoPermissionError) for answer in answers):
        raise RedisAccessError(
            f"the Sentinels at {hosts} refuse the login ({answers[0]}): check {access.SENTINEL_USERNAME} and "
            f"{access.SENTINEL_PASSWORD}"
        )
    raise RedisAccessError(f"no Sentinel answers at {hosts} ({answers[0]}): are they running?")


def open_master(target: RedisTarget, timeout: float = TIMEOUT_SECS) -> Redis:
    """Return a client of the master that has answered a PING.

    Raises
    ------
    RedisAccessError
        If the master is not found, does not answer or refuses the credentials.

    """
    return open_server(find_master(target, timeout), target, timeout)


def open_server(address: Address, target: RedisTarget, timeout: float = TIMEOUT_SECS) -> Redis:
    """Return a client of the server at an address that has answered a PING.

    Raises
    ------
    RedisAccessError
        If it does not answer or refuses the credentials.

    """
    redis = client(address, target, timeout)
    where = f"{address[0]}:{address[1]}"
    try:
        redis.ping()
    except AuthenticationError as error:
        raise RedisAccessError(f"Redis at {where} refuses the login ({error}): check user name and password") from None
    except (RedisError, OSError) as error:
        reason = problem(error)
        raise RedisAccessError(
            f"Redis at {where}: {reason}" if reason else f"Redis at {where} does not answer ({error}): is it running?"
        ) from None
    return redis


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
