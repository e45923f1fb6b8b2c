"""What a hostile or a clumsy caller asks of an org's account is refused in words, or means what was said first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from accounts import asked, give, open_shop
from journal_helpers import raw_event
from tallystick.api.app import create_app
from tallystick.app.budgets import set_budget
from tallystick.app.ingest import ingest_events
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.app.wallet import show_wallet
from tallystick.core.errors import BadInput

OVERRIDE = {"request_id": "o1", "author": "ann", "approved_by": "bob", "reason": "trial", "expires_at": "2026-11-20"}


@pytest.fixture
def shop(runtime: Runtime) -> Runtime:
    """acme pays from a wallet that has 20 credits, initech by what it uses."""
    open_shop(runtime, acme="wallet", initech="metered")
    give(runtime, "20")
    return runtime


@pytest.fixture
def client(shop: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(shop), raise_server_exceptions=False) as opened:
        yield opened


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


# ── exceptions ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_credits_of_an_exception_are_part_of_what_was_signed_off(client: TestClient, shop: Runtime) -> None:
    first = client.post("/v1/orgs/acme/overrides", json={**OVERRIDE, "allow_overspend": True})
    assert first.json()["override"]["credits"] is None
    for credits in ("7", "8"):
        again = client.post("/v1/orgs/acme/overrides", json={**OVERRIDE, "allow_overspend": True, "credits": credits})
        assert code(again) == (409, "request_id_conflict")
    assert show_wallet(shop, "acme")["available"] == "20"

    with_credits = {**OVERRIDE, "request_id": "o2", "credits": "7"}
    given = client.post("/v1/orgs/acme/overrides", json=with_credits)
    assert (given.json()["override"]["credits"], given.json()["grant"]["credits"]) == ("7", "7")
    assert client.post("/v1/orgs/acme/overrides", json=with_credits).content == given.content
    without = {name: value for name, value in with_credits.items() if name != "credits"} | {"allow_overspend": True}
    assert code(client.post("/v1/orgs/acme/overrides", json=without)) == (409, "request_id_conflict")
    assert show_wallet(shop, "acme")["available"] == "27"


def test_a_limit_that_is_named_twice_is_a_fault(client: TestClient) -> None:
    limits = {"1": 2000, "tokens_in+tokens_out per day": 3000}
    answer = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": limits})
    assert code(answer) == (422, "duplicate_value")
    assert client.get("/v1/orgs/initech/overrides").json() == {"overrides": []}


@pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "0", "00", "٣", "-1", "1.0", "3"])
def test_a_limit_that_there_is_not_is_named_whatever_its_number(client: TestClient, number: str) -> None:
    answer = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": {number: 5}})
    assert code(answer) == (422, "unknown_limit")
    assert len(answer.json()["detail"]) < 300


def test_an_exception_that_is_sent_again_after_a_change_of_plan_is_still_the_same(
    client: TestClient, shop: Runtime
) -> None:
    limits = {"tokens_in+tokens_out per day": 5000, "2": None}
    first = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": limits})
    assert first.status_code == 200
    set_subscription(shop, "initech", contract="shop", plan="wallet", when="now")
    again = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": limits})
    assert (again.status_code, again.content) == (200, first.content)
    for other in ({**limits, "2": 9}, {"1": 5000}, {"nonsense": 1}, {"7": 1}):
        answer = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": other})
        assert code(answer) == (409, "request_id_conflict")
    client.delete("/v1/orgs/initech/subscription", params={"when": "now"})
    left = client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, "limits": limits})
    assert (left.status_code, left.content) == (200, first.content)


# ── far too much ────────────────────────────────────────────────────────────────────────────────────────────────────

NONSENSE = {f"nonsense_{number}": 1 for number in range(90)}
BAD_CALL = {"request_id": "x", "time": "x", "model": "m", "meters": NONSENSE}
SETTLEMENT = {"org_id": "acme", "hold_id": "h1", "outcome": "success"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/settle", {**SETTLEMENT, "events": [BAD_CALL] * 1000}),
        ("/v1/settle", {**SETTLEMENT, "events": [NONSENSE] * 1000}),
        ("/v1/authorize", {f"nonsense_{number}": 1 for number in range(50_000)}),
    ],
    ids=["meters", "fields", "members"],
)
def test_thousands_of_faults_take_no_time_to_be_found(client: TestClient, path: str, body: dict[str, Any]) -> None:
    began = time.perf_counter()
    answer = client.post(path, json=body)
    assert time.perf_counter() - began < 5
    assert code(answer) == (422, "invalid_request")
    assert len(answer.json()["errors"]) == 100
    assert answer.json().get("error_count", 0) < 200  # not many more were looked for
    assert len(answer.content) < 50_000


@pytest.mark.parametrize(
    ("member", "expected"),
    [("plan", "unknown_plan"), ("contract", "unknown_contract"), ("time_zone", "unknown_time_zone")],
)
def test_what_is_too_long_to_be_a_name_is_not_repeated(client: TestClient, member: str, expected: str) -> None:
    asked = {"contract": "shop", "plan": "wallet", member: "x" * 1_000_000}
    answer = client.put("/v1/orgs/acme/subscription", json=asked)
    assert answer.json()["code"] == expected
    assert len(answer.content) < 1000


# ── names that mean nothing ─────────────────────────────────────────────────────────────────────────────────────────


def test_an_exception_for_an_action_that_there_is_not_is_refused(client: TestClient) -> None:
    asked = {**OVERRIDE, "allow_actions": ["tailor", "tailer"]}
    answer = client.post("/v1/orgs/acme/overrides", json=asked)
    assert code(answer) == (422, "unknown_action")
    assert answer.json()["where"] == "allow_actions.1"
    assert "did you mean tailor?" in answer.json()["detail"]
    assert client.post("/v1/orgs/acme/overrides", json={**OVERRIDE, "allow_actions": ["tailor"]}).status_code == 200


@pytest.mark.parametrize("name", ["a/b", "/", ".", ".."])
def test_a_budget_has_no_name_that_its_address_could_not_hold(shop: Runtime, name: str) -> None:
    with pytest.raises(BadInput) as refused:
        set_budget(shop, "acme", name, {"per": "day", "kind": "hard", "max_usd": "1", "author": "ann"})
    assert refused.value.code == "invalid_name"


# ── much that was recorded without asking ───────────────────────────────────────────────────────────────────────────


def test_thousands_of_calls_since_the_last_decision_hold_up_none(client: TestClient, shop: Runtime) -> None:
    budget = {"per": "day", "kind": "soft", "max_usd": "1", "author": "ann", "scope": "user"}
    assert client.put("/v1/orgs/initech/budgets/cap", json=budget).status_code == 200
    asks = {name: asked(f"a{name}", "initech", action=None, meters={"tool_calls": 1}) for name in range(8)}
    for number in range(7):  # by now the database has planned how to count, for tables with next to nothing in them
        assert client.post("/v1/authorize", json=asks[number]).status_code == 200
        ingest_events(shop, [raw_event(f"first-{number}", org_id="initech", time="2026-11-02T11:00:00Z")])

    calls = [raw_event(f"r{number}", org_id="initech", time="2026-11-02T11:00:00Z") for number in range(8000)]
    assert {result.status for result in ingest_events(shop, calls)} == {"accepted"}
    began = time.perf_counter()
    assert client.post("/v1/authorize", json=asks[7]).status_code == 200
    assert time.perf_counter() - began < 10
    (limit, *_) = client.get("/v1/orgs/initech/limits").json()["limits"]
    assert limit["used"] == 8007 * 1010
