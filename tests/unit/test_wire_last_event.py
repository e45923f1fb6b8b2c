"""The end of a stream waits, and nothing before it does."""

from __future__ import annotations

import pytest

from tallystick.wire.last_event import Tail

CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}'
BLOCK = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}'
PART = b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]},"index":0}],"usageMetadata":{"promptTokenCount":1}}'
LAST_PART = b'data: {"candidates":[{"content":{},"finishReason":"STOP","index":%d}],"usageMetadata":{"x":1}}'
DONE = b"data: [DONE]"


def pass_on(stream: bytes, size: int = 10_000) -> tuple[bytes, bytes]:
    tail = Tail()
    passed = b"".join(tail.feed(stream[begin : begin + size]) for begin in range(0, len(stream), size))
    return passed, tail.rest()


ENDS = [
    pytest.param(CHUNK % b"hi", DONE, id="chat"),
    pytest.param(CHUNK % b"hi", b"data:[DONE]", id="chat without a space"),
    pytest.param(CHUNK % b"hi", b'data: {"error":{"message":"no"},"choices":[]}\n\ndata: [DONE]', id="chat error"),
    pytest.param(BLOCK, b'event: message_stop\ndata: {"type":"message_stop"}', id="messages"),
    pytest.param(BLOCK, b'data: {"type":"message_stop"}', id="messages without names"),
    pytest.param(
        BLOCK, b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}', id="messages error"
    ),
    pytest.param(PART, LAST_PART % 0, id="gemini"),
    pytest.param(PART, b'data: {"error":{"code":503,"status":"UNAVAILABLE"}}', id="gemini error"),
    *(
        pytest.param(
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"hi"}',
            b'event: response.%s\ndata: {"type":"response.%s","response":{"usage":{}}}' % (name, name),
            id=f"responses {name.decode()}",
        )
        for name in (b"completed", b"failed", b"incomplete")
    ),
    *(
        pytest.param(
            b'data: {"type":"transcript.text.delta","delta":"hi"}',
            b'data: {"type":"%s","usage":{}}' % name,
            id=str(name),
        )
        for name in (
            b"transcript.text.done",
            b"speech.audio.done",
            b"image_generation.completed",
            b"image_edit.completed",
        )
    ),
    pytest.param(
        b'data: {"delta":"hi","type":"response.output_text.delta"}',
        b'data: {"response":{"error":null},"type":"response.completed"}',
        id="responses with the type last",
    ),
]


