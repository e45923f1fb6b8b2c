"""What is refused before it is a request at all: status, code, what happened, and what to do."""

from __future__ import annotations

from typing import Final

Refused = tuple[int, str, str, str]

MALFORMED: Final[Refused] = (
    400,
    "malformed_http",
    "what was sent is not an HTTP request: its first line, a header, a length or a chunk is malformed",
    "send HTTP/1.1; addresses are shorter than 64 KiB",
)
HEAD_TOO_LARGE: Final[Refused] = (
    431,
    "head_too_large",
    "the first line and the headers of the request have more than 64 KiB together",
    "send fewer or shorter headers",
)
TOO_SLOW: Final[Refused] = (
    408,
    "request_too_slow",
    "the request did not arrive in the time that there is for it",
    "send it again, without pauses",
)
NO_UPGRADE: Final[Refused] = (
    400,
    "upgrade_not_supported",
    "the request wants to go on in another protocol, such as WebSocket or HTTP/2, and only HTTP/1.1 is spoken here",
    "send it as plain HTTP/1.1, without Upgrade",
)
