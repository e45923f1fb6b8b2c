"""The life of invoices over HTTP: the same answers as on the command line, and refusals as problem documents."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, findings, note, payment
from invoicing import apply, event, record, subscribe
from tallystick.api.app import create_app
from tallystick.app.runtime import Runtime


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    with TestClient(create_app(runtime)) as opened:
        yield opened


def test_an_invoice_lives_from_its_number_to_its_payment(client: TestClient, runtime: Runtime) -> None:
    profile = {"author": "ann", "name": "Globex Corp.", "address": ["1 Main Street"], "tax_id": "US 1"}
    put = client.put("/v1/orgs/globex/billing-profile", json=profile)
    assert (put.status_code, put.json()["version"]) == (200, 1)
    assert client.put("/v1/orgs/globex/billing-profile", json=profile).json() == put.json()
    (final,) = client.post("/v1/billing/finalize", json={"month": OCTOBER}).json()["results"]
    assert (final["status"], final["number"], final["due_usd"]) == ("issued", "ACME-2026-000001", "10.00")
    there = f"/v1/invoices/{final['invoice_id']}"

    paid = client.post(f"{there}/payments", json=payment("p1", "4.50")).json()
    assert (paid["is_new"], paid["payment_id"], paid["invoice"]["state"]) == (True, "p3", "partly_paid")
    assert client.post(f"{there}/payments", json=payment("p1", "4.50")).json() == {**paid, "is_new": False}
    (due,) = client.get("/v1/billing/due").json()["due"]
    assert (due["due_usd"], due["bill_to"]) == ("5.50", "Globex Corp.")
    assert client.get("/v1/billing/due", params={"format": "csv"}).text.startswith("number,org_id,bill_to,")
    noted = client.post(f"{there}/credit-notes", json=note("n1", "5.50", line=1)).json()
    assert (noted["note_number"], noted["invoice"]["state"]) == ("ACME-CN-2026-000001", "paid")

    life = client.get(f"{there}/life").json()
    assert [one["kind"] for one in life["history"]] == ["invoice", "payment", "credit_note"]
    assert (life["seller"]["name"], life["bill_to"]["profile"]["tax_id"]) == ("Acme Analytics Inc.", "US 1")
    (listed,) = client.get("/v1/billing/invoices", params={"state": "paid"}).json()["invoices"]
    assert listed["number"] == "ACME-2026-000001"
    assert findings(runtime) == []


@pytest.mark.parametrize(
    ("way", "body", "status", "code"),
    [
        ("payments", payment("p", "1", currency="EUR"), 422, "currency_not_supported"),
        ("payments", payment("p", "1", returned=True), 409, "more_than_was_paid"),
        ("credit-notes", note("n", "10.01"), 409, "credit_exceeds_invoice"),
        ("credit-notes", note("n", "1", line=77), 422, "unknown_line"),
        ("payments", {"request_id": "p"}, 422, "invalid_request"),
    ],
)
def test_what_cannot_be_is_refused_and_moves_nothing(
    client: TestClient, way: str, body: dict[str, object], status: int, code: str
) -> None:
    (final,) = client.post("/v1/billing/finalize", json={"month": OCTOBER}).json()["results"]
    refused = client.post(f"/v1/invoices/{final['invoice_id']}/{way}", json=body)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert client.get(f"/v1/invoices/{final['invoice_id']}/life").json()["due_usd"] == "10.00"


def test_a_void_and_a_month_that_is_still_waited_for(client: TestClient, runtime: Runtime) -> None:
    early = client.post("/v1/billing/finalize", json={"month": "2026-11"})
    assert (early.status_code, early.json()["results"][0]["error"]["code"]) == (207, "month_not_over")
    (final,) = client.post("/v1/billing/finalize", json={"month": OCTOBER}).json()["results"]
    there = f"/v1/invoices/{final['invoice_id']}"
    void = client.post(f"{there}/void", json={"author": "ann", "reason": "billed twice"}).json()
    assert (void["invoice"]["state"], void["invoice"]["due_usd"]) == ("void", "0.00")
    refused = client.post(f"{there}/payments", json=payment("p", "1"))
    assert (refused.status_code, refused.json()["code"]) == (409, "invoice_void")


def test_a_test_org_is_put_through_its_months(client: TestClient) -> None:
    made = client.put("/v1/orgs/sandbox/test-clock", json={"at": "2026-10-01T00:00:00Z", "author": "ann"})
    assert made.status_code == 200
    subscribed = client.put("/v1/orgs/sandbox/subscription", json={"contract": "acme", "plan": "pro"})
    assert subscribed.json()["effective_from"] == "2026-10-01T00:00:00Z"
    done = client.post("/v1/orgs/sandbox/test-clock/advance", json={"by": "2mo", "author": "ann"}).json()
    assert (done["at"], [one["number"] for one in done["invoiced"]]) == (
        "2026-12-01T00:00:00Z", ["TEST-ACME-2026-000001"],
    )  # fmt: skip
    assert client.get("/v1/orgs/sandbox/test-clock").json()["at"] == "2026-12-01T00:00:00Z"
    refused = client.post("/v1/orgs/globex/test-clock/advance", json={"by": "2mo", "author": "ann"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_a_test_org")