@pytest.mark.parametrize("size", [1, 2, 5, 60, 10_000])
@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize(("text", "last"), ENDS)
def test_the_terminal_event_is_withheld_from_its_first_byte(text, last, end, size):
    text, last = (each.replace(b"\n", end[: len(end) // 2]) for each in (text, last))
    before = end.join([text, b": a comment", text, b""])
    assert pass_on(before + last + end, size) == (before, last + end)


def test_what_comes_after_the_end_is_withheld_with_it():
    after = DONE + b"\n\n: a comment\n\n"
    assert pass_on(CHUNK % b"hi" + b"\n\n" + after, 7) == (CHUNK % b"hi" + b"\n\n", after)


def test_of_several_candidates_only_the_last_end_is_the_streams():
    ends = [LAST_PART % 0, PART, LAST_PART % 1]
    stream = b"\r\n\r\n".join([PART, *ends, b""])
    passed, rest = pass_on(stream, 11)
    assert rest == LAST_PART % 1 + b"\r\n\r\n"
    assert passed + rest == stream


def test_of_several_pictures_only_the_last_is_the_end():
    drawn = b'event: image_generation.completed\ndata: {"type":"image_generation.completed","usage":{"x":%d}}\n\n'
    part = b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image"}\n\n'
    stream = part + drawn % 1 + part + drawn % 2
    assert pass_on(stream, 13) == (part + drawn % 1 + part, drawn % 2)


@pytest.mark.parametrize(
    ("stream", "at_end"),
    [
        (CHUNK % b"hi" + b"\n\n", False),
        (CHUNK % b"hi" + b"\n\n" + DONE + b"\n", False),
        (CHUNK % b"hi" + b"\n\n" + DONE + b"\n\n", True),
        (b'event: message_stop\ndata: {"type":"message_stop"}\n\n', True),
        # More of another candidate may come.
        (LAST_PART % 0 + b"\n\n", False),
        (b"[{}]", True),
        (b"[{}", False),
        (b"", False),
    ],
)
def test_the_end_is_known_when_it_is_withheld(stream, at_end):
    tail = Tail()
    tail.feed(stream)
    assert tail.is_at_end == at_end


def test_a_stream_that_breaks_off_gives_all_of_it():
    stream = CHUNK % b"hi" + b"\n\n" + b'data: {"id":"c","obj'
    passed, rest = pass_on(stream, 9)
    assert passed + rest == stream
    assert pass_on(b"") == (b"", b"")
    assert pass_on(b"\xef\xbb") == (b"", b"\xef\xbb")


@pytest.mark.parametrize(
    "text",
    [
        CHUNK % b"[DONE]",
        CHUNK % b'\\"error\\": finishReason message_stop response.completed',
        b'data: {"type":"response.created","response":{"error":null,"status":"in_progress"}}',
        b'data: {"id":"x","error":null,"choices":[{"delta":{}}]}',
        b"data: message_stop",
        b"data: [DONE] not",
    ],
)
def test_a_text_about_ends_is_no_end(text):
    stream = text + b"\n\n" + CHUNK % b"more" + b"\n\n"
    assert pass_on(stream) == (stream, b"")


@pytest.mark.parametrize(
    ("begin", "rest"),
    [
        (b'data: {"id":"c","choices":[{"index":0,"delta":{"con', b'tent":"hi"}}]}\n\n'),
        (b'event: content_block_delta\ndata: {"type":"cont', b'ent_block_delta","delta":{}}\n\n'),
        (b'data: {"type":"response.output_text.delta","del', b'ta":"hi"}\n\n'),
    ],
)
def test_bytes_of_an_event_that_can_be_no_end_go_on_at_once(begin, rest):
    tail = Tail()
    assert tail.feed(begin) == begin
    assert not tail.comment_fits  # it would stand in the middle of an event
    assert tail.feed(rest) == rest
    assert tail.comment_fits


@pytest.mark.parametrize("space", [b"\n", b"\r\n", b" ", b"\t\n"])
def test_space_before_the_first_event_goes_on(space):
    tail = Tail()
    assert b"".join(tail.feed(space) for _ in range(3)) == 3 * space
    assert tail.feed(CHUNK % b"hi" + b"\n\n" + DONE + b"\n\n") == CHUNK % b"hi" + b"\n\n"
    assert tail.rest() == DONE + b"\n\n"


def test_a_comment_fits_before_the_withheld_end():
    tail = Tail()
    tail.feed(CHUNK % b"hi" + b"\n\n" + DONE + b"\n\n")
    assert tail.comment_fits
    assert tail.events
    assert tail.rest() == DONE + b"\n\n"
    assert tail.rest() == b""


def test_a_large_last_event_is_withheld_whole():
    last = (
        b'event: response.completed\ndata: {"type":"response.completed","response":{"x":"'
        + b"y" * 3_000_000
        + b'"}}\n\n'
    )
    assert pass_on(last, 65_536) == (b"", last)


def test_an_event_that_does_not_end_is_not_kept_for_ever():
    tail = Tail()
    sent = sum(len(tail.feed(b'data: {"candidates":[' + b"x" * 100_000)) for _ in range(20))
    assert sent > 1_500_000


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_of_an_array_the_closing_bracket_is_withheld(size):
    array = b'[{"candidates":[{"content":{"parts":[{"text":"]}\\"[\\\\"}]}}]}\r\n,\r\n{"usageMetadata":{}}\n]\n'
    passed, rest = pass_on(array, size)
    assert rest == b"]\n"
    assert passed + rest == array
    tail = Tail()
    tail.feed(array)
    assert not tail.events
    assert not tail.comment_fits
