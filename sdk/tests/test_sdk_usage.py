"""What an answer used: read as the server reads it, from JSON and from a client library's objects."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.app.cost import load_extractors
from tallystick.core.errors import BadInput
from tallystick.usage.extract import decode_body, extract
from tallystick.usage.meters import METERS
from tallystick.usage.streams import UsageStream
from tallystick_sdk.usage.answers import Used, used_by
from tallystick_sdk.usage.estimates import estimate_of
from tallystick_sdk.usage.meters import disjoint
from tallystick_sdk.usage.reading import UsageUnreadable
from tallystick_sdk.usage.sse import DONE, Events
from tallystick_sdk.usage.streams import StreamFold

NO_TLS = False
"""What would be checked is read from files for each call anew, which takes longer than the call."""

DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
recorded = pytest.mark.skipif(not DATA.is_dir(), reason="the recorded answers are not beside the repository")
TABLE = load_extractors()


def lines(name: str) -> Iterator[bytes]:
    with (DATA / name).open("rb") as file:
        yield from file


def as_object(value: Any) -> Any:
    """The same with attributes instead of members, as client libraries have it."""
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(one) for name, one in value.items()})
    return [as_object(one) for one in value] if isinstance(value, list) else value


def told(used: Any) -> tuple[Any, ...]:
    parts = [({name: count for name, count in part.meters.items() if count}, part.model) for part in used.parts]
    return parts, dict(used.price_context), used.provider_cost_pico, used.model, used.status


@recorded
def test_every_recorded_answer_is_read_as_the_server_reads_it() -> None:
    read = 0
    for line in lines("provider_responses.jsonl"):
        answer = json.loads(line)["body"]
        if "file" in answer and answer.get("model") is None:
            answer.pop("model", None)
        theirs = extract(TABLE, decode_body(line)["body"])
        ours = used_by(answer, theirs.provider)
        assert told(ours) == told(theirs), answer
        assert told(used_by(as_object(answer), theirs.provider)) == told(theirs), answer
        read += 1
    assert read > 600


@recorded
def test_every_recorded_stream_is_folded_as_the_server_folds_it_however_it_is_cut_and_wherever_it_breaks_off() -> None:
    dice = random.Random(7)
    statuses = set()
    for line in lines("provider_streams.jsonl"):
        row = json.loads(line)
        whole, request = row["sse"].encode(), row.get("request") or {}
        provider = _theirs(whole, None, {}).provider
        for end in (len(whole), *(dice.randrange(1, len(whole)) for _ in range(6))):
            cut = whole[:end]
            ours = _ours(cut, provider, request, dice)
            theirs = _theirs(cut, provider, request)
            if isinstance(theirs, BadInput):  # not one whole event came: for the server that is no stream
                assert (ours.status, theirs.code) == ("estimated", "no_usage")
                continue
            assert told(ours) == told(theirs), (row["host"], row["path"], end)
            statuses.add(ours.status)
    assert statuses == {"final", "partial", "estimated"}


def _theirs(sse: bytes, provider: str | None, request: dict[str, Any]) -> Any:
    stream = UsageStream(TABLE, provider=provider, request=request)
    stream.feed(sse)
    try:
        return stream.finish()
    except BadInput as error:
        return error


def _ours(sse: bytes, provider: str, request: dict[str, Any], dice: random.Random) -> Used:
    events, fold, at = Events(), StreamFold(provider, request), 0
    passed = b""
    while at < len(sse):
        size = dice.choice((1, 2, 3, 50, 4096))
        for event in events.feed(sse[at : at + size]):
            passed += event.raw
            fold.take(event.data)
        at += size
    for event in events.end():
        passed += event.raw
        fold.take(event.data)
    assert passed == sse
    return fold.finish()


@given(st.binary(max_size=200), st.lists(st.integers(1, 7)))
def test_events_put_together_are_the_same_bytes_however_they_are_cut(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"\x01", b"\n").replace(b"\x02", b"\r\n").replace(b"\x03", b"data: {}\n\n")
    events, at, found = Events(), 0, b""
    for size in [*sizes, len(data)]:
        found += b"".join(event.raw for event in events.feed(data[at : at + size]))
        at += size
    found += b"".join(event.raw for event in events.end())
    assert found == data


def test_an_event_is_whole_at_its_blank_line_whatever_the_line_ends_are() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        events = Events()
        data = end.join([b'data: {"a":', b"data: 1}", b"", b"data: [DONE]", b"", b""])
        found = [event.data for event in (*events.feed(data), *events.end())]
        assert found == [{"a": 1}, DONE]


_counts = st.integers(0, 10**6)


@given(
    st.fixed_dictionaries(
        {"plain": _counts, "read": _counts, "write": _counts, "audio": _counts, "out": _counts, "thought": _counts}
    )
)
def test_meters_add_up_to_what_the_provider_states(counts: dict[str, int]) -> None:
    whole = counts["plain"] + counts["read"] + counts["write"] + counts["audio"]
    meters = disjoint(
        {"in": whole, "cache_read": counts["read"], "cache_write": counts["write"], "audio_in": counts["audio"],
         "out": counts["out"] + counts["thought"], "reasoning": counts["thought"]}
    )  # fmt: skip
    assert sum(count for name, count in meters.items() if METERS[name].prompt) == whole
    assert meters.get("tokens_in", 0) == counts["plain"]
    assert meters.get("tokens_out", 0) == counts["out"]
    assert meters.get("reasoning_tokens", 0) == counts["thought"]
    assert 0 not in meters.values()


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 1.5, "completion_tokens": 2},
        {"prompt_tokens": "7", "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
        {"prompt_tokens": 10**13, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 6}},
        {"prompt_tokens": 5, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 3}},
    ],
)
def test_usage_that_cannot_be_is_not_believed(usage: dict[str, Any]) -> None:
    with pytest.raises(UsageUnreadable):
        used_by({"model": "gpt-4o", "usage": usage}, "openai")


def test_an_answer_without_usage_is_estimated_by_its_text_and_the_prompt() -> None:
    answer = {"model": "m", "choices": [{"message": {"content": "12345678x"}}]}
    request = {"messages": [{"role": "user", "content": "abcd"}], "model": "m"}
    used = estimate_of(answer, request)
    assert used.status == "estimated"
    assert dict(used.parts[0].meters) == {"tokens_in": 2, "tokens_out": 3}  # "user" and "abcd"; 9 bytes


@recorded
def test_recorded_answers_cost_in_the_ledger_what_the_server_says_they_cost(tally: Any, org: Any) -> None:
    wanted: dict[str, Any] = {}
    for number, line in enumerate(lines("provider_responses.jsonl")):
        if number % 16:
            continue
        answer = json.loads(line)["body"]
        said = httpx2.post(f"{org.url}/v1/cost", json=answer, verify=NO_TLS).json()
        if said.get("model") is None:
            continue
        tally.record_response(answer, provider=said["provider"], request_id=f"r-{number}")
        wanted[f"r-{number}"] = said["cost_usd"]
    assert tally.flush()
    found: dict[str, Any] = {}
    for event in org.ledger():  # an answer with several samplings is several events
        name, cost = event["request_id"].partition("~")[0], event["cost_usd"]
        found[name] = None if cost is None or found.get(name, 0) is None else found.get(name, 0) + Decimal(cost)
    assert len(wanted) > 20
    assert found == {name: None if cost is None else Decimal(cost) for name, cost in wanted.items()}
