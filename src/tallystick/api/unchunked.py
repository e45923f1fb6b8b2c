"""Answers to callers of HTTP/1.0, who know no chunks: where no length is known, the connection's end is the answer's.

Some proxies speak it to those behind them unless they are told otherwise.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_UNTOLD_BYTES = 1 << 62
"""Stands for the length of an answer that nobody knows beforehand."""


async def without_chunks(app: ASGIApp, cycle: RequestResponseCycle, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request over HTTP/1.0; its connection is closed after the answer in any case.

    Args:
        cycle: the server's, which would send chunks otherwise.
    """
    is_untold = False

    async def send_unchunked(message: Message) -> None:
        nonlocal is_untold
        if message["type"] == "http.response.start":
            headers: Any = message.get("headers", [])
            is_untold = not any(name.lower() == b"content-length" for name, _ in headers)
            if is_untold:
                cycle.chunked_encoding, cycle.expected_content_length = False, _UNTOLD_BYTES
        elif is_untold and not message.get("more_body", False):
            cycle.expected_content_length = len(message.get("body", b""))  # so that not a byte is missing
        await send(message)

    await app(scope, receive, send_unchunked)
