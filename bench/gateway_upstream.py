"""A lean provider, in a process of its own: it answers every chat request at once, as a whole or as a stream.

    python -m bench.gateway_upstream [CHUNKS] [PAUSE_MS]

A request whose body asks for a stream gets CHUNKS chunks, all at once or with PAUSE_MS between every two. It prints its
port.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from typing import ClassVar

import uvloop

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
TEXT = "a few words of an answer "


def whole_answer() -> bytes:
    """What a chat request that asks for no stream is answered."""
    answer = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_754_688_908,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT * 20}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 812,
            "completion_tokens": 118,
            "total_tokens": 930,
            "prompt_tokens_details": {"cached_tokens": 512, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    }
    body = json.dumps(answer).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: req-bench\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


def chunks(count: int) -> list[bytes]:
    """The events of a stream, each as a chunk of the transfer."""
    shared = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_754_688_908,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_bench",
    }
    word = {"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}
    usage = {"prompt_tokens": 812, "completion_tokens": count, "total_tokens": 812 + count}
    events: list[dict[str, object]] = [{**shared, "choices": [word], "usage": None} for _ in range(count)]
    events.append({**shared, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    events.append({**shared, "choices": [], "usage": usage})
    texts = [b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events]
    texts.append(b"data: [DONE]\n\n")
    return [b"%x\r\n%b\r\n" % (len(text), text) for text in texts]


STREAM_HEAD = b"\r\n".join(
    (
        b"HTTP/1.1 200 OK",
        b"content-type: text/event-stream",
        b"x-request-id: req-bench",
        b"transfer-encoding: chunked",
        b"\r\n",
    )
)


class Provider(asyncio.Protocol):
    """One connection."""

    whole = whole_answer()
    stream: ClassVar[list[bytes]] = []
    pause_seconds = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._held = b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._held, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._held) < size:
            return
        body, self._held = self._held[end + 4 : size], self._held[size:]
        if b'"stream":true' not in body:
            self._transport.write(self.whole)
        elif not self.pause_seconds:
            self._transport.write(STREAM_HEAD + b"".join(self.stream) + b"0\r\n\r\n")
        else:
            self._transport.write(STREAM_HEAD + self.stream[0])
            self._place = 1
            asyncio.get_running_loop().call_later(self.pause_seconds, self._next)

    def _next(self) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self.stream[self._place])
        self._place += 1
        if self._place < len(self.stream):
            asyncio.get_running_loop().call_later(self.pause_seconds, self._next)
        else:
            self._transport.write(b"0\r\n\r\n")


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    Provider.stream = chunks(count)
    Provider.pause_seconds = float(sys.argv[2]) / 1000 if len(sys.argv) > 2 else 0.0
    uvloop.run(_serve())


if __name__ == "__main__":
    main()
