"""Waiting for a condition with a bound."""

from __future__ import annotations

from collections.abc import Callable
from subprocess import SubprocessError

from redis.exceptions import RedisError
from tenacity import RetryError, retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

#: What a server that is just being broken or healed may answer with.
PASSING = (RedisError, OSError, SubprocessError, RuntimeError, KeyError, ValueError)


def wait_until(condition: Callable[[], object], seconds: float, what: str, interval: float = 0.1) -> None:
    """Wait until ``condition()`` is true; errors of a server under way count as not yet.

    Raises
    ------
    TimeoutError
        After ``seconds``; it names ``what`` was waited for, and the last error.

    """
    attempt = retry(
        stop=stop_after_delay(seconds),
        wait=wait_fixed(interval),
        retry=retry_if_exception_type(PASSING) | retry_if_result(lambda result: not result),
    )
    try:
        attempt(condition)()
    except RetryError as error:
        last = error.last_attempt
        reason = f": {last.exception()!r}" if last.failed else ""
        raise TimeoutError(f"not within {seconds:g} s: {what}{reason}") from None
