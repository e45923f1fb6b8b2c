"""Reading a body with a limit on everything: bytes on the wire, bytes unpacked, bytes of all callers together.

A body that says it is too large is refused before a byte of it is read, one that turns out too large as
soon as it passes the limit; what is refused is never held in memory.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from email.message import Message

from starlette.requests import Request

from tallystick.app.body_budget import BodyBudget
from tallystick.core.errors import BadInput

_GZIP_WINDOW = 31  # zlib's way of saying: a gzip header, the largest window


def media_type_of(request: Request) -> str:
    """The media type in lower case and without parameters, "" when the request names none.

    Raises:
        BadInput: `unsupported_media_type` for a charset other than UTF-8.
    """
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    charset = header.get_param("charset", "utf-8")
    if not isinstance(charset, str) or charset.lower() not in ("utf-8", "utf8", "us-ascii"):
        raise BadInput(
            "unsupported_media_type",
            f"the charset {charset!r} is not read here",
            next_step="send the body as UTF-8",
            where="Content-Type",
        )
    named = request.headers.get("content-type", "").partition(";")[0]
    return named.strip().lower()


@asynccontextmanager
async def bounded_body(request: Request, bytes_max: int, budget: BodyBudget) -> AsyncIterator[bytes]:
    """The whole body, unpacked, of at most `bytes_max` bytes; it counts towards `budget` until the block ends.

    Raises:
        BadInput: `body_too_large`, `empty_body`, `malformed_gzip`, `unsupported_content_encoding`.
        Unavailable: `busy`.
    """
    _check_announced_length(request, bytes_max)
    unpack = _unpacker(request.headers.get("content-encoding", "identity"), bytes_max)
    parts: list[bytes] = []
    held = 0
    try:
        received = 0
        async with aclosing(request.stream()) as stream:
            async for chunk in stream:
                received += len(chunk)
                if received > bytes_max:
                    raise too_large(bytes_max)
                part = unpack.feed(chunk)
                budget.take(len(part))
                held += len(part)
                parts.append(part)
        unpack.finish()
        # Joining holds the bytes twice for a moment; dropping the parts at once keeps it a moment.
        body = b"".join(parts)
        parts.clear()
        if not body:
            raise BadInput("empty_body", "the request has no body", next_step="send what the address documents")
        yield body
    finally:
        budget.give_back(held)


def too_large(bytes_max: int) -> BadInput:
    """The refusal of a body past the limit."""
    return BadInput(
        "body_too_large",
        f"the body has more than {bytes_max:,} bytes",
        next_step="send it in several requests; the limit is set by the operator",
    )


def check_values(body: bytes, values_max: int) -> None:
    """Refuse a body of many tiny values before it is decoded: an empty object takes 3 bytes here and 64 decoded.

    Commas are counted, those in texts as well: it is a bound on memory, not a rule about data.

    Raises:
        BadInput: `too_many_values`.
    """
    if body.count(b",") > values_max:
        raise BadInput(
            "too_many_values",
            f"the body holds more than {values_max:,} values",
            next_step="send it in several requests",
        )


def _check_announced_length(request: Request, bytes_max: int) -> None:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > bytes_max):
        raise too_large(bytes_max)


class _Plain:
    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def finish(self) -> None:
        return


class _Gzip:
    """Gzip, one member or several, unpacked as it arrives; it stops at the limit, however small the packed form."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._unpacked = 0
        self._member = zlib.decompressobj(_GZIP_WINDOW)
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        out: list[bytes] = []
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP_WINDOW)
            self._begun = True
            try:
                part = self._member.decompress(chunk, self._bytes_max - self._unpacked + 1)
            except zlib.error as error:
                raise _malformed_gzip(str(error)) from None
            self._unpacked += len(part)
            if self._unpacked > self._bytes_max:
                raise too_large(self._bytes_max)
            out.append(part)
            chunk = self._member.unconsumed_tail or self._member.unused_data
        return b"".join(out)

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise _malformed_gzip("it ends in the middle")


def _malformed_gzip(why: str) -> BadInput:
    return BadInput(
        "malformed_gzip",
        f"the body is not gzip although Content-Encoding says so: {why}",
        next_step="pack it again, or send it unpacked without Content-Encoding",
        where="Content-Encoding",
    )


def _unpacker(encoding: str, bytes_max: int) -> _Plain | _Gzip:
    match encoding.strip().lower():
        case "identity" | "":
            return _Plain()
        case "gzip" | "x-gzip":
            return _Gzip(bytes_max)
        case other:
            raise BadInput(
                "unsupported_content_encoding",
                f"the content encoding {other!r} is not read here",
                next_step="send the body unpacked, or packed with gzip",
                where="Content-Encoding",
            )
