"""The login at nodes and Sentinels, with a password that may change while the link runs.

A password that comes from a file is read again for each connection: during a rotation old and new are both valid, and
connections that are there already stay.
"""

from __future__ import annotations

import logging
from pathlib import Path

from redis.credentials import CredentialProvider

from . import wire
from .events import event
from .url import RedisTarget

logger = logging.getLogger("link.credentials")


class PasswordFileError(ValueError):
    """A file holds no password; the message says what is wrong with it, and never what is in it."""


def read_password(path: Path) -> str:
    """Return the password that a file holds.

    Raises
    ------
    PasswordFileError
        If it cannot be read, is empty, or holds anything else than one line.

    """
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PasswordFileError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PasswordFileError("is not text in UTF-8") from None
    # Editors and echo end a file with a newline.
    content = content.rstrip("\r\n")
    if not content:
        raise PasswordFileError("is empty: write the password into it")
    if "\n" in content:
        raise PasswordFileError("holds more than one line: the password has to be its only one")
    return content


class Credentials(CredentialProvider):
    """User name and password; redis-py asks for them at each connection too."""

    def __init__(self, username: str | None, password: str, file: Path | None = None) -> None:
        """``password`` is the one to begin with; ``file`` is where a newer one may be."""
        self._username = username
        self._password = password
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password, after the user name if there is one."""
        password = self._current()
        return (password,) if self._username is None else (self._username, password)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same. A file of one line is read at once; redis-py complains of whoever leaves this out."""
        return self.get_credentials()

    def _current(self) -> str:
        if self._file is not None:
            try:
                self._password = read_password(self._file)
            except PasswordFileError as error:
                logger.warning(
                    "going on with the password as it was: %s %s", self._file, error, extra=event("password_kept")
                )
        return self._password


def credentials(target: RedisTarget, *, sentinel: bool = False) -> Credentials | None:
    """Return the login at the nodes, or at the Sentinels; None where there is none."""
    if sentinel:
        username, password, file = target.sentinel_username, target.sentinel_password, target.sentinel_password_file
    else:
        username, password, file = target.username, target.password, target.password_file
    return None if password is None else Credentials(username, password, file)


def auth(login: Credentials | None) -> bytes:
    """Return the command that logs in at this moment; empty without a login."""
    return b"" if login is None else wire.encode_command(b"AUTH", *login.get_credentials())
