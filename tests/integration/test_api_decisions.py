"""Authorize, settle, release and refund over HTTP: statuses, problems, and one answer however it is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from accounts import asked, call, give, open_shop
from conftest import NOW
from http_callers import Caller, callers, serving
from journal_helpers import query
from tallystick.api.decision_shapes import AuthorizeAnswer, Decision, RefundAnswer, ReleaseAnswer, SettleAnswer
from tallystick.api.decisions import AUTHORIZE, SETTLE, ShortOperations
from tallystick.api.short_ways import ShortWays
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.wallet import show_wallet

SHAPES = {
    "/v1/authorize": AuthorizeAnswer,
    "/v1/settle": SettleAnswer,
    "/v1/release": ReleaseAnswer,
    "/v1/refunds": RefundAnswer,
}
WAITS_FOR_A_LOCK = "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
WAYS = pytest.mark.parametrize("way", ["", "?x"], ids=["short", "long"])
Said = tuple[int, dict[str, str], dict[str, Any]]


@pytest.fixture
def shop(runtime: Runtime) -> Runtime:
    """acme pays from a wallet that has 20 credits, globex by a month's credits, initech by what it uses."""
    open_shop(runtime, acme="wallet", globex="monthly", initech="metered")
    give(runtime, "20")
    return runtime


@pytest.fixture
def port(shop: Runtime) -> Iterator[int]:
    with serving(shop) as port:
        yield port


@pytest.fixture
def connect(port: int) -> Iterator[Callable[[], Caller]]:
    with callers(port) as connect:
        yield connect


@pytest.fixture
def post(connect: Callable[[], Caller]) -> Callable[..., Said]:
    """Sends one request over a connection of its own, and gives status, headers and body of the answer."""
    caller = connect()

    def send(path: str, members: Any, way: str = "") -> Said:
        body = members if isinstance(members, bytes) else json.dumps(members).encode()
        caller.send(body, path=path, query=way)
        status, headers, answer = caller.answer()
        return status, headers, json.loads(answer)

    return send


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def authorized(post: Callable[..., Said], *arguments: Any, **more: Any) -> str:
    """The id of a hold."""
    status, _, body = post("/v1/authorize", asked(*arguments, **more))
    assert status == 200, body
    return str(body["hold"]["hold_id"])


def finish(hold_id: str, **more: Any) -> dict[str, Any]:
    return {"org_id": "acme", "hold_id": hold_id, "outcome": "success", "events": [call()], **more}


@WAYS
def test_work_is_held_charged_and_given_back_and_every_answer_has_its_documented_shape(
    shop: Runtime, post: Callable[..., Said], way: str
) -> None:
    def done(path: str, members: dict[str, Any]) -> dict[str, Any]:
        status, headers, body = post(path, members, way)
        assert (status, headers["content-type"]) == (200, "application/json"), body
        SHAPES[path].model_validate(body)
        return body

    held = done("/v1/authorize", asked(model="gpt-4o", meters={"tokens_in": 1000, "tokens_out": 200}))
    assert (held["decision"]["allow"], held["decision"]["quote"]["credits"]) == (True, "5")
    assert held["wallet"]["after"] == {"available": "15", "held": "5"}
    settled = done("/v1/settle", finish(held["hold"]["hold_id"]))
    assert (settled["charged_credits"], settled["events"][0]["cost_usd"]) == ("5", "0.0035")
    given = done(
        "/v1/refunds",
        {
            "org_id": "acme",
            "request_id": "f1",
            "settlement_id": settled["settlement_id"],
            "credits": "2",
            "author": "ann",
            "reason": "typo",
        },
    )
    assert given["wallet"]["after"] == {"available": "17", "held": "0"}
    other = done("/v1/authorize", asked("a2"))
    released = done("/v1/release", {"org_id": "acme", "hold_id": other["hold"]["hold_id"], "reason": "cancelled"})
    assert (released["returned_credits"], released["reason"]) == ("5", "cancelled")
    assert show_wallet(shop, "acme")["available"] == "17"


@WAYS
def test_usage_is_settled_once_and_whose_work_it_is_is_told(post: Callable[..., Said], way: str) -> None:
    before, early = {**asked(), **call("sent")}, {**asked(), **call("early")}
    assert post("/v1/events", early)[0] == 201
    first, second = authorized(post), authorized(post, "a2")
    assert post("/v1/events", before)[0] == 201
    status, _, settled = post("/v1/settle", finish(first, events=[call("sent"), call("brought")]), way)
    assert status == 200
    SettleAnswer.model_validate(settled)
    assert [one["status"] for one in settled["events"]] == ["duplicate", "accepted"]
    for name, code in (
        ("sent", "usage_settled_already"),
        ("brought", "usage_settled_already"),
        ("early", "usage_before_hold"),
    ):
        status, headers, problem = post("/v1/settle", finish(second, events=[call("own"), call(name)]), way)
        assert (status, problem["code"]) == (409, code)
        assert headers["content-type"] == "application/problem+json"
        assert repr(name) in problem["detail"]
        assert settled["settlement_id"] in problem["detail"] or code == "usage_before_hold"
        assert problem["next_step"]
    assert post("/v1/settle", finish(second, events=[call("own")]), way)[0] == 200
    assert post("/v1/settle", finish(first, events=[call("sent"), call("brought")]), way)[2] == settled


