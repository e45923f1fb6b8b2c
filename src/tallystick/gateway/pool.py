"""Connections to the providers, kept open between requests: one pool for each process."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import NamedTuple
from urllib.parse import urlsplit

from tallystick.gateway.connection import Connection, UpstreamFailed

IDLE_SECONDS_MAX = 15.0
"""A connection that was free for longer is not used again: the provider may be closing it at that moment."""
IDLE_MAX = 1024
"""Free connections that are kept to one address."""


class Address(NamedTuple):
    """Where a provider listens.

    Attributes:
        host_header: the host as requests name it.
        path: what addresses begin with, without a slash at its end.
    """

    host: str
    port: int
    is_tls: bool
    host_header: bytes
    path: bytes


def address_of(base_url: str) -> Address:
    """The address of a checked base URL: http or https, no credentials, no query."""
    parts = urlsplit(base_url)
    is_tls = parts.scheme == "https"
    host = parts.hostname or ""
    port = parts.port or (443 if is_tls else 80)
    return Address(host, port, is_tls, parts.netloc.encode("idna" if not parts.netloc.isascii() else "ascii"),
                   parts.path.rstrip("/").encode())  # fmt: skip


class Pool:
    """Free connections by address; the one that was used last is used next."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._free: dict[tuple[str, int, bool], deque[Connection]] = {}
        self._tls: ssl.SSLContext | None = None

    async def ask(
        self,
        address: Address,
        request: bytes,
        body: bytes,
        *,
        connect_seconds: float,
        silence_seconds: float,
        total_seconds: float,
    ) -> Connection:
        """Send a request and wait for the head of its answer; the connection has it.

        Read its body to the end with `Connection.next`, or `abort` it, and then `give_back` the connection.

        Raises:
            UpstreamFailed
        """
        connection = self._take(address)
        if connection is None:
            connection = await self._connect(address, min(connect_seconds, total_seconds))
        try:
            await connection.ask(request, body, silence_seconds=silence_seconds, total_seconds=total_seconds)
        except BaseException:
            connection.abort()
            raise
        return connection

    def give_back(self, address: Address, connection: Connection) -> None:
        """The answer is read, or not wanted any more."""
        if not connection.is_free or not connection.is_usable:  # such as one that answered before it had read all
            connection.abort()
            return
        free = self._free.setdefault(address[:3], deque())
        free.append(connection)
        self._let_go(free)

    def _let_go(self, free: deque[Connection]) -> None:
        """Close what is too many, or was free for too long: the first are those that were used longest ago."""
        oldest = self._loop.time() - IDLE_SECONDS_MAX
        while free and (len(free) > IDLE_MAX or free[0].idle_since < oldest or not free[0].is_open):
            free.popleft().close()

    def close(self) -> None:
        """Close what is free."""
        for free in self._free.values():
            for connection in free:
                connection.close()
        self._free.clear()

    def _take(self, address: Address) -> Connection | None:
        free = self._free.get(address[:3])
        if free is None:
            return None
        self._let_go(free)
        oldest = self._loop.time() - IDLE_SECONDS_MAX
        while free:
            connection = free.pop()
            if connection.is_open and connection.idle_since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, address: Address, seconds: float) -> Connection:
        tls = None
        if address.is_tls:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            tls = self._tls
        try:
            async with asyncio.timeout(seconds):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop),
                    address.host,
                    address.port,
                    ssl=tls,
                    server_hostname=address.host if tls is not None else None,
                )
        except TimeoutError:
            raise UpstreamFailed(
                "unreachable", f"the provider took no connection for {seconds:g} seconds", sent=False
            ) from None
        except OSError as error:  # ssl.SSLError is one
            detail = f"the provider cannot be reached: {error.strerror or error}"
            raise UpstreamFailed("unreachable", detail, sent=False) from None
        return connection
