"""What routes are given: the open runtime, names from the address, and bodies that are not JSON models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path
from starlette.requests import Request

from tallystick.api.bodies import media_type_of
from tallystick.api.strict import CONTROL_BODY_BYTES_MAX, read_whole
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput


def get_runtime(request: Request) -> Runtime:
    """The runtime that the application was created over."""
    runtime: Runtime = request.app.state.runtime
    return runtime


OpenRuntime = Annotated[Runtime, Depends(get_runtime)]
OrgId = Annotated[str, Path(description="The customer.", min_length=1, max_length=512)]
InvoiceId = Annotated[str, Path(description="The invoice's id, or its number.", min_length=1, max_length=128)]


async def refuse_nul(request: Request) -> None:
    """No name here holds a NUL character, and the database has no way to store or compare one.

    Raises:
        BadInput: `invalid_text`.
    """
    if "\0" in request.scope["path"] or b"%00" in request.scope["query_string"]:
        raise BadInput("invalid_text", "the address holds a NUL character", next_step="leave it out")


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body as it was sent: its media type, and its bytes."""

    media_type: str
    content: bytes


def raw_body(*media_types: str, bytes_max: int = CONTROL_BODY_BYTES_MAX) -> Callable[[Request], Awaitable[RawBody]]:
    """A dependency that reads a body of one of these types.

    Raises:
        BadInput: `unsupported_media_type`, or what `bounded_body` raises.
    """

    async def read(request: Request) -> RawBody:
        media_type = media_type_of(request)
        if media_type not in media_types:
            raise BadInput(
                "unsupported_media_type",
                f"the body is {media_type!r}" if media_type else "the request does not say what its body is",
                next_step="set Content-Type to " + " or ".join(media_types),
                where="Content-Type",
            )
        return RawBody(media_type, await read_whole(request, bytes_max))

    return read


def describe_raw_body(contents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The `openapi_extra` of a route with a raw body: media type to schema."""
    content = {media_type: {"schema": schema} for media_type, schema in contents.items()}
    return {"requestBody": {"required": True, "content": content}}
