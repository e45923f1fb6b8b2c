"""Whatever is asked, something can be told of it; the bound of a prompt is never below its text."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from nested_values import nested
from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.wire.asked import Asked, asked_of
from tallystick.wire.outcome import judge
from tallystick.wire.packing import Unpacker
from tallystick.wire.usage_asked import with_usage_asked

TABLE = load_extractors()
PATHS = (
    ("openai", "/v1/chat/completions"),
    ("openai", "/v1/responses"),
    ("openai", "/v1/completions"),
    ("openai", "/v1/embeddings"),
    ("openai", "/v1/images/generations"),
    ("openai", "/v1/anything"),
    ("anthropic", "/v1/messages"),
    ("gemini", "/v1beta/models/g:streamGenerateContent"),
)
NAMES = (
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "prompt",
    "input", "contents", "generationConfig", "maxOutputTokens", "candidateCount", "tools", "type", "image_url", "url",
    "source", "data", "inlineData", "file", "file_data", "input_audio", "modalities", "include_usage", "cache_control",
    "choices", "usage", "content", "message", "error", "candidates", "output", "prompt_tokens", "finish_reason",
)  # fmt: skip

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.sampled_from(NAMES)
words = st.sampled_from(
    ["image_url", "input_audio", "file", "image", "base64", "data:image/png;base64,", "web_search", None, False, True]
)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = nested(words | numbers | text, names | text, list_max=4, members_max=5)
objects = st.dictionaries(names, values, max_size=8)
paths = st.sampled_from(PATHS)


@given(where=paths, body=objects, ascii_only=st.booleans())
@settings(max_examples=150)
def test_of_every_request_something_can_be_told(where, body, ascii_only):
    asked = asked_of(*where, "", json.dumps(body, ensure_ascii=ascii_only).encode())
    meters = asked.worst_meters(tokens_in_default=1000, tokens_out_default=100)
    assert all(0 <= quantity <= 10**9 for quantity in meters.values())
    assert asked.fault is None
    assert asked.tokens_out_max is None or 0 <= asked.tokens_out_max <= 10**9


@given(where=paths, body=st.binary(max_size=200))
@settings(max_examples=150)
def test_of_noise_too(where, body):
    assert isinstance(asked_of(*where, "", body), Asked)


@given(prompts=st.lists(text, max_size=6), system=text, where=paths)
@settings(max_examples=150)
def test_the_bound_of_a_prompt_is_at_least_its_text(prompts, system, where):
    body = {
        "model": "m",
        "system": system,
        "messages": [{"role": "user", "content": each} for each in prompts],
        "input": [{"role": "user", "content": [{"type": "input_text", "text": each}]} for each in prompts],
    }
    asked = asked_of(*where, "", json.dumps(body).encode())
    assert asked.tokens_in_max is not None
    assert asked.tokens_in_max >= len(system.encode()) + 2 * sum(len(each.encode()) for each in prompts)


spaces = st.sampled_from(["", " ", "\n  ", "\t"])


@given(body=objects, indent=st.none() | st.integers(0, 3), options=st.none() | values, front=spaces)
@settings(max_examples=150)
def test_asking_for_usage_changes_that_and_nothing_else(body, indent, options, front):
    if options is not None:
        body = {**body, "stream_options": options}
    raw = (front + json.dumps(body, indent=indent)).encode()
    asked = with_usage_asked(raw)
    wanted = body.get("stream_options")
    wanted = {**wanted, "include_usage": True} if isinstance(wanted, dict) else {"include_usage": True}
    assert json.loads(asked) == {**body, "stream_options": wanted}
    assert with_usage_asked(asked) == asked


@given(noise=st.binary(max_size=200))
def test_of_noise_nothing_is_asked(noise):
    if not noise.lstrip().startswith(b"{"):
        assert with_usage_asked(noise) is noise


@given(
    where=paths,
    answer=st.one_of(objects.map(lambda body: json.dumps(body).encode()), st.binary(max_size=100)),
    status=st.sampled_from([200, 201, 304, 400, 429, 500]),
    coding=st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, br"]),
    kind=st.sampled_from(["application/json", "text/event-stream", "text/html", ""]),
    ended=st.sampled_from(["whole", "broken", "left"]),
)
@settings(max_examples=200)
def test_every_answer_has_an_outcome(where, answer, status, coding, kind, ended):
    asked = asked_of(*where, "", b'{"model":"m"}')
    judged = judge(
        TABLE,
        asked,
        where[0],
        status=status,
        headers={"content-type": kind, "content-encoding": coding},
        body=answer,
        request={"messages": "x"},
        ended=ended,
    )
    assert judged.outcome in ("success", "empty", "failure")
    if status >= 300:
        assert (judged.outcome, judged.extracted) == ("failure", None)
    if judged.extracted is not None:
        assert all(quantity >= 0 for part in judged.extracted.parts for quantity in part.meters.values())


@given(
    noise=st.lists(st.binary(max_size=60), max_size=5), coding=st.sampled_from(["gzip", "deflate", "br", "br, gzip"])
)
@settings(max_examples=150)
def test_unpacking_noise_fails_in_one_way(noise, coding):
    unpacker = Unpacker(coding, 10_000)
    codes = set()
    for piece in noise:
        try:
            unpacker.feed(piece)
        except BadInput as error:
            codes.add(error.code)
            break
    assert codes <= {"malformed_body", "body_too_large"}
