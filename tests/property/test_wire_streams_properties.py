"""However a stream is cut, the same bytes go on, the same are withheld, and the same usage is read."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage.streams import UsageStream
from tallystick.wire.last_event import Tail
from tallystick.wire.usage_asked import UsageHider

RECORDED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "provider_streams.jsonl"
TABLE = load_extractors()
ENDINGS = (b"\n", b"\r\n", b"\r")

CHUNKS = [
    b'data: {"id":"c","model":"m","object":"chunk","choices":[{"index":0,"delta":{"content":"h\xc3\xa9"}}]}',
    b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"function":{"arguments":"{a"}}]}}]}',
    b'data: {"id":"c","model":"n","service_tier":"flex","choices":[{"index":0,"delta":{"reasoning":"hm"}}]}',
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"message":{"content":"whole"}}]}',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":[{"text":"part"}]}}]}',
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}}],"error":{"message":"broke"}}',
    b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"}}],"x_groq":{"usage":{"prompt_tokens":1}}}',
    b'event: message_start\ndata: {"type":"message_start","message":{"model":"claude","usage":{"input_tokens":5}}}',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hello"}}',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"partial_json":"{}"},"index":1}',
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"thinking":"hm"},"index":1}',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end"},"usage":{"output_tokens":9}}',
    b'event: message_stop\ndata: {"type":"message_stop"}',
    b'event: response.created\ndata: {"type":"response.created","response":{"model":"m","error":null}}',
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"text","n":2}',
    b'data: {"delta":"other","type":"response.reasoning.delta"}',
    b'data: {"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":4}}}',
    b'data: {"candidates":[{"content":{"parts":[{"text":"g"}]}}],"usageMetadata":{"promptTokenCount":2}}',
    b'data: {"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":8}}',
    b": a comment",
    b"id: 7\nretry: 100",
    b"data: not json",
    b'data: {"a":1}\ndata: {"b":2}',
    b"data: [DONE]",
]  # fmt: skip

streams = st.builds(
    lambda events, ending, tail: (b"\n\n".join(events) + tail).replace(b"\n", ending),
    st.lists(st.sampled_from(CHUNKS), max_size=12),
    st.sampled_from(ENDINGS),
    st.sampled_from([b"\n\n", b"\n", b"", b"\n\n\n"]),
)
cuts = st.lists(st.integers(min_value=0, max_value=2000), max_size=30)


def pieces(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place for place in places if place < len(stream))})
    return [stream[begin:end] for begin, end in pairwise(edges)]


def tail_of(parts: list[bytes]) -> tuple[bytes, bytes]:
    tail = Tail()
    return b"".join(map(tail.feed, parts)), tail.rest()


def hidden(parts: list[bytes]) -> bytes:
    hider = UsageHider()
    return b"".join(map(hider.feed, parts)) + hider.end()


def usage(parts: list[bytes], *, plain: bool = True) -> tuple[object, ...]:
    stream = UsageStream(TABLE)
    stream._is_plain = plain
    for part in parts:
        stream.feed(part)
    try:
        used: object = stream.finish()
    except BadInput as error:
        used = error.code
    return used, stream.text_bytes, stream.said_bytes, stream.refusal, stream.is_complete


@given(stream=streams, places=cuts)
@settings(max_examples=300)
def test_a_stream_ends_at_the_same_byte_however_it_is_cut(stream, places):
    passed, rest = tail_of(pieces(stream, places))
    whole = tail_of([stream])
    assert passed + rest == stream
    # What is open at the end is of no event; how much of it went on before depends on the cuts.
    if stream.endswith((b"\n\n", b"\r\n\r\n")) and not stream.endswith((b"\n\n\n", b"\n\r\n\r\n")):
        assert rest == whole[1]


@given(stream=streams, places=cuts)
@settings(max_examples=300)
def test_the_same_chunk_is_hidden_however_the_stream_is_cut(stream, places):
    assert hidden(pieces(stream, places)) == hidden([stream])


@given(stream=streams, places=cuts)
@settings(max_examples=300)
def test_the_quick_way_through_a_stream_reads_what_the_slow_one_does(stream, places):
    assert usage(pieces(stream, places)) == usage([stream], plain=False)


@given(noise=st.binary(max_size=300), places=cuts)
@settings(max_examples=200)
def test_what_is_no_stream_goes_through_unchanged(noise, places):
    assert b"".join(tail_of(pieces(noise, places))) == noise
    usage(pieces(noise, places))
    assert len(hidden(pieces(noise, places))) <= len(noise)


# ── the recorded streams ────────────────────────────────────────────────────────────────────────────────────────────


@cache
def recorded() -> list[bytes]:
    return [json.loads(line)["sse"].encode() for line in RECORDED.read_text(encoding="utf-8").splitlines()]


def bit_by_bit(stream: bytes) -> list[bytes]:
    """Pieces of a byte; of a long stream, of a few."""
    size = 1 + len(stream) // 3000
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def boundary_classes(stream: bytes) -> list[int]:
    """Places of every class of byte boundary: in names, in line ends, around them, in characters and in strings."""
    places: list[int] = []
    for mark in (
        b"\r\n\r\n",
        b"\n\n",
        b"\r\n",
        b"\n",
        b"data:",
        b"event:",
        b'"usage',
        b"[DONE]",
        b"finishReason",
        b"\xe2",
    ):
        found = [stream.find(mark), stream.rfind(mark)]
        places += [place + offset for place in found if place >= 0 for offset in range(len(mark) + 1)]
    return sorted({place for place in places if 0 < place < len(stream)})


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded streams are not on this machine")
def test_recorded_streams_end_at_the_same_byte_wherever_they_are_cut():
    assert recorded()
    for stream in recorded():
        whole = tail_of([stream])
        assert whole[1], "every recorded stream has a terminal event"
        for place in boundary_classes(stream):
            assert tail_of([stream[:place], stream[place:]]) == whole
        assert tail_of(bit_by_bit(stream))[1] == whole[1]


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded streams are not on this machine")
def test_recorded_streams_are_read_the_same_quickly_and_slowly():
    for stream in recorded():
        slow = usage([stream], plain=False)
        assert usage([stream]) == slow
        assert usage(bit_by_bit(stream)) == slow


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded streams are not on this machine")
def test_of_recorded_streams_only_the_chunk_that_states_the_usage_is_hidden():
    hidden_of = [(stream, hidden([stream])) for stream in recorded()]
    assert sum(len(stream) != len(rest) for stream, rest in hidden_of) >= 3
    for stream, rest in hidden_of:
        gone = stream.replace(b"\r\n", b"\n").split(b"\n\n")
        kept = rest.replace(b"\r\n", b"\n").split(b"\n\n")
        extra = [event for event in gone if event not in kept]
        assert len(gone) - len(kept) == len(extra) <= 1
        assert all(b'"choices":[]' in event and b'"usage":{' in event for event in extra)
        assert hidden(bit_by_bit(stream)) == rest
