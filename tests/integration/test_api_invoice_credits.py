"""Credits in money and promo codes over HTTP: the same answers again, refusals as problem documents, and for whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, findings
from invoicing import apply, event, record, subscribe
from tallystick.api.app import create_app
from tallystick.app.keys import create_key
from tallystick.app.runtime import Runtime


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    with TestClient(create_app(runtime)) as opened:
        yield opened


def test_credits_are_given_redeemed_listed_and_used(client: TestClient, runtime: Runtime) -> None:
    there = "/v1/orgs/globex"
    said = {
        "request_id": "k1", "amount_usd": "2.50", "source": "sla", "author": "ann", "reason": "slow",
        "about": {"incidents": ["i1"], "minutes": 12}, "expires_at": "2027-01-01T00:00:00Z",
    }  # fmt: skip
    given = client.post(f"{there}/invoice-credits", json=said).json()
    assert (given["credit_id"], given["left_usd"], given["is_new"]) == ("k2", "2.50", True)
    assert given["about"] == said["about"]
    assert client.post(f"{there}/invoice-credits", json=said).json() == {**given, "is_new": False}

    promo = {"code": "spring-24", "percent": "20", "invoices": 3, "limit": 1, "plans": ["pro"], "author": "ann"}
    made = client.post("/v1/promos", json=promo).json()
    assert (made["code"], made["left"], made["is_new"]) == ("SPRING-24", 1, True)
    assert client.post("/v1/promos", json=promo).json() == {**made, "is_new": False}
    asked = {"request_id": "m1", "code": "Spring-24", "author": "bob"}
    redeemed = client.post(f"{there}/promos", json=asked).json()
    assert (redeemed["code"], redeemed["percent"], redeemed["invoices"]) == ("SPRING-24", "20", 3)
    used = client.post(f"{there}/promos", json={**asked, "request_id": "m2"})
    assert (used.status_code, used.json()["code"], used.json()["where"]) == (409, "promo_used", "code")
    assert client.get("/v1/promos/SPRING-24").json()["redeemed"] == 1
    ended = client.post("/v1/promos/spring-24/end", json={"author": "ann", "reason": "over"}).json()
    assert [one["ended"] for one in ended["history"]] == [False, True]

    (final,) = client.post("/v1/billing/finalize", json={"month": OCTOBER}).json()["results"]
    assert (final["total_usd"], final["applied_usd"], final["due_usd"]) == ("10.00", "4.50", "5.50")
    life = client.get(f"/v1/invoices/{final['invoice_id']}/life").json()
    assert [(one["entry_id"], one["amount_usd"]) for one in life["applied"]] == [("m3", "2.00"), ("k2", "2.50")]
    listed = client.get(f"{there}/invoice-credits").json()
    assert [(one["credit_id"], one["state"]) for one in listed["credits"]] == [("k2", "used"), ("m3", "open")]
    assert listed["credits"][1]["invoices_left"] == 2
    entry = client.get("/v1/orgs/globex/entries/2").json()
    assert (entry["credit"]["amount_usd"], entry["why"], entry["by"]) == ("2.50", "slow", "ann")
    assert findings(runtime) == []


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("orgs/globex/promos", {"request_id": "m", "code": "NOPE", "author": "a"}, 404, "unknown_promo"),
        ("orgs/nobody/invoice-credits", {"request_id": "k", "amount_usd": "1", "author": "a", "reason": "r"}, 404,
         "unknown_org"),
        ("orgs/globex/invoice-credits", {"request_id": "k", "amount_usd": "0.001", "author": "a", "reason": "r"}, 422,
         "amount_too_fine"),
        ("orgs/globex/invoice-credits", {"request_id": "k", "author": "a"}, 422, "invalid_request"),
        ("promos", {"code": "OK-1", "percent": "5", "amount_usd": "5", "author": "a"}, 422, "invalid_promo"),
        ("promos/NOPE/end", {"author": "a"}, 404, "unknown_promo"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(
    client: TestClient, path: str, body: dict[str, object], status: int, code: str
) -> None:
    refused = client.post(f"/v1/{path}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert client.get("/v1/orgs/globex/invoice-credits").json()["credits"] == []


def test_a_key_of_an_org_redeems_for_it_and_sees_no_codes(client: TestClient, runtime: Runtime) -> None:
    client.post("/v1/promos", json={"code": "SPRING", "amount_usd": "5", "author": "ann"})
    key = create_key(runtime, org_id="globex", scopes=["authorize", "read"], author="ann")
    subscribe(runtime, "initech")
    headers = {"Authorization": f"Bearer {key.token}"}
    asked = {"request_id": "m1", "code": "SPRING", "author": "bob"}
    assert client.post("/v1/orgs/globex/promos", json=asked, headers=headers).status_code == 200
    assert client.get("/v1/orgs/globex/invoice-credits", headers=headers).json()["left_usd"] == "5.00"
    for method, path in (
        ("POST", "/v1/orgs/initech/promos"), ("GET", "/v1/orgs/initech/invoice-credits"), ("GET", "/v1/promos"),
        ("POST", "/v1/orgs/globex/invoice-credits"), ("POST", "/v1/promos"), ("GET", "/v1/promos/SPRING"),
    ):  # fmt: skip
        answer = client.request(method, path, json=asked if method == "POST" else None, headers=headers)
        assert answer.status_code == 403, path
