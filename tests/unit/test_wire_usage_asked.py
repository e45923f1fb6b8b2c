"""A stream's usage is asked for without touching another byte, and the chunk that states it is hidden again."""

from __future__ import annotations

import json

import pytest

from tallystick.wire.usage_asked import UsageHider, with_usage_asked

USAGE = b'"stream_options":{"include_usage":true}'
TEXT = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hi"}}],"usage":null}'
)
EXTRA = (
    b'data: {"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
)
DONE = b"data: [DONE]"


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        (b'{"stream":true}', b"{" + USAGE + b',"stream":true}'),
        (b' {\n "stream" : true }', b" {" + USAGE + b',\n "stream" : true }'),
        (b'{"stream_options":{},"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            b'{"stream":true, "stream_options": {"include_obfuscation": false} }',
            b'{"stream":true, "stream_options": {"include_usage":true,"include_obfuscation": false} }',
        ),
        (
            b'{"stream_options":{"include_usage" : false, "x":[1,{"include_usage":0}]},"stream":true}',
            b'{"stream_options":{"include_usage" : true, "x":[1,{"include_usage":0}]},"stream":true}',
        ),
        (b'{"stream_options": null ,"stream":true}', b'{"stream_options": {"include_usage":true} ,"stream":true}'),
        (
            b'{"stream_options":{"include_usage":null}}',
            b'{"stream_options":{"include_usage":true}}',
        ),
        (
            b'{"stre\\u0061m_options":"odd","stream":true}',
            b'{"stre\\u0061m_options":{"include_usage":true},"stream":true}',
        ),
        (
            b'{"a":{"stream_options":{"include_usage":false}},"b":"},{\\"stream_options\\":1"}',
            b"{" + USAGE + b',"a":{"stream_options":{"include_usage":false}},"b":"},{\\"stream_options\\":1"}',
        ),
        (b'{"stream_options":[1,2],"n":1.5e3}', b'{"stream_options":{"include_usage":true},"n":1.5e3}'),
        (b"{}", b"{" + USAGE + b"}"),
    ],
)
def test_usage_is_asked_for_and_every_other_byte_stays(body, asked):
    assert with_usage_asked(body) == asked
    assert json.loads(asked)["stream_options"]["include_usage"] is True


@pytest.mark.parametrize(
    "body",
    [
        b'{"stream":true,"stream_options":{"include_usage":true}}',
        b'{ "stream_options" : { "include_usage" : true } }',
        b"[1,2]",
        b"not json",
        b"",
        b'{"a":',
    ],
)
def test_what_asks_already_and_what_is_no_request_stays_as_it_is(body):
    assert with_usage_asked(body) is body


def hidden(stream: bytes, size: int) -> bytes:
    hider = UsageHider()
    pieces = [hider.feed(stream[begin : begin + size]) for begin in range(0, len(stream), size)]
    return b"".join(pieces) + hider.end()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_the_extra_chunk_is_hidden_and_nothing_else(end, size):
    stream = end.join([TEXT, TEXT, EXTRA, DONE, b""])
    assert hidden(stream, size) == end.join([TEXT, TEXT, DONE, b""])


@pytest.mark.parametrize(
    "chunk",
    [
        # Azure begins with what its filters found; the choices are empty and there is no usage.
        b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}',
        b'data: {"choices":[],"created":0}',
        # Usage beside choices is no chunk of its own.
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}',
        b'data: {"choices":[{"delta":{"content":"\\"choices\\":[],\\"usage\\":{}"}}]}',
        b'data: {"choices":[],"usage":{"prompt_tokens":1}',
        b": a comment about usage and choices",
        b"data: [DONE]",
    ],
)
@pytest.mark.parametrize("size", [1, 13, 10_000])
def test_other_chunks_are_let_through(chunk, size):
    stream = b"\n\n".join([chunk, TEXT, b""])
    assert hidden(stream, size) == stream


def test_an_extra_chunk_that_the_stream_ends_with_is_hidden_too():
    assert hidden(TEXT + b"\n\n" + EXTRA, 9) == TEXT + b"\n\n"


def test_a_chunk_goes_on_before_it_is_whole_once_it_can_be_no_extra_one():
    hider = UsageHider()
    begin = TEXT[: TEXT.index(b'"delta"')]
    assert hider.feed(begin) == begin
    assert hider.feed(TEXT[len(begin) :]) == TEXT[len(begin) :]


def test_an_event_that_does_not_end_is_not_kept_for_ever():
    hider = UsageHider()
    sent = sum(len(hider.feed(b"data: " + b"x" * 100_000)) for _ in range(20))
    assert sent > 1_500_000
