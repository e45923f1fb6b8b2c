"""Streams through the gateway: bytes as they came, the end only after the settlement, whoever leaves or breaks off."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from account_operations import wrongs
from fake_upstream import Reply, stream
from gateway_tools import (
    ACTION,
    CHAT,
    CHUNK,
    DONE,
    TEXT,
    TWO,
    USAGE,
    WHOLE,
    Stand,
    chat,
    gateway,
    recorded,
    wait_until,
)
from tallystick.app.answers import Terms
from tallystick.app.cost import latest_pricer

_COMMENT = re.compile(rb": tally (\{.*?\})\n\n")


@pytest.fixture
def stand(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    with gateway(database_url, tmp_path, monkeypatch) as opened:
        yield opened


def told_of(received: bytes) -> tuple[bytes, dict[str, Any]]:
    """What was received without our comment, and what that says."""
    found = _COMMENT.findall(received)
    assert len(found) == 1, received[-800:]
    return _COMMENT.sub(b"", received), json.loads(found[0])


def test_recorded_streams_arrive_byte_for_byte_and_cost_what_the_cost_command_says(stand: Stand) -> None:
    pricer = latest_pricer(stand.runtime.settings.data_dir, stand.runtime.clock)
    hosts = {
        "api.openai.com": ("openai", "openai"),
        "api.anthropic.com": ("anthropic", "anthropic"),
        "generativelanguage.googleapis.com": ("gemini", "google"),
    }
    compared = 0
    for record in recorded("provider_streams.jsonl"):
        if record["host"] not in hosts:
            continue
        name, provider = hosts[record["host"]]
        sse = record["sse"].encode()
        places = [[], list(range(0, len(sse), 7))[:300], [1, 2, 3, -1, -2, -3, -15]][compared % 3]
        stand.upstream.reply = stream(sse, cuts=places)
        priced = pricer.price_stream([sse], Terms(provider=provider, request=record["request"])).as_dict()
        query = "?alt=sse" if name == "gemini" else ""
        body = {**chat(input="x", contents=[{"parts": [{"text": "x"}]}]), **record["request"]}
        answer = stand.post(f"/{name}{record['path']}{query}", body)
        received, told = told_of(answer.content)
        assert received == sse, record["test"]
        assert told["cost_usd"] == priced["cost_usd"]
        assert told["status"] == priced["status"]
        used: Counter[str] = Counter()
        for one in stand.usage():
            if one["request_id"].split("/")[0] == told["request_id"]:
                used.update(one["meters"])
        expected = Counter(priced["usage"])
        for counts in priced.get("usage_of_other_models", {}).values():
            expected.update(counts)
        assert +used == +expected
        compared += 1
    assert compared > 30
    assert stand.open_holds() == 0


def test_usage_that_the_caller_did_not_ask_for_is_asked_for_and_hidden(stand: Stand) -> None:
    for cuts in ([], list(range(1, len(WHOLE), 5)), [len(TEXT) + 3, len(TEXT) + len(USAGE) - 1]):
        stand.upstream.reply = stream(WHOLE, cuts=cuts)
        received, told = told_of(stand.post(body=chat(stream=True)).content)
        assert received == (TEXT + DONE).encode()
        assert told["cost_usd"] == "0.000065"
        assert stand.upstream.requests[-1].json["stream_options"] == {"include_usage": True}
    received, _ = told_of(stand.post(body=chat(stream=True, stream_options={"include_usage": True})).content)
    assert received == WHOLE.encode()


def test_the_comment_comes_before_the_last_event_and_after_the_commit(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, cuts=range(20, len(WHOLE), 40), piece_seconds=0.005)
    with stand.client() as client, client.stream("POST", CHAT, json=chat(stream=True), headers=ACTION) as answer:
        seen = b""
        for piece in answer.iter_raw():
            seen += piece
            if b"[DONE]" in seen:
                assert [one["kind"] for one in stand.entries()] == ["hold", "usage", "settlement"]
    assert seen.index(b": tally") < seen.index(b"data: [DONE]")
    assert answer.headers["x-tally-hold"].startswith("h")
    assert answer.headers["x-tally-request-id"]


def test_the_first_piece_does_not_wait_for_the_others(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, cuts=[len(CHUNK % ("Here ", "null"))], piece_seconds=1.0)
    with stand.client() as client, client.stream("POST", CHAT, json=chat(stream=True), headers=ACTION) as answer:
        begun = time.monotonic()
        assert b"Here" in next(answer.iter_raw())
        assert time.monotonic() - begun < 0.5


def test_an_array_that_grows_has_no_comment_and_its_bracket_waits(stand: Stand) -> None:
    events = [json.loads(line[6:]) for line in gemini_events()]
    body = json.dumps(events, indent=2).encode()
    stand.upstream.reply = Reply(body=body, framing="chunks", cuts=range(1, len(body), 11))
    path = "/gemini/v1beta/models/gemini-2.0-flash:streamGenerateContent"
    answer = stand.post(path, {"contents": [{"parts": [{"text": "x"}]}]})
    assert answer.content == body
    assert stand.usage()[-1]["usage_status"] in ("final", None)
    assert stand.open_holds() == 0


def gemini_events() -> list[str]:
    record = next(one for one in recorded("provider_streams.jsonl") if "streamGenerate" in one["path"])
    return [line for line in record["sse"].splitlines() if line.startswith("data: ")]


def test_a_stream_that_breaks_off_is_recorded_as_far_as_it_came_and_says_so(stand: Stand) -> None:
    for reply in (
        stream(WHOLE, then="close", sent_bytes=TWO),
        stream(WHOLE, then="reset", sent_bytes=TWO, cuts=[300]),
        stream(WHOLE, then="close", sent_bytes=TWO + 12),
    ):
        stand.upstream.reply = reply
        answer = stand.post(body=chat(stream=True))
        received, told = told_of(answer.content)
        assert b'"code":"upstream_broke_off"' in received
        assert received.startswith(TEXT.encode()[:TWO] + b'data: {"error"')
        assert told["status"] == "estimated"
        assert told["credits"] == "0"
        assert stand.usage()[-1]["outcome"] == "failure"
        assert stand.usage()[-1]["meters"]["tokens_out"] >= 1
        assert stand.open_holds() == 0


def test_a_stream_that_breaks_off_in_an_event_does_not_end(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, then="close", sent_bytes=TWO + 150)
    with pytest.raises(httpx2.RemoteProtocolError):
        stand.post(body=chat(stream=True))
    assert stand.usage()[-1]["outcome"] == "failure"
    assert stand.open_holds() == 0


def test_an_error_event_in_the_middle_goes_on_and_is_charged_as_a_failure(stand: Stand) -> None:
    error = 'data: {"error":{"message":"the model fell over","type":"server_error"}}\n\n'
    stand.upstream.reply = stream(TEXT[: len(CHUNK % ("Here ", "null"))] + error)
    received, told = told_of(stand.post(body=chat(stream=True)).content)
    assert received.endswith(error.encode())
    assert (told["credits"], stand.usage()[-1]["outcome"]) == ("0", "failure")


def test_an_upstream_that_falls_silent_is_given_up(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="read_timeout: 1s\ntotal_timeout: 60s") as stand:
        stand.upstream.reply = stream(WHOLE, then="hang", sent_bytes=TWO)
        received, told = told_of(stand.post(body=chat(stream=True)).content)
        assert b"upstream_timeout" in received
        assert told["credits"] == "0"
        stand.upstream.reply = Reply(first_seconds=5)
        answer = stand.post()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
        assert stand.open_holds() == 0


def leave(stand: Stand, after: bytes) -> None:
    """Call for a stream, and go away in the middle of it."""
    body = json.dumps(chat(stream=True)).encode()
    with socket.create_connection(("127.0.0.1", stand.port)) as caller:
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stand.token}\r\ncontent-length: {len(body)}\r\n"
        )
        caller.sendall(head.encode() + b"x-tally-action: tailor_document\r\n\r\n" + body)
        seen = b""
        while after not in seen:
            seen += caller.recv(4096)


def test_a_caller_who_leaves_is_charged_for_what_the_provider_ends(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, cuts=range(200, len(WHOLE), 100), piece_seconds=0.03)
    leave(stand, b"Here")
    stand.wait_settled(1)
    (usage,) = stand.usage()
    assert usage["meters"] == {"tokens_in": 10, "tokens_out": 4}
    assert (usage["outcome"], usage["status"]) == ("success", "final")
    assert not stand.upstream.left
    assert stand.settlements()[0]["request"]["outcome"] == "success"


def test_a_caller_who_leaves_ends_the_answer_where_the_route_says_so(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(database_url, tmp_path, monkeypatch, more="on_disconnect: cancel") as stand:
        stand.upstream.reply = stream(WHOLE, cuts=range(200, len(WHOLE), 10), piece_seconds=0.05)
        leave(stand, b"it ")
        stand.wait_settled(1)
        wait_until(lambda: bool(stand.upstream.left))
        (usage,) = stand.usage()
        assert (usage["outcome"], usage["usage_status"], usage["status"]) == ("success", "estimated", "estimated")
        assert 1 <= usage["meters"]["tokens_out"] <= 4
        assert stand.settlements()[0]["request"]["outcome"] == "success"


def test_a_caller_who_leaves_before_a_whole_answer_is_charged_for_it(stand: Stand) -> None:
    stand.upstream.reply = Reply(body=stand.upstream.reply.body, first_seconds=0.4)
    with contextlib.suppress(httpx2.TimeoutException), stand.client() as client:
        client.post(CHAT, json=chat(), headers=ACTION, timeout=0.1)
    stand.wait_settled(1)
    assert stand.usage()[0]["meters"] == {"tokens_in": 100, "tokens_out": 20}


def test_packed_streams_go_on_as_they_came_and_are_read(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, packed="gzip", cuts=range(10, 200, 17))
    answer = stand.post(body=chat(stream=True, stream_options={"include_usage": True}), accept_encoding="gzip")
    assert stand.upstream.requests[-1].header("accept-encoding") == "identity"
    assert answer.content == WHOLE.encode()
    assert stand.usage()[-1]["meters"] == {"tokens_in": 10, "tokens_out": 4}


def test_a_stream_without_usage_is_an_estimate_and_says_so(stand: Stand) -> None:
    stand.upstream.reply = stream(TEXT + DONE)
    _, told = told_of(stand.post(body=chat(stream=True)).content)
    assert told["status"] == "estimated"
    assert stand.usage()[-1]["meters"]["tokens_out"] == 4  # 16 bytes of text, four to a token


def test_the_sums_hold_whatever_broke_off(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, then="reset", sent_bytes=500)
    stand.post(body=chat(stream=True))
    stand.upstream.reply = stream(WHOLE)
    stand.post(body=chat(stream=True))
    assert wrongs(stand.runtime) == []


def test_a_provider_that_keeps_its_connection_open_after_the_end_keeps_nobody_waiting(stand: Stand) -> None:
    stand.upstream.reply = stream(WHOLE, then="hang", sent_bytes=len(WHOLE))
    begun = time.monotonic()
    received, told = told_of(stand.post(body=chat(stream=True)).content)
    assert time.monotonic() - begun < 5
    assert received == (TEXT + DONE).encode()
    assert (told["status"], told["credits"]) == ("final", "5")


def test_hundreds_of_streams_at_once_stay_apart(stand: Stand) -> None:
    async def all_of_them() -> list[bytes]:
        limits = httpx2.Limits(max_connections=400, max_keepalive_connections=400)
        headers = {"authorization": f"Bearer {stand.token}", **ACTION}
        async with httpx2.AsyncClient(base_url=stand.url, headers=headers, limits=limits, timeout=60) as client:

            async def one(number: int) -> bytes:
                fake = json.dumps({"body": WHOLE.replace("Here ", f"Here {number} "), "cuts": [300, 900]})
                sent = {"x-fake": fake, "x-tally-request-id": f"s{number}"}
                answer = await client.post(CHAT, json=chat(stream=True), headers=sent)
                return answer.content

            return await asyncio.gather(*(one(number) for number in range(300)))

    stand.upstream.reply = stream(b"", piece_seconds=0.7)
    for number, content in enumerate(asyncio.run(all_of_them())):
        received, told = told_of(content)
        assert received == (TEXT + DONE).replace("Here ", f"Here {number} ").encode()
        assert told["request_id"] == f"s{number}"
    assert stand.upstream.most_open > 200
    assert len(stand.settlements()) == 300
    assert stand.open_holds() == 0
