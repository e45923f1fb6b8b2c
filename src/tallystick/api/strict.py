"""Routes of the control plane read their JSON bodies as strictly as events are read, and with a limit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from tallystick.api.bodies import bounded_body, media_type_of
from tallystick.app.body_budget import BodyBudget
from tallystick.core.errors import BadInput
from tallystick.core.json_text import read_json, without_bom

CONTROL_BODY_BYTES_MAX = 4 * 1024 * 1024
"""Largest body of a control-plane request; contracts and provider answers are far smaller."""


class StrictRequest(Request):
    """A request whose body is bounded and whose JSON is exact (see `core.json_text`)."""

    async def body(self) -> bytes:
        """The body, of at most `CONTROL_BODY_BYTES_MAX` bytes and of type application/json."""
        if not hasattr(self, "_body"):
            media_type = media_type_of(self)
            if media_type != "application/json" and not media_type.endswith("+json"):
                raise BadInput(
                    "unsupported_media_type",
                    f"the body is {media_type!r}" if media_type else "the request does not say what its body is",
                    next_step="send JSON, and set Content-Type to application/json",
                    where="Content-Type",
                )
            self._body = await read_whole(self)
        return self._body

    async def json(self) -> Any:
        """The body's one JSON value."""
        body = without_bom(await self.body())
        value = read_json(body)
        if b"\\u0000" in body and _holds_nul(value):
            raise BadInput("invalid_text", "a text in the body holds a NUL character", next_step="leave it out")
        return value


def _holds_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case list():
            return any(_holds_nul(item) for item in value)
        case dict():
            return any("\0" in name or _holds_nul(item) for name, item in value.items())
    return False


class StrictRoute(APIRoute):
    """A FastAPI route that reads its body through `StrictRequest`.

    The framework wraps whatever the body raises in an HTTP exception of its own; `answer_http_exception`
    looks for our error as its cause.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, given a strict request instead of the plain one."""
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


async def read_whole(request: Request, bytes_max: int = CONTROL_BODY_BYTES_MAX) -> bytes:
    """The body in memory; what `bounded_body` refuses is refused.

    Raises:
        BadInput, Unavailable: see `bounded_body`.
    """
    budget: BodyBudget = request.app.state.body_budget
    async with bounded_body(request, bytes_max, budget) as body:
        return body
