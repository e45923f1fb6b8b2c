"""A packed answer is read however it comes, and a small one that unpacks to gigabytes is refused."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest

from tallystick.core.errors import BadInput
from tallystick.wire.packing import Unpacker, readable_codings, unpack

TEXT = b'{"usage":{"prompt_tokens":7}}' * 50
PACKED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT, mtime=0),
    "GZIP": gzip.compress(TEXT, mtime=0),
    "x-gzip": gzip.compress(TEXT, mtime=0),
    "deflate": zlib.compress(TEXT),
    "br": brotli.compress(TEXT),
    "gzip, br": brotli.compress(gzip.compress(TEXT, mtime=0)),
    "identity, deflate": zlib.compress(TEXT),
}


def bare_deflate(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(text) + packer.flush()


def code_of(call, *arguments, **named) -> str:
    with pytest.raises(BadInput) as caught:
        call(*arguments, **named)
    return caught.value.code


@pytest.mark.parametrize(("coding", "body"), [*PACKED.items(), ("deflate", bare_deflate(TEXT))])
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_body_unpacks_however_it_comes(coding, body, size):
    unpacker = Unpacker(coding)
    assert b"".join(unpacker.feed(body[at : at + size]) for at in range(0, len(body), size)) == TEXT
    assert unpacker.is_whole
    assert unpack(body, coding) == TEXT


def test_gzip_may_have_several_members_and_padding():
    assert unpack(gzip.compress(b"one") + gzip.compress(b"two") + b"\0\0", "gzip") == b"onetwo"


@pytest.mark.parametrize(
    ("coding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare_deflate), ("br", brotli.compress)],
)
def test_a_bomb_is_refused_before_it_has_unpacked(coding, pack):
    bomb = pack(b"\0" * 30_000_000)
    assert len(bomb) < 100_000
    assert code_of(unpack, bomb, coding, 1_000_000) == "body_too_large"
    assert len(unpack(bomb, coding)) == 30_000_000


def test_a_bomb_within_a_bomb_is_refused():
    bomb = brotli.compress(gzip.compress(gzip.compress(b"\0" * 30_000_000)))
    assert code_of(unpack, bomb, "gzip, gzip, br", 1_000_000) == "body_too_large"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_what_is_not_packed_as_it_says_is_refused(coding):
    assert code_of(unpack, b"<html>Bad gateway</html>", coding) == "malformed_body"
    assert code_of(unpack, PACKED[coding][:-9], coding) == "malformed_body"
    assert code_of(unpack, b"", coding) == "malformed_body"


@pytest.mark.parametrize("coding", ["zstd", "compress", "gzip, gzip, gzip, gzip", "aes128gcm"])
def test_what_cannot_be_read_is_refused(coding):
    assert code_of(unpack, b"x", coding) == "unsupported_content_encoding"


def test_a_plain_body_is_bounded_too():
    assert code_of(unpack, b"x" * 11, "", 10) == "body_too_large"


@pytest.mark.parametrize(
    ("accepted", "asked"),
    [
        ("gzip, deflate, br, zstd", "gzip, deflate, br"),
        ("zstd", "identity"),
        ("", "identity"),
        ("*", "identity"),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", "br;q=1.0, gzip;q=0.8"),
        ("identity", "identity"),
    ],
)
def test_an_upstream_is_asked_for_what_can_be_read(accepted, asked):
    assert readable_codings(accepted) == asked
