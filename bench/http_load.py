"""A lean sender of HTTP requests, in a process of its own: it must not take the time that it measures.

    python -m bench.http_load PORT CONNECTIONS BATCH EVENTS ORGS PREFIX [FIRST]

Requests are made beforehand (of many events, piece by piece), written as they are, and of each answer only the status,
the length and the counts at its end are looked at. It prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from time import perf_counter, process_time

import uvloop

from bench.traffic import bodies

PIECE_EVENTS = 500_000
"""How many events are made ahead of sending them."""
_LENGTH = re.compile(rb"content-length: (\d+)")


class Sender(asyncio.Protocol):
    """One connection: sends the next request as soon as the answer to the last is here."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None], latencies: list[float], expected: bytes):
        self._requests, self._done, self._latencies, self._expected = requests, done, latencies, expected
        self._answer = b""
        self._wanted = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._answer, self._wanted = b"", 0
        self._sent = perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._wanted:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._answer, 0, end)
            assert length is not None, self._answer[:500]
            self._wanted = end + 4 + int(length[1])
        if len(self._answer) < self._wanted:
            return
        self._latencies.append(perf_counter() - self._sent)
        if not self._answer.endswith(self._expected):
            self._done.set_exception(AssertionError(self._answer[:300] + b" ... " + self._answer[-100:]))
            self._transport.close()
            return
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


def _requests(found: Iterator[bytes]) -> list[bytes]:
    head = (
        b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    )
    return [head % len(body) + body for body in found]


async def _send_all(
    port: int, connections: int, requests: list[bytes], latencies: list[float], expected: bytes
) -> None:
    loop = asyncio.get_running_loop()
    supply = iter(requests)
    done = [loop.create_future() for _ in range(connections)]
    for future in done:
        await loop.create_connection(
            lambda future=future: Sender(supply, future, latencies, expected), "127.0.0.1", port
        )
    await asyncio.gather(*done)


def main() -> None:
    port, connections, batch, events, orgs = map(int, sys.argv[1:6])
    prefix, first = sys.argv[6], int(sys.argv[7]) if len(sys.argv) > 7 else 0
    expected = b'"accepted":%d,"duplicate":0,"conflict":0,"rejected":0}' % batch
    latencies: list[float] = []
    seconds = cpu = 0.0
    for start in range(0, events, PIECE_EVENTS):
        requests = _requests(bodies(prefix, min(PIECE_EVENTS, events - start), batch, orgs=orgs, first=first + start))
        begun, cpu_before = perf_counter(), process_time()
        uvloop.run(_send_all(port, connections, requests, latencies, expected))
        seconds += perf_counter() - begun
        cpu += process_time() - cpu_before
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * share)] * 1000 for share in (0.5, 0.99))
    print(json.dumps({"seconds": seconds, "events": events, "p50_ms": p50, "p99_ms": p99, "cpu_seconds": cpu}))


main()
