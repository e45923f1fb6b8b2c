"""Unpacking a body that was packed for its way (RFC 9110, 8.4): gzip, deflate, br, one inside of another.

It is unpacked to be read; what goes to the caller stays as it came. A small body can unpack to gigabytes, so that what
comes out is bounded.
"""

from __future__ import annotations

import re
import zlib
from typing import Final, Protocol

import brotli

from tallystick.core.errors import BadInput

UNPACKED_BYTES_MAX: Final = 64 * 1024 * 1024
CODINGS_MAX: Final = 3
READABLE: Final = ("gzip", "x-gzip", "deflate", "br", "identity")
"""The codings that can be unpacked; an upstream is to be asked for no others."""


class Unpacker:
    """Unpacks a body as it comes."""

    def __init__(self, coding: str, bytes_max: int = UNPACKED_BYTES_MAX) -> None:
        """Begin.

        Args:
            coding: the `Content-Encoding` header, empty for none.
            bytes_max: how much may come out.

        Raises:
            BadInput: `unsupported_content_encoding`.
        """
        names = [name.strip().lower() for name in coding.split(",") if name.strip()]
        names = [name for name in names if name != "identity"]
        if len(names) > CODINGS_MAX or any(name not in READABLE for name in names):
            raise BadInput(
                "unsupported_content_encoding",
                f"the provider's answer is packed as {coding[:80]!r}, which cannot be read here",
                next_step=f"ask the provider for one of {', '.join(READABLE)}",
                where="content-encoding",
            )
        # What was applied last comes off first.
        self._stages: list[_Stage] = [_stage(name) for name in reversed(names)]
        self._bytes_max = bytes_max
        self._bytes = 0

    def feed(self, data: bytes) -> bytes:
        """What these bytes unpack to.

        Raises:
            BadInput: `body_too_large`, `malformed_body`.
        """
        if not self._stages:
            self._count(len(data))
            return data
        try:
            for stage in self._stages:
                data = stage.feed(data, self._bytes_max - self._bytes + 1)
        except (zlib.error, brotli.error) as error:
            raise BadInput(
                "malformed_body",
                f"the provider's answer says how it is packed, and is not packed like that: {error}",
                next_step="record the call as a failure",
                where="content-encoding",
            ) from None
        self._count(len(data))
        return data

    @property
    def is_whole(self) -> bool:
        """Whether what was fed ends where the packed body ends."""
        return all(stage.is_whole for stage in self._stages)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._bytes_max:
            raise BadInput(
                "body_too_large",
                f"the provider's answer unpacks to more than {self._bytes_max:,} bytes",
                next_step="ask the provider for less at a time",
            )


class _Stage(Protocol):
    @property
    def is_whole(self) -> bool: ...

    def feed(self, data: bytes, bytes_max: int) -> bytes: ...


class _Zlib:
    """gzip, whose members may follow each other, and deflate: in zlib's frame (RFC 1950) or, as some send it, bare."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._object = zlib.decompressobj(31) if gzip else None
        self._head = b""

    @property
    def is_whole(self) -> bool:
        return self._object is not None and self._object.eof

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        if self._object is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            data, self._head = self._head, b""
            framed = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._object = zlib.decompressobj(15 if framed else -15)
        out = bytearray()
        while data and len(out) < bytes_max:
            if self._object.eof:
                if not self._gzip or not data.strip(b"\0"):  # padding behind the end
                    break
                self._object = zlib.decompressobj(31)
            out += self._object.decompress(data, bytes_max - len(out))
            data = self._object.unused_data if self._object.eof else self._object.unconsumed_tail
        return bytes(out)


class _Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._object = brotli.Decompressor()

    @property
    def is_whole(self) -> bool:
        return bool(self._object.is_finished())

    def feed(self, data: bytes, bytes_max: int) -> bytes:
        if self.is_whole:  # what stands behind the end is not of the body
            return b""
        out = bytearray(self._object.process(data, output_buffer_limit=bytes_max))
        while len(out) < bytes_max and not self._object.can_accept_more_data() and not self.is_whole:
            out += self._object.process(b"", output_buffer_limit=bytes_max - len(out))
        return bytes(out)


def _stage(name: str) -> _Stage:
    return _Brotli() if name == "br" else _Zlib(gzip=name.endswith("gzip"))


def unpack(body: bytes, coding: str, bytes_max: int = UNPACKED_BYTES_MAX) -> bytes:
    """The whole body, unpacked.

    Raises:
        BadInput: `unsupported_content_encoding`, `body_too_large`, `malformed_body`.
    """
    unpacker = Unpacker(coding, bytes_max)
    plain = unpacker.feed(body)
    if not unpacker.is_whole:
        raise BadInput(
            "malformed_body",
            "the provider's answer is packed, and ends before its end",
            next_step="record the call as a failure",
        )
    return plain


_NAME = re.compile(r"[A-Za-z0-9*_-]+")


def readable_codings(accepted: str) -> str:
    """The codings of an `Accept-Encoding` header that can be read here; what an upstream is to be asked for."""
    kept = []
    for item in accepted.split(","):
        name = _NAME.match(item.strip())
        if name is not None and name[0].lower() in READABLE:
            kept.append(item.strip())
    return ", ".join(kept) or "identity"
