"""Accounts over HTTP: the answers' shapes hold, requests are checked, and every refusal is a problem document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from accounts import call, end, give, hold, open_shop
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime

GRANT = {"request_id": "g1", "source": "top_up", "credits": "100", "author": "ann", "reason": "bought"}
BUDGET = {"per": "day", "kind": "hard", "max_usd": "25", "author": "ann"}
OVERRIDE = {
    "request_id": "o1",
    "author": "ann",
    "approved_by": "bob",
    "reason": "a trial",
    "expires_at": "2026-12-01T00:00:00Z",
    "limits": {"tokens_in+tokens_out per day": 5000},
    "credits": "3",
}


@pytest.fixture
def shop(runtime: Runtime) -> Runtime:
    open_shop(runtime, acme="wallet", globex="monthly", initech="metered", **{"a/b": "wallet"})
    return runtime


@pytest.fixture
def client(shop: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(shop)) as opened:
        yield opened


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code), document
    assert document["next_step"]
    return document


def test_a_grant_is_answered_the_same_however_often_it_is_sent(client: TestClient) -> None:
    answers = [client.post("/v1/orgs/acme/grants", json=GRANT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200], answers[0].text
    assert answers[0].content == answers[1].content == answers[2].content
    body = answers[0].json()
    assert (body["grant_id"], body["credits"], body["wallet"]["after"]["available"]) == ("g1", "100", "100")
    problem(client.post("/v1/orgs/acme/grants", json={**GRANT, "credits": "101"}), 409, "request_id_conflict")
    assert client.get("/v1/orgs/acme/wallet").json()["available"] == "100"


@pytest.mark.parametrize(
    ("org_id", "more", "status", "code"),
    [
        ("globex", {}, 409, "top_up_not_available"),
        ("nobody", {}, 404, "unknown_org"),
        ("acme", {"credits": "-1"}, 422, "invalid_amount"),
        ("acme", {"credits": "0"}, 422, "invalid_amount"),
        ("acme", {"credits": 5}, 422, "invalid_request"),
        ("acme", {"source": "included"}, 422, "invalid_request"),
        ("acme", {"expires_at": "2026-01-01T00:00:00Z"}, 422, "grant_expired_already"),
        ("acme", {"expires_at": "soon"}, 422, "invalid_time"),
        ("acme", {"colour": "red"}, 422, "invalid_request"),
    ],
)
def test_a_grant_that_cannot_be_is_refused(
    client: TestClient, org_id: str, more: dict[str, Any], status: int, code: str
) -> None:
    problem(client.post(f"/v1/orgs/{org_id}/grants", json={**GRANT, **more}), status, code)
    assert client.get("/v1/orgs/acme/wallet").json()["available"] == "0"


def test_a_wallet_its_holds_and_its_history_are_read_page_by_page(client: TestClient, shop: Runtime) -> None:
    give(shop)
    for name in ("a1", "a2", "a3"):
        hold(shop, name)
    end(shop, "h2", events=[call()])
    wallet = client.get("/v1/orgs/acme/wallet").json()
    assert (wallet["available"], wallet["held"], [one["grant_id"] for one in wallet["grants"]]) == ("85", "10", ["g1"])
    page = client.get("/v1/orgs/acme/holds", params={"limit": 1}).json()
    assert [one["hold_id"] for one in page["holds"]] == ["h3"]
    rest = client.get("/v1/orgs/acme/holds", params={"cursor": page["next_cursor"]}).json()
    assert ([one["hold_id"] for one in rest["holds"]], rest["next_cursor"]) == (["h4"], None)
    seen, cursor = [], None
    while True:
        params = {"limit": 2, "order": "newest", **({"cursor": cursor} if cursor else {})}
        history = client.get("/v1/orgs/acme/wallet/entries", params=params).json()
        seen += [one["entry_id"] for one in history["entries"]]
        cursor = history["next_cursor"]
        if cursor is None:
            break
    assert seen == ["s6", "h4", "h3", "h2", "g1"]
    problem(client.get("/v1/orgs/acme/wallet/entries", params={"cursor": "x"}), 422, "invalid_cursor")
    problem(client.get("/v1/orgs/acme/wallet/entries", params={"order": "sideways"}), 422, "invalid_request")


def test_budgets_are_set_listed_and_taken_away(client: TestClient) -> None:
    path = "/v1/orgs/acme/budgets/daily cap"
    answer = client.put(path, json={**BUDGET, "scope": "user"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["budget"]["max_usd"] == "25"
    (listed,) = client.get("/v1/orgs/acme/budgets").json()["budgets"]
    assert (listed["name"], listed["scope"], listed["subject"]) == ("daily cap", "user", None)
    (line,) = client.get("/v1/orgs/acme/limits").json()["budgets"]
    assert (line["used_usd"], line["max_usd"], line["resets_at"]) == ("0", "25", "2026-11-02T23:00:00Z")
    gone = client.delete(path, params={"author": "bob"})
    assert (gone.json()["budget"], gone.json()["author"]) == (None, "bob")
    assert client.get("/v1/orgs/acme/budgets").json() == {"budgets": []}
    problem(client.delete(path, params={"author": "bob"}), 404, "budget_unknown")
    problem(client.delete(path), 422, "invalid_request")
    problem(client.put(path, json={**BUDGET, "max_usd": "-1"}), 422, "invalid_amount")
    problem(client.put(path, json={**BUDGET, "subject": "u1"}), 422, "budget_subject")
    problem(client.put("/v1/orgs/acme/budgets/" + "x" * 65, json=BUDGET), 422, "invalid_request")


def test_an_exception_is_signed_off_dated_and_shown(client: TestClient) -> None:
    answer = client.post("/v1/orgs/initech/overrides", json=OVERRIDE)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["override"]["approved_by"], made["grant"]["credits"]) == ("bob", "3")
    assert client.post("/v1/orgs/initech/overrides", json=OVERRIDE).content == answer.content
    (listed,) = client.get("/v1/orgs/initech/overrides").json()["overrides"]
    limits = client.get("/v1/orgs/initech/limits").json()
    assert limits["overrides"] == [listed]
    assert limits["limits"][0]["override_id"] == listed["override_id"] == made["override"]["override_id"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"approved_by": "ann"}, "same_person"),
        ({"expires_at": "2027-02-01T00:00:00Z"}, "expires_too_late"),
        ({"expires_at": "2026-11-02T12:00:00Z"}, "expired_already"),
        ({"limits": {}, "credits": None}, "empty_override"),
        ({"limits": {"tokens": 1}}, "unknown_limit"),
        ({"limits": {"1": -1}}, "invalid_number"),
        ({"limits": {"1": "9"}}, "invalid_request"),
        ({"reason": ""}, "empty_text"),
    ],
)
def test_an_exception_that_nobody_could_sign_is_refused(client: TestClient, more: dict[str, Any], code: str) -> None:
    problem(client.post("/v1/orgs/initech/overrides", json={**OVERRIDE, **more}), 422, code)
    assert client.get("/v1/orgs/initech/overrides").json() == {"overrides": []}
    assert client.get("/v1/orgs/initech/wallet").json()["available"] == "0"


def test_an_org_is_suspended_and_taken_up_again(client: TestClient, shop: Runtime) -> None:
    give(shop)
    answer = client.put("/v1/orgs/acme/standing", json={"suspended": "unpaid", "author": "ann"})
    assert (answer.status_code, answer.json()["suspended"]) == (200, "unpaid"), answer.text
    assert hold(shop)["decision"]["code"] == "org_suspended"
    assert client.get("/v1/orgs/acme/limits").json()["suspended"] == "unpaid"
    client.put("/v1/orgs/acme/standing", json={"enforcement": "shadow", "author": "ann"})
    limits = client.get("/v1/orgs/acme/limits").json()
    assert (limits["suspended"], limits["enforcement"]) == (None, "shadow")
    problem(client.put("/v1/orgs/acme/standing", json={"suspended": "unpaid"}), 422, "invalid_request")


def test_the_price_list_and_the_versions_are_shown(client: TestClient) -> None:
    listed = client.get("/v1/orgs/globex/actions").json()
    assert (listed["plan"], listed["credit"]) == ("monthly", {"name": "credit", "usd": "0.01"})
    assert [one["in_plan"] for one in listed["actions"]] == [True, True, False]
    versions = client.get("/v1/versions").json()
    assert [(one["contract"], one["version"]) for one in versions["contracts"]] == [("shop", "1")]
    assert versions["contracts"][0]["sha256"] == listed["contract_sha256"]


def test_any_entry_is_explained(client: TestClient, shop: Runtime) -> None:
    give(shop)
    hold(shop)
    end(shop, "h2", events=[call()])
    for seq, kind in enumerate(("grant", "hold", "usage", "settlement"), 1):
        entry = client.get(f"/v1/orgs/acme/entries/{seq}").json()
        assert (entry["seq"], entry["kind"]) == (seq, kind)
        assert entry["what"]
    problem(client.get("/v1/orgs/acme/entries/5"), 404, "unknown_entry")
    problem(client.get("/v1/orgs/acme/entries/0"), 422, "invalid_request")


def test_an_org_whose_id_has_slashes_has_an_account_too(client: TestClient) -> None:
    assert client.post("/v1/orgs/a/b/grants", json=GRANT).json()["org_id"] == "a/b"
    assert client.get("/v1/orgs/a/b/wallet").json()["available"] == "100"
    assert client.put("/v1/orgs/a/b/budgets/cap", json=BUDGET).status_code == 200
    assert [one["kind"] for one in client.get("/v1/orgs/a/b/wallet/entries").json()["entries"]] == ["grant", "budget"]


@pytest.mark.parametrize("what", ["wallet", "wallet/entries", "holds", "limits", "actions", "budgets", "overrides"])
def test_an_org_that_nobody_knows_is_not_found(client: TestClient, what: str) -> None:
    problem(client.get(f"/v1/orgs/nobody/{what}"), 404, "unknown_org")
