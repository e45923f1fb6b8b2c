"""Who may call what: at every address, by the long way and the short one, and from the moment a key ends."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from accounts import asked, call, open_shop
from conftest import NOW
from http_callers import Caller, callers, serving
from journal_helpers import query, raw_event
from tallystick.api.access import RULES
from tallystick.api.app import create_app, openapi_document
from tallystick.api.logs import configure_logging
from tallystick.api.short_ways import ShortWays
from tallystick.app.close_month import close_month
from tallystick.app.key_lookup import LOOKUP_THREADS
from tallystick.app.keys import Key, create_key, revoke_key, rotate_key
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings, is_loopback

DOCUMENT = openapi_document()
ADDRESSES = [
    (method.upper(), path, operation["operationId"])
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
GUARDED = [one for one in ADDRESSES if RULES[one[2]].scope is not None]
NAMES = {
    "org_id": "acme",
    "name": "b",
    "contract": "shop",
    "seq": "1",
    "size": "1",
    "invoice_id": "inv_x",
    "line": "1",
    "month": "2026-10",
    "incident_id": "inc1",
} | {
    "provider": "openai",
    "model": "gpt-4o",
}
ENOUGH = 2.0


@pytest.fixture
def guarded(database_url: str, tmp_path: Path) -> Iterator[Runtime]:
    """A server that keys are needed for, with two orgs on plans."""
    settings = Settings(database_url=database_url, data_dir=tmp_path, require_keys=True)
    with open_runtime(settings, lambda: NOW) as opened:
        open_shop(opened, acme="wallet", globex="wallet")
        yield opened


@pytest.fixture
def client(guarded: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(guarded)) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runtime, TestClient]]:
    """As `guarded` and its client, for tests that ask at each address."""
    settings = Settings(database_url=module_database_url, data_dir=tmp_path_factory.mktemp("shared"), require_keys=True)
    with open_runtime(settings, lambda: NOW) as opened:
        open_shop(opened, acme="wallet", globex="wallet")
        with TestClient(create_app(opened)) as client:
            yield opened, client


def token(runtime: Runtime, *scopes: str, org_id: str | None = "acme", **more: Any) -> str:
    return create_key(runtime, org_id=org_id, scopes=scopes, author="ann", **more).token


def bearer(shown: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {shown}"}


def address(path: str, org_id: str = "acme") -> str:
    return re.sub(r"\{(\w+)\}", lambda match: {**NAMES, "org_id": org_id}.get(match[1], "x1"), path)


def code(answer: Any) -> str | None:
    return answer.json().get("code") if "problem" in answer.headers["content-type"] else None


def test_every_address_says_what_a_key_must_be_for() -> None:
    assert {name for _, _, name in ADDRESSES} == set(RULES)
    for path, operations in DOCUMENT["paths"].items():
        for operation in operations.values():
            rule = RULES[operation["operationId"]]
            assert operation.get("x-scope") == rule.scope
            assert ("{org_id}" in path) <= (rule.about in ("org", "operator")), path
            assert ("{invoice_id}" in path) <= (rule.about in ("invoice", "operator")), path
            assert {"401", "403"} <= set(operation["responses"]) or rule.scope is None
    assert DOCUMENT["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert DOCUMENT["security"] == [{"key": []}, {}]


def test_at_every_address_a_key_is_needed_and_one_that_is_not_for_it_is_refused(
    guarded: Runtime, client: TestClient
) -> None:
    nothing = {scope: token(guarded, *({"read", "events"} - {scope})) for scope in ("read", "events")}
    revoked = create_key(guarded, org_id=None, scopes=["admin"], author="ann")
    revoke_key(guarded, revoked.key.key_id, reason="leaked", author="bob")
    for method, path, name in GUARDED:
        rule = RULES[name]

        def ask(headers: dict[str, str], method: str = method, path: str = path) -> Any:
            return client.request(method, address(path), headers=headers, json={"org_id": "acme"})

        for headers, due in (
            ({}, "key_missing"),
            ({"Authorization": "Basic YTpi"}, "key_missing"),
            (bearer("tk_short"), "key_unknown"),
            (bearer("sk-proj-1234567890"), "key_unknown"),
            (bearer("tk_aaaaaaaa_" + "b" * 43), "key_unknown"),
            (bearer(revoked.token), "key_revoked"),
        ):
            answer = ask(headers)
            assert (answer.status_code, code(answer)) == (401, due), (name, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["request_id"] == answer.headers["request-id"]
        wrong = nothing.get(str(rule.scope), nothing["read"])
        answer = ask(bearer(wrong))
        assert (answer.status_code, code(answer)) == (403, "scope_missing"), (name, answer.text)
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/v1/nothing").status_code == 401


@pytest.mark.parametrize(("method", "path", "name"), [one for one in GUARDED if RULES[one[2]].about == "org"])
def test_a_key_of_an_org_is_for_its_own_org_alone(
    shared: tuple[Runtime, TestClient], method: str, path: str, name: str
) -> None:
    guarded, client = shared
    month = {"month": "2026-10"} if name == "preview_invoice" else {}
    body = {"contract": "shop", "plan": "wallet"} if method == "POST" else None
    answered = {"show_test_clock": (409, "not_a_test_org"), "redeem_promo": (422, "invalid_request")}.get(
        name, (200, None)
    )
    scope = str(RULES[name].scope)
    for shown, org_id, due in (
        (token(guarded, scope), "acme", answered),
        (token(guarded, scope), "globex", (403, "wrong_org")),
        (token(guarded, scope, org_id=None), "globex", answered),
        (token(guarded, "admin", org_id=None), "globex", answered),
    ):
        answer = client.request(method, address(path, org_id), headers=bearer(shown), params=month, json=body)
        assert (answer.status_code, code(answer)) == due, answer.text


@pytest.mark.parametrize(("method", "path", "name"), [one for one in GUARDED if RULES[one[2]].about == "operator"])
def test_what_is_about_all_orgs_or_tells_what_requests_cost_is_for_operators(
    shared: tuple[Runtime, TestClient], method: str, path: str, name: str
) -> None:
    if RULES[name].scope == "admin":  # which no key of an org can have
        return
    guarded, client = shared
    answer = client.request(method, address(path), headers=bearer(token(guarded, "read")))
    if method == "GET":
        assert (answer.status_code, code(answer)) == (403, "operators_only")
    else:
        assert answer.status_code in (403, 415)
    answer = client.request(method, address(path), headers=bearer(token(guarded, "read", org_id=None)))
    assert answer.status_code not in (401, 403)


def test_invoices_are_shown_to_their_own_org_without_what_they_cost_us(guarded: Runtime, client: TestClient) -> None:
    everyone = bearer(token(guarded, "events", org_id=None))
    for org_id in ("acme", "globex"):
        event = raw_event("r1", org_id=org_id, time="2026-10-05T12:00:00Z")
        assert client.post("/v1/events", json=event, headers=everyone).status_code == 201
    assert {one.status for one in close_month(guarded, "2026-10")} == {"closed"}
    mine, operator = bearer(token(guarded, "read")), bearer(token(guarded, "read", org_id=None))
    listed = {one["org_id"]: one for one in client.get("/v1/invoices", headers=operator).json()["invoices"]}
    assert set(listed) == {"acme", "globex"}
    own = client.get("/v1/invoices", headers=mine).json()["invoices"]
    assert [one["org_id"] for one in own] == ["acme"]
    assert client.get("/v1/invoices", params={"org_id": "acme"}, headers=mine).json()["invoices"] == own
    assert code(client.get("/v1/invoices", params={"org_id": "globex"}, headers=mine)) == "wrong_org"
    assert code(client.get("/v1/invoices?org_id=acme&org_id=globex", headers=mine)) == "wrong_org"
    assert client.get("/v1/invoices?org_id=globex&org_id=acme", headers=mine).json()["invoices"] == own

    ours, theirs = listed["acme"]["invoice_id"], listed["globex"]["invoice_id"]
    assert "internal" not in client.get(f"/v1/invoices/{ours}", headers=mine).json()["invoice"]
    assert "internal" in client.get(f"/v1/invoices/{ours}", headers=operator).json()["invoice"]
    preview = {"params": {"month": "2026-11"}}
    assert "internal" not in client.get("/v1/orgs/acme/invoices/preview", headers=mine, **preview).json()
    assert "internal" in client.get("/v1/orgs/acme/invoices/preview", headers=operator, **preview).json()
    for form, secret in (("csv", "cost_usd"), ("json", '"internal"')):
        export = client.get(f"/v1/invoices/{ours}/export", params={"format": form}, headers=mine)
        assert export.status_code == 200
        assert secret not in export.text
        assert secret in client.get(f"/v1/invoices/{ours}/export", params={"format": form}, headers=operator).text
    for rest in ("", "/explain", "/export"):
        answer = client.get(f"/v1/invoices/{theirs}{rest}", headers=mine)
        missing = client.get(f"/v1/invoices/inv_nobodys{rest}", headers=mine)
        assert (answer.status_code, code(answer)) == (missing.status_code, code(missing)) == (404, "unknown_invoice")
        assert answer.json()["detail"].replace(theirs, "") == missing.json()["detail"].replace("inv_nobodys", "")


def test_events_of_another_org_are_refused_each_and_nothing_of_them_is_stored(
    guarded: Runtime, client: TestClient
) -> None:
    mine = bearer(token(guarded, "events"))
    alone = client.post("/v1/events", json=raw_event("r1", org_id="globex"), headers=mine)
    assert (alone.status_code, code(alone)) == (403, "wrong_org")
    batch = client.post(
        "/v1/events", json=[raw_event("r2"), raw_event("r3", org_id="globex"), {"org_id": "globex"}], headers=mine
    )
    assert batch.status_code == 207
    results = batch.json()["results"]
    assert [one["status"] for one in results] == ["accepted", "rejected", "rejected"]
    assert results[1]["code"] == "wrong_org"
    assert query(guarded, "select org_id, request_id from ledger_entries") == [("acme", "r2")]
    everyone = bearer(token(guarded, "events", org_id=None))
    assert client.post("/v1/events", json=raw_event("r1", org_id="globex"), headers=everyone).status_code == 201


def test_whatever_a_body_is_written_in_its_events_are_of_the_keys_org(guarded: Runtime, client: TestClient) -> None:
    mine = token(guarded, "events")

    def cloud(request_id: str, org_id: str, subject: str) -> dict[str, Any]:
        envelope = {"specversion": "1.0", "id": request_id, "source": "x", "type": "tallystick.usage"}
        return {**envelope, "subject": subject, "data": raw_event(request_id, org_id=org_id)}

    def sent(media_type: str, body: str, query: str = "") -> tuple[int, list[str]]:
        headers = {**bearer(mine), "Content-Type": media_type}
        answer = client.post(f"/v1/events{query}", content=body.encode(), headers=headers)
        return answer.status_code, re.findall(r'"code":"(\w+)"', answer.text)

    lines = "\n".join(json.dumps(raw_event(f"j{n}", org_id=org)) for n, org in enumerate(["acme", "globex", "acme"]))
    assert sent("application/x-ndjson", lines) == (207, ["wrong_org"])
    one, batch = "application/cloudevents+json", "application/cloudevents-batch+json"
    assert sent(one, json.dumps(cloud("c1", "globex", "acme"))) == (403, ["wrong_org"])
    assert sent(batch, json.dumps([cloud("c2", "acme", "acme"), cloud("c3", "globex", "acme")])) == (207, ["wrong_org"])
    assert sent("application/json", json.dumps(raw_event("q1", org_id="globex")), "?org_id=acme") == (
        403,
        ["wrong_org"],
    )
    twice = json.dumps(raw_event("d1", org_id="globex"))[:-1] + ', "org_id": "acme"}'
    assert sent("application/json", twice) == (400, ["duplicate_key"])
    assert query(guarded, "select request_id from ledger_entries order by 1") == [("c2",), ("j0",), ("j2",)]


def test_decisions_about_another_org_are_refused_and_leave_no_entry(guarded: Runtime, client: TestClient) -> None:
    mine = bearer(token(guarded, "authorize"))
    free = {**asked("a1"), "action": "explore"}
    held = client.post("/v1/authorize", json=free, headers=mine)
    assert held.status_code == 200, held.text
    for path, body in (
        ("/v1/authorize", {**free, "org_id": "globex"}),
        ("/v1/settle", {"org_id": "globex", "hold_id": "h1", "outcome": "success", "events": []}),
        ("/v1/release", {"org_id": "globex", "hold_id": "h1"}),
    ):
        answer = client.post(path, json=body, headers=mine)
        assert (answer.status_code, code(answer)) == (403, "wrong_org"), answer.text
    refund = {"org_id": "acme", "request_id": "f1", "settlement_id": "s1", "author": "ann", "reason": "x"}
    assert code(client.post("/v1/refunds", json=refund, headers=mine)) == "scope_missing"
    settled = {"org_id": "acme", "hold_id": held.json()["hold"]["hold_id"], "outcome": "success", "events": [call()]}
    assert client.post("/v1/settle", json=settled, headers=mine).status_code == 200
    assert query(guarded, "select distinct org_id from ledger_entries") == [("acme",)]


def test_where_no_key_is_needed_one_that_is_shown_is_checked_all_the_same(runtime: Runtime) -> None:
    with TestClient(create_app(runtime)) as client:
        event = raw_event("r1")
        assert client.post("/v1/events", json=event).status_code == 201
        # What a proxy in front of it asks of its callers is not for us.
        for others in ({"Authorization": "Basic YTpi"}, bearer("eyJhbGciOi.x.y"), {"Authorization": "tk_x"}):
            assert client.post("/v1/events", json=event, headers=others).status_code == 200
        assert code(client.post("/v1/events", json=event, headers=bearer("tk_aaaaaaaa_" + "b" * 43))) == "key_unknown"
        read = bearer(token(runtime, "read"))
        assert code(client.post("/v1/events", json=event, headers=read)) == "scope_missing"
        assert code(client.get("/v1/orgs/globex/wallet", headers=read)) == "wrong_org"
        assert client.get("/v1/orgs/globex").status_code == 404


def test_two_authorization_headers_are_no_key(guarded: Runtime) -> None:
    with serving(guarded) as port, callers(port) as connect:
        caller = connect()
        shown = token(guarded, "events")
        twice = f"Authorization: Bearer {shown}\r\n" * 2
        caller.send(encoded("r1"), headers=twice)
        status, _, body = caller.answer()
        assert (status, json.loads(body)["code"]) == (401, "key_unknown")


# ── the short way ───────────────────────────────────────────────────────────────────────────────────────────────────


def encoded(request_id: str, **more: object) -> bytes:
    return json.dumps(raw_event(request_id, **more)).encode()


@pytest.fixture
def connect(guarded: Runtime) -> Iterator[Callable[[], Caller]]:
    with serving(guarded) as port, callers(port) as opened:
        deadline = time.monotonic() + ENOUGH
        while not guarded.keys.is_heard:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield opened


def told(caller: Caller, body: bytes, headers: str, path: str = "/v1/events") -> tuple[int, str | None]:
    caller.send(body, headers=headers, path=path)
    status, _, answer = caller.answer()
    return status, json.loads(answer).get("code")


def test_a_remembered_head_is_answered_as_any_other_and_its_key_is_asked_each_time(
    guarded: Runtime, connect: Callable[[], Caller]
) -> None:
    made = create_key(guarded, org_id="acme", scopes=["events"], author="ann")
    head = f"Authorization: Bearer {made.token}\r\n"
    caller = connect()
    for number in range(12):  # the first finds the key, the next are of a head that is remembered by then
        assert told(caller, encoded(f"r{10 + number}"), head) == (201, None)
    assert told(caller, encoded("r30", org_id="glob"), head) == (403, "wrong_org")
    assert told(caller, encoded("r31", org_id="glob"), head) == (403, "wrong_org")
    assert told(caller, encoded("r32"), "") == (401, "key_missing")
    assert told(caller, encoded("r33"), "") == (401, "key_missing")
    new = rotate_key(guarded, made.key.key_id, overlap=NOW - NOW, author="bob")
    for number in range(3):
        assert told(caller, encoded(f"r{40 + number}"), head) == (401, "key_revoked")
    head = f"Authorization: Bearer {new.token}\r\n"
    for number in range(3):
        assert told(caller, encoded(f"r{50 + number}"), head) == (201, None)
    assert query(guarded, "select count(*) from ledger_entries") == [(15,)]


def test_a_key_that_another_process_revokes_is_refused_on_remembered_heads_too(
    guarded: Runtime, connect: Callable[[], Caller], database_url: str, tmp_path: Path
) -> None:
    made = create_key(guarded, org_id="acme", scopes=["events"], author="ann")
    head = f"Authorization: Bearer {made.token}\r\n"
    caller = connect()
    for number in range(5):
        assert told(caller, encoded(f"r{10 + number}"), head)[0] == 201
    with open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW) as other:
        revoke_key(other, made.key.key_id, reason="leaked", author="bob")
    deadline, number = time.monotonic() + ENOUGH, 20
    while told(caller, encoded(f"r{number}"), head) != (401, "key_revoked"):
        number += 1
        assert time.monotonic() < deadline


def test_only_heads_of_callers_who_may_go_a_short_way_are_remembered_and_no_long_ones(
    guarded: Runtime, connect: Callable[[], Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: set[ShortWays] = set()
    real = ShortWays.remember_head

    def remember(self: ShortWays, *arguments: Any) -> None:
        ways.add(self)
        real(self, *arguments)

    monkeypatch.setattr(ShortWays, "remember_head", remember)
    made, wrong = token(guarded, "events"), token(guarded, "read")
    caller = connect()
    for number, shown in enumerate(["", f"Bearer {wrong}", "Bearer tk_aaaaaaaa_" + "b" * 43] * 3):
        assert told(caller, encoded(f"r{10 + number}"), f"Authorization: {shown}\r\n")[0] in (401, 403)
    padding = f"X-Padding: {'x' * 5000}\r\n"
    for number, more in enumerate(["", "", "", padding, padding, padding]):
        assert told(caller, encoded(f"r{20 + number}"), f"Authorization: Bearer {made}\r\n{more}")[0] == 201
    (one,) = ways
    assert [made.encode() in head and len(head) < 1000 for head in one.known_heads] == [True]


def test_guessed_tokens_keep_nobody_else_from_being_served_in_the_gateway_neither(
    guarded: Runtime, connect: Callable[[], Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for, may_end, real = [], threading.Event(), guarded.keys.find

    def slow(shown: str, now: datetime) -> Key:
        asked_for.append(shown)
        may_end.wait(20)
        return real(shown, now)

    monkeypatch.setattr(guarded.keys, "find", slow)
    guessing = [connect() for _ in range(12)]
    try:
        for number, caller in enumerate(guessing):
            shown = f"Authorization: Bearer tk_aaaaaaaa_{number:043}\r\n"
            caller.send(b"{}", headers=shown, path="/openai/v1/embeddings" if number % 2 else "/v1/events")
        deadline = time.monotonic() + ENOUGH
        while len(asked_for) < LOOKUP_THREADS:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        other = connect()
        other.socket.settimeout(5)
        other.socket.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert other.answer()[0] == 200
        assert len(asked_for) == LOOKUP_THREADS
    finally:
        may_end.set()
    assert {caller.answer()[0] for caller in guessing} == {401}


def test_decisions_go_the_short_way_with_a_key_for_them_alone(guarded: Runtime, connect: Callable[[], Caller]) -> None:
    authorize = f"Authorization: Bearer {token(guarded, 'authorize')}\r\n"
    events = f"Authorization: Bearer {token(guarded, 'events')}\r\n"
    caller = connect()

    def body(request_id: str, org_id: str = "acme") -> bytes:
        return json.dumps({**asked(request_id, org_id), "action": "explore"}).encode()

    for number in range(4):
        assert told(caller, body(f"a{number}"), authorize, "/v1/authorize")[0] == 200
    assert told(caller, body("a5", "acmf"), authorize, "/v1/authorize") == (403, "wrong_org")
    for _ in range(2):
        assert told(caller, body("a6"), events, "/v1/authorize") == (403, "scope_missing")
        assert told(caller, encoded("r1"), authorize) == (403, "scope_missing")


def test_requests_are_logged_with_the_id_of_their_key_and_never_with_its_token(
    guarded: Runtime, client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    made = create_key(guarded, org_id="acme", scopes=["read"], author="ann")
    with capture_logs() as logs, caplog.at_level(logging.DEBUG):
        for path in ("/v1/orgs/acme/wallet", "/v1/orgs/globex/wallet", "/v1/nothing"):
            client.get(path, headers=bearer(made.token))
        client.get("/v1/orgs/acme/wallet", headers=bearer(made.token[:-1] + ("1" if made.token[-1] == "0" else "0")))
    lines = [line for line in logs if line.get("event") == "request"]
    assert [line.get("key_id") for line in lines] == [made.key.key_id] * 3 + [None]
    secret = made.token.split("_")[2][:-1]
    assert secret not in str(logs)
    assert secret not in caplog.text


def test_a_token_that_stands_where_it_should_not_is_logged_no_further_than_its_public_part(
    guarded: Runtime, client: TestClient
) -> None:
    shown = token(guarded, "read")
    told, handlers = io.StringIO(), list(logging.getLogger().handlers)
    configure_logging(told)
    try:
        for path in (f"/v1/orgs/{shown}", f"/{shown}", f"/v1/orgs/acme?key={shown}", f"/tool/{shown}"):
            for headers in ({}, bearer(shown), {"Request-Id": shown, **bearer(shown)}):
                answer = client.get(path, headers=headers)
                assert answer.status_code in (200, 401, 403, 404)
                assert shown not in answer.headers["request-id" if "/tool" not in path else "x-tally-request-id"]
        structlog.get_logger("x").warning("odd", detail=f"it was {shown}", exc_info=ValueError(shown))
        client.get("/healthz", headers={"Request-Id": "mine-1"})
        time.sleep(0.1)  # lines of the gateway are written together
    finally:
        structlog.reset_defaults()
        logging.getLogger().handlers = handlers
    assert f"{shown[:11]}_…" in told.getvalue()
    assert '"request_id": "mine-1"' in told.getvalue()
    assert shown.split("_")[2][:8] not in told.getvalue()


@pytest.mark.parametrize(
    ("host", "require_keys", "needed"),
    [
        ("127.0.0.1", None, False),
        ("127.0.0.2", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("0.0.0.0", None, True),
        ("::", None, True),
        ("10.0.0.7", None, True),
        ("tally.example", None, True),
        ("127.0.0.1", True, True),
        ("0.0.0.0", False, False),
    ],
)
def test_keys_are_needed_wherever_others_can_reach_the_server(
    host: str, require_keys: bool | None, needed: bool
) -> None:
    assert Settings(host=host, require_keys=require_keys).keys_are_needed is needed
    assert is_loopback(host) is (host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"))
