"""Connections to providers: what may be used again is, nothing else, and none is kept for longer than it is of use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tallystick.gateway import pool as pools
from tallystick.gateway.connection import Connection, UpstreamFailed
from tallystick.gateway.pool import Pool, address_of

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEAD = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Use = Callable[[Pool, pools.Address], Awaitable[None]]


async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readuntil(b"\r\n\r\n"):
        writer.write(OK)


def with_provider(serve: Serve, use: Use) -> int:
    """Serve while a pool is used; how many connections were made."""
    made = 0

    async def counted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal made
        made += 1
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(counted, "127.0.0.1", 0)
        pool = Pool()
        await use(pool, address_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        pool.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(run(), 20))
    return made


async def ask(pool: Pool, address: pools.Address, body: bytes = b"") -> Connection:
    return await pool.ask(address, HEAD % len(body), body, connect_seconds=5, silence_seconds=5, total_seconds=10)


async def answer(pool: Pool, address: pools.Address, body: bytes = b"") -> bytes:
    connection = await ask(pool, address, body)
    said = b""
    while data := await connection.next():
        said += data
    pool.give_back(address, connection)
    return said


def test_one_connection_serves_one_call_after_the_other() -> None:
    async def use(pool: Pool, address: pools.Address) -> None:
        for _ in range(50):
            assert await answer(pool, address) == b"ok"

    assert with_provider(plain, use) == 1


def test_what_of_a_request_was_not_sent_yet_is_never_read_as_the_next_one() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(0.3)  # and reads nothing of the body

    async def use(pool: Pool, address: pools.Address) -> None:
        assert await answer(pool, address, b"x" * 30_000_000) == b"ok"
        assert await answer(pool, address) == b"ok"

    assert with_provider(early, use) == 2


def test_an_answer_that_nobody_asked_for_is_given_to_nobody() -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK + b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray")

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK)
            await asyncio.sleep(0.05)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstray")

    async def use(pool: Pool, address: pools.Address) -> None:
        for _ in range(3):
            assert await answer(pool, address) == b"ok"
            await asyncio.sleep(0.1)

    assert with_provider(twice, use) == 3
    assert with_provider(late, use) == 3


def test_connections_that_nobody_needs_any_more_are_closed_while_others_are_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS_MAX", 0.3)
    open_now = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            await plain(reader, writer)
        finally:
            open_now -= 1

    async def use(pool: Pool, address: pools.Address) -> None:
        asked = [await ask(pool, address) for _ in range(40)]
        for connection in asked:
            while await connection.next():
                pass
            pool.give_back(address, connection)
        assert open_now == 40
        for _ in range(10):
            await asyncio.sleep(0.1)
            assert await answer(pool, address) == b"ok"
        await asyncio.sleep(0.05)
        assert open_now == 1

    assert with_provider(serve, use) <= 41


def test_a_call_that_is_given_up_leaves_no_connection_behind() -> None:
    closed = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok")
            await reader.read()
        except ConnectionError:
            pass
        closed += 1

    async def use(pool: Pool, address: pools.Address) -> None:
        for _ in range(20):
            connection = await ask(pool, address)
            assert await connection.next() == b"ok"
            waiting = asyncio.ensure_future(connection.next())
            await asyncio.sleep(0)
            pool.give_back(address, connection)
            with pytest.raises(UpstreamFailed, match="closed here"):
                await waiting
        await asyncio.sleep(0.1)
        assert closed == 20

    assert with_provider(silent, use) == 20
