"""Connections of redis-py over TLS with the contexts of ``tls``; its own take no other name than the address."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any, cast

from redis import Connection, Redis
from redis.asyncio import Connection as AsyncConnection
from redis.asyncio import Redis as AsyncRedis

from .tls import Tls, context


class TlsConnection(Connection):
    """A blocking connection."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        self._tls = tls
        cast(Any, super()).__init__(**options)

    def _connect(self) -> socket.socket:
        plain: socket.socket = cast(Any, super())._connect()
        try:
            return context(self._tls).wrap_socket(plain, server_hostname=self._tls.name(self.host))
        except OSError:
            plain.close()
            raise


class AsyncTlsConnection(AsyncConnection):
    """A connection for asyncio."""

    def __init__(self, *, tls: Tls, **options: Any) -> None:
        self._tls = tls
        super().__init__(**options)

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {
            **super()._connection_arguments(),
            "ssl": context(self._tls),
            "server_hostname": self._tls.name(self.host),
        }


def over_tls(client: Redis | AsyncRedis, tls: Tls) -> None:
    """Have a client that has not connected yet use TLS."""
    client.connection_pool.connection_class = TlsConnection if isinstance(client, Redis) else AsyncTlsConnection
    client.connection_pool.connection_kwargs["tls"] = tls
