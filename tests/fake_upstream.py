"""A provider that is none: it answers what a test says, whole or in pieces, slowly, packed, cut, reset, or in garbage.

    with FakeUpstream() as upstream:             # a server in a thread
        upstream.reply = Reply(body=b"...")      # what it answers from now on
        upstream.url, upstream.requests          # where it listens, and what it was asked

A request may choose its reply itself: the header `x-fake` holds the members of a `Reply` that differ, as JSON. Run as a
program (`python -m fake_upstream`), it prints its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple


class Asked(NamedTuple):
    """A request as it came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What it answers, and how.

    Attributes:
        cuts: where the body is cut into pieces, each sent by itself; negative places count from the end.
        first_seconds: before the first byte of the head.
        piece_seconds: before each piece but the first.
        then: `end`: the answer is complete; `close`, `reset`: the connection ends after `sent_bytes` of the body;
            `hang`: nothing more comes.
        sent_bytes: how much of the body is sent when it does not end well.
        packed: the content is packed so.
        framing: how the end of the body is told: by its length, in chunks, or by the connection's end.
        raw: sent instead of an HTTP answer.
    """

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    cuts: Sequence[int] = ()
    first_seconds: float = 0.0
    piece_seconds: float = 0.0
    then: Literal["end", "close", "reset", "hang"] = "end"
    sent_bytes: int | None = None
    packed: Literal["", "gzip", "deflate"] = ""
    framing: Literal["length", "chunks", "connection"] = "length"
    raw: bytes | None = None

    def pieces(self) -> list[bytes]:
        body = self.body
        if self.packed == "gzip":
            body = gzip.compress(body)
        elif self.packed == "deflate":
            body = zlib.compress(body)
        places = sorted({cut % len(body) for cut in self.cuts if body} | {0})
        pieces = [body[a:b] for a, b in zip(places, [*places[1:], len(body)], strict=True)]
        return [piece for piece in pieces if piece]


def stream(body: bytes | str, **more: Any) -> Reply:
    """A recorded event stream."""
    raw = body.encode() if isinstance(body, str) else body
    return Reply(**{"content_type": "text/event-stream", "framing": "chunks", "body": raw, **more})


class FakeUpstream:
    """The server; see the module."""

    def __init__(self, reply: Reply | None = None) -> None:
        self.reply = reply or Reply()
        self.choose: Callable[[Asked], Reply] | None = None
        """Chooses the reply to each request, where there is one."""
        self.replies: list[Reply] = []
        """What the next requests are answered before that, one each."""
        self.requests: list[Asked] = []
        self.left: list[Asked] = []
        """Those whose caller left before the answer was sent."""
        self.open = 0
        self.most_open = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> FakeUpstream:
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=2048, limit=1 << 20)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while (asked := await _read(reader)) is not None:
                self.requests.append(asked)
                self.open += 1
                self.most_open = max(self.open, self.most_open)
                try:
                    if not await self._answer(asked, reader, writer):
                        break
                except ConnectionError:
                    self.left.append(asked)
                    break
                finally:
                    self.open -= 1
        writer.close()

    def _reply_to(self, asked: Asked) -> Reply:
        told = asked.header("x-fake")
        if told is None and self.choose is not None:
            return self.choose(asked)
        if told is None:
            return self.replies.pop(0) if self.replies else self.reply
        members = json.loads(told)
        if "body64" in members:
            members["body"] = base64.b64decode(members.pop("body64"))
        elif isinstance(members.get("body"), str):
            members["body"] = members["body"].encode()
        return replace(self.reply, **members)

    async def _answer(self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        reply = self._reply_to(asked)
        if reply.first_seconds:
            await asyncio.sleep(reply.first_seconds)
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        pieces = reply.pieces()
        headers = {"content-type": reply.content_type, **reply.headers}
        if reply.packed:
            headers["content-encoding"] = reply.packed
        if reply.framing == "chunks":
            headers["transfer-encoding"] = "chunked"
        elif reply.framing == "length":
            headers["content-length"] = str(sum(map(len, pieces)))
        else:
            headers["connection"] = "close"
        head = f"HTTP/1.1 {reply.status} Said\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
        writer.write(head.encode())
        left = sum(map(len, pieces)) if reply.then == "end" or reply.sent_bytes is None else reply.sent_bytes
        for place, whole in enumerate(pieces):
            if place and reply.piece_seconds:
                await asyncio.sleep(reply.piece_seconds)
            piece = whole[:left]
            left -= len(piece)
            if piece:
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if reply.framing == "chunks" else piece)
                await writer.drain()
                if len(pieces) > 1:
                    await asyncio.sleep(0)
            if reader.at_eof():
                raise ConnectionResetError
        match reply.then:
            case "end":
                if reply.framing == "chunks":
                    writer.write(b"0\r\n\r\n")
                await writer.drain()
                return reply.framing != "connection"
            case "hang":
                if not await reader.read(1):
                    raise ConnectionResetError
            case "reset":
                await asyncio.sleep(0.05)  # what was sent is to arrive before
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    asked = Asked(method, target, headers, b"")
    if (asked.header("transfer-encoding") or "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).strip(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return asked._replace(body=body)
    return asked._replace(body=await reader.readexactly(int(asked.header("content-length") or 0)))


@contextlib.contextmanager
def serving(reply: Reply | None = None) -> Iterator[FakeUpstream]:
    """A fake upstream until the block ends."""
    with FakeUpstream(reply) as upstream:
        yield upstream


if __name__ == "__main__":
    with FakeUpstream() as told:
        sys.stdout.write(f"{told.port}\n")
        sys.stdout.flush()
        threading.Event().wait()