@WAYS
def test_a_denial_is_a_problem_with_the_decision_in_it(post: Callable[..., Said], way: str) -> None:
    def denied(**more: Any) -> Said:
        status, headers, body = post("/v1/authorize", asked(**more), way)
        assert headers["content-type"] == "application/problem+json"
        assert body["request_id"] == headers["request-id"]
        Decision.model_validate(body["decision"])
        assert body["decision"]["allow"] is False
        assert (body["status"], body["code"]) == (status, body["decision"]["code"])
        assert (body["detail"], body["next_step"]) == (
            body["decision"]["message"],
            body["decision"]["next_step"]["text"],
        )
        return status, headers, body

    for number in range(4):
        authorized(post, f"a{number}")
    status, headers, body = denied(request_id="one-too-many")
    assert (status, body["code"]) == (402, "insufficient_credits")
    assert body["wallet"]["before"] == body["wallet"]["after"] == {"available": "0", "held": "20"}
    assert "retry-after" not in headers
    assert denied(request_id="b", org_id="globex", action="research")[2]["code"] == "action_not_in_plan"
    assert denied(request_id="c", action="nothing-like-it")[0] == 403


@WAYS
def test_a_limit_says_when_it_begins_anew(post: Callable[..., Said], way: str) -> None:
    greedy = asked(org_id="initech", action=None, model="gpt-4o", meters={"tokens_in": 900})
    assert post("/v1/authorize", greedy, way)[0] == 200
    status, headers, body = post("/v1/authorize", {**greedy, "request_id": "a2"}, way)
    assert (status, body["code"]) == (429, "hard_limit_reached")
    # It is noon in UTC, and 13 o'clock in Paris, where the org's day ends.
    assert int(headers["retry-after"]) == 11 * 3600
    (daily,) = [one for one in body["decision"]["limits"] if one["exceeded"]]
    assert (daily["held"], daily["requested"], daily["max"]) == (900, 900, 1000)


@WAYS
def test_what_cannot_be_done_is_told_and_moves_nothing(shop: Runtime, post: Callable[..., Said], way: str) -> None:
    hold_id = authorized(post)
    before = show_wallet(shop, "acme")
    refused = {
        "hold_unknown": (404, "/v1/settle", finish("h999")),
        "unknown_org": (404, "/v1/authorize", asked(org_id="nobody")),
        "request_id_conflict": (409, "/v1/authorize", asked(feature="other")),
        "settle_above_hold": (409, "/v1/settle", finish(hold_id, charge_credits="6")),
        "settlement_unknown": (
            404,
            "/v1/refunds",
            {"org_id": "acme", "request_id": "f", "settlement_id": "s999", "author": "ann", "reason": "typo"},
        ),
    }
    for code, (expected, path, members) in refused.items():
        status, headers, body = post(path, members, way)
        assert (status, body["code"]) == (expected, code), body
        assert headers["content-type"] == "application/problem+json"
    assert show_wallet(shop, "acme") == before


UNSOUND = [
    ("/v1/authorize", asked(meters={"tokens_in": -1}), 422, "quantity_negative"),
    ("/v1/authorize", asked(meters={"tokens_inn": 1}), 422, "unknown_meter"),
    ("/v1/authorize", {"org_id": "acme"}, 422, "invalid_request"),
    ("/v1/authorize", [], 422, "not_an_object"),
    ("/v1/authorize", b"{", 400, "malformed_json"),
    ("/v1/authorize", b'{"org_id": "a", "org_id": "b"}', 400, "duplicate_key"),
    ("/v1/settle", finish("42"), 422, "invalid_id"),
    ("/v1/settle", finish("h1", outcome="splendid"), 422, "not_a_choice"),
    ("/v1/settle", finish("h1", events=[call(), call()]), 422, "duplicate_value"),
    ("/v1/release", {"org_id": "acme", "hold_id": "h1", "why": "x"}, 422, "unknown_field"),
    ("/v1/refunds", {"org_id": "acme", "request_id": "f", "settlement_id": "s1", "credits": "-1"}, 422, None),
]


def test_what_is_not_sound_is_refused_alike_on_both_ways(shop: Runtime, post: Callable[..., Said]) -> None:
    before = query(shop, "select org_id, last_seq from org_heads order by org_id")
    for path, members, expected, code in UNSOUND:
        (status, headers, short), (other, other_headers, long) = post(path, members), post(path, members, "?x")
        assert (status, other) == (expected, expected), short
        assert short["code"] == code or code is None
        assert short.pop("request_id") != long.pop("request_id")
        assert short == long
        for one in (headers, other_headers):
            one.pop("request-id"), one.pop("date"), one.pop("content-length")
        assert headers == other_headers
    assert query(shop, "select org_id, last_seq from org_heads order by org_id") == before


