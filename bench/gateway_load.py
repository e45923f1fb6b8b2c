"""A lean caller of chat completions, in a process of its own: it must not take the time that it measures.

    python -m bench.gateway_load PORT PATH TOKENS CONNECTIONS REQUESTS KIND

TOKENS are the keys, separated by commas, that the connections take turns with; KIND is `whole` or `stream`. Each
connection sends its next request when the answer to the last is complete. It prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from time import perf_counter, process_time

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
PROMPT = "Tell me, in a few words, what this document is about: " + "lorem ipsum dolor sit amet " * 40


def request(path: str, token: str, *, stream: bool) -> bytes:
    """A request, as the official client would send it."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 400}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    content = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\naccept: application/json\r\n"
        f"content-type: application/json\r\nuser-agent: bench\r\nx-tally-action: brief\r\n"
        f"content-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Caller(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes, supply: Iterator[int], done: asyncio.Future[None], *, stream: bool) -> None:
        self._request, self._supply, self._done, self._stream = request, supply, done, stream
        self.whole: list[float] = []
        self.first: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        if next(self._supply, None) is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
            return
        self._held = b""
        self._wanted = 0
        self._is_first = True
        self._sent = perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._stream:
            if self._is_first:
                self._held += data
                end = self._held.find(b"\r\n\r\n")
                if end < 0 or len(self._held) <= end + 4:
                    return
                self._is_first = False
                self.first.append(perf_counter() - self._sent)
                if not self._held.startswith(b"HTTP/1.1 200"):
                    self._fail(self._held)
                data, self._held = self._held, b""
            self._held = (self._held + data)[-64:]
            if not self._held.endswith(b"0\r\n\r\n"):
                return
            if b"[DONE]" not in self._held:
                self._fail(self._held)
                return
        else:
            self._held += data
            if not self._wanted:
                end = self._held.find(b"\r\n\r\n")
                length = _LENGTH.search(self._held, 0, end) if end >= 0 else None
                if length is None:
                    return
                self._wanted = end + 4 + int(length[1])
            if len(self._held) < self._wanted:
                return
            if not self._held.startswith(b"HTTP/1.1 200"):
                self._fail(self._held)
                return
        self.whole.append(perf_counter() - self._sent)
        self._send()

    def _fail(self, answer: bytes) -> None:
        if not self._done.done():
            self._done.set_exception(AssertionError(answer[:2000]))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionError("the server closed the connection"))


async def _call_all(
    port: int, path: str, tokens: list[str], connections: int, requests: int, *, stream: bool
) -> list[Caller]:
    loop = asyncio.get_running_loop()
    supply = iter(range(requests))
    callers = []
    for place in range(connections):
        sent = request(path, tokens[place % len(tokens)], stream=stream)
        callers.append(Caller(sent, supply, loop.create_future(), stream=stream))
    for caller in callers:
        await loop.create_connection(lambda caller=caller: caller, "127.0.0.1", port)
    await asyncio.gather(*(caller._done for caller in callers))
    return callers


def main() -> None:
    port, path, tokens = int(sys.argv[1]), sys.argv[2], sys.argv[3].split(",")
    connections, requests, is_stream = int(sys.argv[4]), int(sys.argv[5]), sys.argv[6] == "stream"
    begun, cpu_before = perf_counter(), process_time()
    callers = uvloop.run(_call_all(port, path, tokens, connections, requests, stream=is_stream))
    seconds, cpu = perf_counter() - begun, process_time() - cpu_before
    whole = sorted(one for caller in callers for one in caller.whole)
    first = sorted(one for caller in callers for one in caller.first) or [0.0]
    told = {
        "seconds": seconds,
        "requests": requests,
        "p50_ms": whole[len(whole) // 2] * 1000,
        "p99_ms": whole[len(whole) * 99 // 100] * 1000,
        "first_p50_ms": first[len(first) // 2] * 1000,
        "cpu_seconds": cpu,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
