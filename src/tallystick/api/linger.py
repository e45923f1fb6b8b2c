"""An answer that comes before the whole body was sent reaches its caller: the rest is read and dropped first.

Closing a connection with bytes unread resets it, and a caller that is still sending sees the reset instead of
the refusal. On connections that stay open the server reads on by itself; this is for those that close.
"""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_SECONDS = 30
"""How long a caller may go on sending after the answer; nothing of it is kept."""


class Linger:
    """A layer around the application; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _closes_after_answer(scope):
            await self._app(scope, receive, send)
            return
        begun, ended = False, False

        async def receive_noting() -> Message:
            nonlocal begun, ended
            begun = True
            message = await receive()
            ended = not message.get("more_body", False)
            return message

        async def send_lingering(message: Message) -> None:
            is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not is_last or ended or (_waits_to_send(scope) and not begun):
                await send(message)
                return
            await send({**message, "more_body": True})
            with anyio.move_on_after(LINGER_SECONDS):
                while not ended:
                    await receive_noting()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(scope, receive_noting, send_lingering)


def _closes_after_answer(scope: Scope) -> bool:
    """Whether a body is announced on a connection that will not be used again."""
    has_body, closes = False, scope["http_version"] == "1.0"
    for name, value in scope["headers"]:
        if name == b"content-length":
            has_body = has_body or value != b"0"
        elif name == b"transfer-encoding":
            has_body = True
        elif name == b"connection":
            closes = closes or b"close" in value.lower()
    return has_body and closes


def _waits_to_send(scope: Scope) -> bool:
    """Whether the caller sends its body only once it is told to go on; told no, it never does."""
    return Headers(scope=scope).get("expect", "").lower() == "100-continue"