def test_sound_requests_do_take_the_short_way(shop: Runtime) -> None:
    # Were they all to go the long way, the tests above would compare it with itself.
    for address, members, sound in (
        (AUTHORIZE, asked(), True),
        (AUTHORIZE, asked(meters={"tokens_in": -1}), False),
        (SETTLE, finish("h1"), True),
        (SETTLE, finish("1"), False),
    ):
        way = ShortOperations(address, shop, LoopInbox(None))  # type: ignore[arg-type]
        assert (way._read(json.dumps(members).encode()) is not None) == sound


def test_each_is_done_once_with_one_answer_however_often_and_at_once_it_is_sent(
    shop: Runtime, connect: Callable[[], Caller]
) -> None:
    def send_at_once(path: str, members: dict[str, Any]) -> dict[str, Any]:
        def send(number: int) -> tuple[int, bytes]:
            caller = connect()
            caller.send(json.dumps(members).encode(), path=path, query="?x" if number % 2 else "")
            status, _, body = caller.answer()
            return status, body

        with ThreadPoolExecutor(12) as pool:
            answers = set(pool.map(send, range(12)))
        assert len(answers) == 1, answers
        status, body = answers.pop()
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    held = send_at_once("/v1/authorize", asked())
    settled = send_at_once("/v1/settle", finish(held["hold"]["hold_id"]))
    signed = {"author": "ann", "reason": "typo"}
    send_at_once(
        "/v1/refunds", {"org_id": "acme", "request_id": "f1", "settlement_id": settled["settlement_id"], **signed}
    )
    other = send_at_once("/v1/authorize", asked("a2"))
    send_at_once("/v1/release", {"org_id": "acme", "hold_id": other["hold"]["hold_id"]})
    kinds = query(shop, "select kind from ledger_entries where org_id = 'acme' order by seq")
    assert [kind for (kind,) in kinds] == ["grant", "hold", "usage", "settlement", "refund", "hold", "release"]
    assert show_wallet(shop, "acme")["available"] == "20"


def test_a_hold_whose_life_is_over_cannot_be_settled(shop: Runtime, post: Callable[..., Said]) -> None:
    hold_id = authorized(post)
    now = shop.clock()
    shop.clock = lambda: now + timedelta(minutes=16)
    status, _, body = post("/v1/settle", finish(hold_id))
    assert (status, body["code"]) == (409, "hold_expired")
    assert show_wallet(shop, "acme")["available"] == "20"


def test_a_request_of_an_unusual_size_or_kind_is_refused_as_everywhere(
    post: Callable[..., Said], connect: Callable[[], Caller]
) -> None:
    status, _, body = post("/v1/settle", finish("h1", events=[call("e" * 400 + str(n)) for n in range(1001)]))
    assert (status, body["code"]) == (413, "too_many_events")
    caller = connect()
    caller.socket.sendall(b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
    status, _, refusal = caller.answer()
    assert (status, json.loads(refusal)["code"]) == (415, "unsupported_media_type")


def test_a_request_is_logged_as_the_others_are(shop: Runtime) -> None:
    lines: list[bytes] = []

    class Log:
        def add(self, line: msgspec.Struct) -> None:
            lines.append(msgspec.json.encode(line))

    way = ShortOperations(AUTHORIZE, shop, LoopInbox(None))  # type: ignore[arg-type]
    ShortWays([way], Log()).log(way, 402, "req_1", 0.0012)  # type: ignore[arg-type]
    line = json.loads(lines[0])
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "method": "POST",
        "path": "/v1/authorize",
        "status": 402,
        "duration_ms": 1.2,
        "event": "request",
        "request_id": "req_1",
        "level": "info",
    }


def test_when_more_comes_in_than_is_decided_callers_are_told_when_to_come_again(
    database_url: str, tmp_path: Path
) -> None:
    narrow = Settings(database_url=database_url, data_dir=tmp_path, queue_events_max=3, group_linger_ms=0)
    with open_runtime(narrow, clock=lambda: NOW) as runtime:
        open_shop(runtime, acme="wallet")
        give(runtime)
        with serving(runtime) as port, callers(port) as connect:
            with psycopg.connect(database_url, autocommit=True) as watcher, psycopg.connect(database_url) as holder:
                holder.execute("select from org_heads for update")  # so that what is being decided now waits
                waiting = []
                for number in range(4):
                    waiting.append(connect())
                    waiting[-1].send(json.dumps(asked(f"w{number}")).encode(), path="/v1/authorize")
                    # The first is taken, and waits for the lock; the others wait behind it.
                    if number == 0:
                        wait_until(lambda: watcher.execute(WAITS_FOR_A_LOCK).fetchone() is not None)
                wait_until(lambda: runtime.operations.state().queue_events == 3)
                for way in ("", "?x"):
                    caller = connect()
                    caller.send(json.dumps(asked("busy")).encode(), path="/v1/authorize", query=way)
                    status, headers, body = caller.answer()
                    assert (status, json.loads(body)["code"]) == (429, "journal_busy")
                    assert 1 <= int(headers["retry-after"]) <= 60
            assert [caller.answer()[0] for caller in waiting] == [200] * 4
