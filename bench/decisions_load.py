"""A lean caller of authorize and settle, in a process of its own: it must not take the time that it measures.

    python -m bench.decisions_load PORT CONNECTIONS PAIRS ORGS PREFIX

Each connection asks, takes the hold's id out of the answer, and settles with one usage event; then the next pair. It
prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from time import perf_counter, process_time

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)")
_HEAD = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
_AUTHORIZE = (
    b'{"org_id":"%b","request_id":"%b","user_id":"user-%d","session_id":"session-%d","feature":"briefs",'
    b'"environment":"production","action":"brief","provider":"openai","model":"gpt-4o-mini",'
    b'"meters":{"tokens_in":2300,"tokens_out":501}}'
)
_SETTLE = (
    b'{"org_id":"%b","hold_id":"%b","outcome":"success","events":[{"request_id":"%b-call","time":"%b",'
    b'"provider":"openai","model":"gpt-4o-mini","meters":{"tokens_in":%d,"tokens_out":%d},"latency_ms":840}]}'
)


def org_name(number: int) -> str:
    """The org of that number, as the bench has made them."""
    return f"wallet-{number}"


class Caller(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, pairs: Iterator[int], orgs: int, prefix: str, done: asyncio.Future[None]) -> None:
        self._pairs, self._orgs, self._prefix, self._done = pairs, orgs, prefix.encode(), done
        self.authorized: list[float] = []
        self.settled: list[float] = []
        self._answer = b""
        self._hold_id = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._next_pair()

    def _next_pair(self) -> None:
        number = next(self._pairs, None)
        if number is None:
            self._transport.close()
            self._done.set_result(None)
            return
        mixed = number * 2654435761 % 2**32
        self._org, self._id = org_name(mixed % self._orgs).encode(), b"%b-%08x" % (self._prefix, mixed)
        self._used = (300 + mixed % 2000, 1 + mixed % 500)
        self._hold_id = b""
        self._send(b"/v1/authorize", _AUTHORIZE % (self._org, self._id, mixed % 9973, mixed % 99991))

    def _send(self, path: bytes, body: bytes) -> None:
        self._answer = b""
        self._sent = perf_counter()
        self._transport.write(_HEAD % (path, len(body), body))

    def data_received(self, data: bytes) -> None:
        self._answer += data
        end = self._answer.find(b"\r\n\r\n")
        length = _LENGTH.search(self._answer, 0, end) if end >= 0 else None
        if length is None or len(self._answer) < end + 4 + int(length[1]):
            return
        seconds = perf_counter() - self._sent
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(AssertionError(self._answer[:2000]))
            self._transport.close()
        elif self._hold_id:
            self.settled.append(seconds)
            self._next_pair()
        else:
            self.authorized.append(seconds)
            start = self._answer.index(b'"hold_id":"') + 11
            self._hold_id = self._answer[start : self._answer.index(b'"', start)]
            time = datetime.now(UTC).isoformat().encode()
            self._send(
                b"/v1/settle",
                _SETTLE % (self._org, self._hold_id, self._id, time, *self._used),
            )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


async def _call_all(port: int, connections: int, pairs: int, orgs: int, prefix: str) -> list[Caller]:
    loop = asyncio.get_running_loop()
    supply = iter(range(pairs))
    done = [loop.create_future() for _ in range(connections)]
    callers = [Caller(supply, orgs, prefix, future) for future in done]
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)
    await asyncio.gather(*done)
    return callers


def main() -> None:
    port, connections, pairs, orgs = map(int, sys.argv[1:5])
    begun, cpu_before = perf_counter(), process_time()
    callers = uvloop.run(_call_all(port, connections, pairs, orgs, sys.argv[5]))
    seconds, cpu = perf_counter() - begun, process_time() - cpu_before
    authorized = sorted(one for caller in callers for one in caller.authorized)
    settled = sorted(one for caller in callers for one in caller.settled)
    print(
        json.dumps(
            {
                "seconds": seconds,
                "pairs": pairs,
                "authorize_p50_ms": authorized[len(authorized) // 2] * 1000,
                "authorize_p99_ms": authorized[len(authorized) * 99 // 100] * 1000,
                "settle_p50_ms": settled[len(settled) // 2] * 1000,
                "settle_p99_ms": settled[len(settled) * 99 // 100] * 1000,
                "cpu_seconds": cpu,
            }
        )
    )


if __name__ == "__main__":
    main()
