"""Callbacks of a payment provider: nothing is believed that it does not confirm, and money counts once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, VOID, billed_org, findings, money, payment
from conftest import NOW
from fake_stripe import KEY, SECRET, FakeStripe, running_stripe, signed
from invoicing import apply, event, record, subscribe
from journal_helpers import count, tamper
from tallystick.api.app import create_app
from tallystick.app.close_month import close_month
from tallystick.app.invoice_actions import void_invoice
from tallystick.app.invoice_life import InvoiceLife, issue_invoice
from tallystick.app.payment_events import take_callback
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.test_clock import advance_clock, make_test_org


@pytest.fixture(scope="module")
def server() -> Iterator[FakeStripe]:
    with running_stripe() as fake:
        yield fake


@pytest.fixture
def stripe(server: FakeStripe) -> FakeStripe:
    server.objects.clear()
    server.asked.clear()
    server.accounts.clear()
    server.status = None
    return server


@pytest.fixture
def runtime(database_url: str, tmp_path: Path, stripe: FakeStripe) -> Iterator[Runtime]:
    settings = Settings(
        database_url=database_url,
        data_dir=tmp_path,
        stripe_api_key=KEY,
        stripe_webhook_secret=f"whsec_old {SECRET}",
        stripe_api_base=stripe.url,
    )
    with open_runtime(settings, lambda: NOW) as opened:
        yield opened


@pytest.fixture
def life(runtime: Runtime) -> InvoiceLife:
    return billed_org(runtime)[0]


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    with TestClient(create_app(runtime)) as opened:
        yield opened


def named(life: InvoiceLife) -> dict[str, str]:
    assert life.account is not None
    return {"invoice_number": life.account.number}


def send(client: TestClient, body: bytes, headers: dict[str, str] | None = None) -> Any:
    return client.post("/v1/payments/callbacks/stripe", content=body, headers=headers or signed(body))


def test_a_payment_is_counted_once_whichever_of_its_events_come(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    intent = stripe.intent(metadata=named(life))
    charge = stripe.put(
        "charges", id="ch_1", payment_intent="pi_1", paid=True, captured=True, status="succeeded", amount_captured=1000
    )
    for name, kind, target in (("evt_1", "charge.succeeded", charge), ("evt_2", "payment_intent.succeeded", intent)):
        body = stripe.event(kind, target, name)
        answered = send(client, body)
        assert (answered.status_code, answered.json()["state"], answered.json()["is_new"]) == (200, "recorded", True)
        assert send(client, body).json() == {**answered.json(), "is_new": False}
    assert money(runtime) == {"cash": 1000, "receivable": 0, "revenue": -1000}
    assert findings(runtime) == []
    assert stripe.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("order", ["as they come", "the last one first", "at once"])
def test_every_captured_part_counts_once_in_whatever_order_its_events_come(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife, order: str
) -> None:
    intent = stripe.intent(metadata=named(life), amount=0)
    intent["status"] = "requires_capture"
    charge = stripe.put(
        "charges", id="ch_1", payment_intent="pi_1", paid=True, captured=False, status="succeeded", amount_captured=0
    )
    assert state(send(client, stripe.event("charge.succeeded", charge, "evt_0"))) == (200, "ignored", "moves_nothing")
    parts = [(300, 0, "charge.updated", charge), (700, 700, "charge.captured", charge),
             (1000, 1000, "payment_intent.succeeded", intent)]  # fmt: skip
    bodies = [stripe.event(kind, target, f"evt_{part}") for part, (_, _, kind, target) in enumerate(parts, start=1)]

    def stands(part: int) -> None:
        charge["amount_captured"], intent["amount_received"] = parts[part][:2]
        intent["status"] = "succeeded" if part == 2 else "requires_capture"

    taken = [(0, 0), (1, 1), (2, 2)] if order == "as they come" else [(2, 2), (1, 0), (0, 1)]
    if order == "at once":  # asked about when all was captured, or told of long before and asked about late
        taken = [(0, 2), (2, 2), (1, 2)]
    for event_at, then in taken:
        stands(then)
        for is_new in (True, False):
            answered = send(client, bodies[event_at])
            assert (*state(answered), answered.json()["is_new"]) == (*RECORDED, is_new)
    assert money(runtime) == {"cash": 1000, "receivable": 0, "revenue": -1000}
    told = refund(stripe, amount=650)
    assert state(send(client, stripe.event("refund.created", told, "evt_9"))) == RECORDED
    assert money(runtime) == {"cash": 350, "receivable": 650, "revenue": -1000}
    assert findings(runtime) == []
    assert count(runtime, "invoice_events where kind = 'payment'") == (4 if order == "as they come" else 2)


def refund(stripe: FakeStripe, amount: int = 400, **members: Any) -> dict[str, Any]:
    return stripe.put(
        "refunds", **{"id": "re_1", "payment_intent": "pi_1", "status": "succeeded", "amount": amount, **members}
    )


def state(answered: Any) -> tuple[int, str, str | None]:
    return answered.status_code, answered.json()["state"], answered.json()["code"]


RECORDED = (200, "recorded", None)


@pytest.mark.parametrize("first", ["payment", "refund"])
def test_a_refund_goes_back_once_whichever_comes_first(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife, first: str
) -> None:
    intent = stripe.intent(metadata=named(life))
    charge = stripe.put("charges", id="ch_1", payment_intent="pi_1", paid=True, captured=True, status="succeeded")
    told = refund(stripe, charge="ch_1")
    bodies = [
        stripe.event("payment_intent.succeeded", intent, "evt_1"),
        stripe.event("refund.created", told, "evt_2"),
        stripe.event("charge.refunded", charge, "evt_3"),
    ]
    for body in bodies if first == "payment" else reversed(bodies):
        assert state(send(client, body)) == RECORDED
    assert money(runtime) == {"cash": 600, "receivable": 400, "revenue": -1000}
    # the bank refuses it: what went back has come in again, once
    told["status"] = "failed"
    for name in ("evt_4", "evt_5"):
        assert state(send(client, stripe.event("refund.failed", told, name))) == RECORDED
    assert money(runtime) == {"cash": 1000, "receivable": 0, "revenue": -1000}
    assert findings(runtime) == []


def test_a_refund_that_has_not_happened_and_one_that_failed_before_it_was_told_move_nothing(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    stripe.intent(metadata=named(life))
    told = refund(stripe, status="pending")
    assert state(send(client, stripe.event("refund.created", told, "evt_1"))) == (200, "ignored", "moves_nothing")
    told["status"] = "failed"
    assert state(send(client, stripe.event("refund.failed", told, "evt_2"))) == RECORDED  # the payment itself
    assert money(runtime)["cash"] == 1000


def test_a_dispute_that_is_lost_takes_the_money_back(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    charge = stripe.put(
        "charges", id="ch_1", paid=True, captured=True, status="succeeded", amount_captured=1000, metadata=named(life)
    )
    dispute = stripe.put("disputes", id="du_1", charge="ch_1", amount=1000, status="needs_response")
    assert state(send(client, stripe.event("charge.dispute.created", dispute, "evt_1"))) == (
        200,
        "ignored",
        "moves_nothing",
    )
    dispute["status"] = "lost"
    assert state(send(client, stripe.event("charge.dispute.closed", dispute, "evt_2"))) == RECORDED
    assert state(send(client, stripe.event("charge.succeeded", charge, "evt_3"))) == RECORDED
    assert money(runtime) == {"cash": 0, "receivable": 1000, "revenue": -1000}
    assert findings(runtime) == []


UNCONFIRMED = [
    ("another secret", 400, "invalid_signature"),
    ("another body", 400, "invalid_signature"),
    ("no signature", 400, "invalid_signature"),
    ("no header's form", 400, "invalid_signature"),
    ("letters that are none", 400, "invalid_signature"),
    ("no text", 400, "invalid_signature"),
    ("long ago", 400, "invalid_signature"),
    ("in the future", 400, "invalid_signature"),
    ("no event", 400, "invalid_callback"),
    ("no id", 400, "invalid_callback"),
    ("a thin event", 400, "invalid_callback"),
    ("no JSON", 400, "invalid_callback"),
    ("an event that there is not", 422, "payment_event_unverified"),
    ("a payment that there is not", 422, "payment_event_unverified"),
    ("real money", 422, "payment_mode_mismatch"),
    ("a payment of real money", 422, "payment_mode_mismatch"),
    ("another account", 422, "payment_account_mismatch"),
    ("too much", 413, "body_too_large"),
    ("nothing", 400, "empty_body"),
    ("an unknown provider", 404, "unknown_provider"),
    ("by hand", 404, "unknown_provider"),
]


def test_what_the_provider_does_not_confirm_moves_nothing_and_is_not_kept(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    for what, status, code in UNCONFIRMED:
        stripe.objects.clear()
        stripe.asked.clear()
        intent = stripe.intent(metadata=named(life))
        body, headers, provider = unconfirmed(what, stripe, intent)
        raw = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        answered = client.post(f"/v1/payments/callbacks/{provider}", content=body, headers=raw)
        assert (answered.status_code, answered.json()["code"]) == (status, code), what
        for secret in (KEY, SECRET, "whsec_"):
            assert secret not in answered.text
        if status == 400:
            assert stripe.asked == [], what
    assert money(runtime)["receivable"] == 1000
    assert client.get("/v1/payments/events").json()["events"] == []


def unconfirmed(what: str, stripe: FakeStripe, intent: dict[str, Any]) -> tuple[bytes, dict[str, str], str]:
    body = stripe.event("payment_intent.succeeded", intent)
    headers, provider = signed(body), "stripe"
    match what:
        case "another secret":
            headers = signed(body, "whsec_other")
        case "another body":
            body = body.replace(b"1000", b"9000")
        case "no signature":
            headers = {"content-type": "application/json"}
        case "no header's form":
            headers["stripe-signature"] = "t=x,v1"
        case "letters that are none":
            headers["stripe-signature"] = headers["stripe-signature"][:-1] + "\xe9"
        case "no text":
            body = b"\xff\xfe{}"
        case "long ago":
            headers = signed(body, at=int(time.time()) - 301)
        case "in the future":
            headers = signed(body, at=int(time.time()) + 3000)
        case "no event":
            body = b'{"object":"charge","id":"ch_1"}'
        case "no id":
            body = b'{"object":"event","id":"../charges/ch_1"}'
        case "a thin event":
            body = b'{"object":"v2.core.event","id":"evt_1"}'
        case "no JSON":
            body = b"{"
        case "an event that there is not":
            stripe.objects.clear()
        case "a payment that there is not":
            del stripe.objects["payment_intents/pi_1"]
        case "real money":
            body = stripe.event("payment_intent.succeeded", intent, livemode=True)
        case "a payment of real money":
            intent["livemode"] = True
        case "another account":
            body = stripe.event("payment_intent.succeeded", intent, account="acct_2")
        case "too much":
            body = b"[" + b" " * 300_000 + b"]"
        case "nothing":
            body = b""
        case "an unknown provider":
            provider = "paypal"
        case "by hand":
            provider = "manual"
    if what in ("no event", "no id", "a thin event", "no JSON", "real money", "another account"):
        headers = signed(body)
    return body, headers, provider


def test_a_provider_that_cannot_be_asked_is_asked_again(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata=named(life)))
    for stripe.status in (401, 403, 429, 500):
        refused = send(client, body)
        assert (refused.status_code, refused.json()["code"]) == (503, "payment_provider_unavailable")
        assert (int(refused.headers["Retry-After"]) > 0, KEY in refused.text) == (True, False)
        assert client.get("/v1/payments/events").json()["events"] == []
    stripe.status = None
    assert state(send(client, body)) == RECORDED


FIRST = {"invoice_number": "ACME-2026-000001"}
PAYMENTS: list[tuple[dict[str, Any], str, str | None]] = [
    ({"currency": "eur"}, "refused", "currency_not_supported"),
    ({"currency": "jpy"}, "refused", "currency_not_supported"),
    ({"amount": 10**15 + 1}, "refused", "invalid_amount"),
    ({"metadata": {}}, "unmatched", "invoice_not_named"),
    ({"metadata": {"invoice_number": "\0"}}, "unmatched", "invoice_not_named"),
    ({"metadata": {"invoice_number": "ACME-2026-000099"}}, "unmatched", "unknown_invoice"),
    ({"metadata": {"invoice_number": "globex/2026-99"}}, "unmatched", "unknown_invoice"),
    ({"metadata": {**FIRST, "org_id": "initech"}}, "unmatched", "invoice_not_clear"),
    ({"metadata": {**FIRST, "invoice_id": "initech/2026-10"}}, "unmatched", "invoice_not_clear"),
    ({"metadata": {"invoice_number": "umbrella/2026-10"}}, "unmatched", "invoice_void"),
    ({"amount": 0}, "ignored", "moves_nothing"),
    ({"amount": 2500, "metadata": {**FIRST, "org_id": "globex"}}, "recorded", None),
]


def test_what_a_payment_is_for_and_in(client: TestClient, runtime: Runtime, stripe: FakeStripe) -> None:
    billed_org(runtime, "globex", "initech", "umbrella")
    void_invoice(runtime, "umbrella/2026-10", VOID)
    for place, (members, due, code) in enumerate(PAYMENTS):
        intent = stripe.intent(f"pi_{place}", **{"metadata": FIRST, **members})
        body = stripe.event("payment_intent.succeeded", intent, f"evt_{place}")
        assert state(send(client, body)) == (200, due, code), members
        listed = client.get("/v1/payments/events", params={"state": due}).json()["events"]
        assert (f"pi_{place}", code) in [(one["payment_id"], one["code"]) for one in listed]
    assert [money(runtime, org_id).get("cash", 0) for org_id in ("globex", "initech", "umbrella")] == [2500, 0, 0]
    late = client.post("/v1/payments/events/stripe/evt_0/assign", json={"invoice": "globex/2026-10", "author": "ann"})
    assert (late.status_code, late.json()["code"]) == (409, "payment_event_settled")
    assert findings(runtime) == []


def test_unknown_types_are_kept_and_ignored(client: TestClient, runtime: Runtime, stripe: FakeStripe) -> None:
    body = stripe.event("customer.created", {"object": "customer", "id": "cus_1", "email": "ann@customer.example"})
    assert state(send(client, body)) == (200, "ignored", "moves_nothing")
    assert stripe.asked == ["events/evt_1"]
    assert "ann@" not in client.get("/v1/payments/events").text


def test_money_of_nobody_waits_for_somebody_and_its_refund_with_it(
    client: TestClient, runtime: Runtime, stripe: FakeStripe
) -> None:
    billed_org(runtime, "globex", "initech")
    bodies = [
        stripe.event("refund.created", refund(stripe), "evt_2"),
        stripe.event("payment_intent.succeeded", stripe.intent(), "evt_1"),
    ]
    for body in bodies:
        assert state(send(client, body)) == (200, "unmatched", "invoice_not_named")
    there = "/v1/payments/events/stripe/evt_1"
    wrong = client.post(f"{there}/assign", json={"invoice": "ACME-2026-000009", "author": "ann"})
    assert (wrong.status_code, wrong.json()["code"]) == (404, "unknown_invoice")
    given = {"invoice": "globex/2026-10", "author": "ann"}
    assigned = client.post(f"{there}/assign", json=given).json()
    assert (assigned["state"], assigned["org_id"], assigned["author"]) == ("recorded", "globex", "ann")
    assert client.post(f"{there}/assign", json=given).json() == assigned
    told = client.get("/v1/audit", params={"act": "payment_event", "org_id": "globex"}).json()["acts"]
    assert [(one["act"], one["author"], one["via"]) for one in told] == [
        ("payment_event.assign", "ann", "api assign_payment_event")
    ]
    other = client.post(f"{there}/assign", json={"invoice": "initech/2026-10", "author": "ann"})
    assert (other.status_code, other.json()["code"]) == (409, "payment_event_settled")
    states = {one["event_id"]: one["state"] for one in client.get("/v1/payments/events").json()["events"]}
    assert states == {"evt_1": "recorded", "evt_2": "recorded"}
    assert money(runtime) == {"cash": 600, "receivable": 400, "revenue": -1000}
    assert findings(runtime) == []
    missing = client.post("/v1/payments/events/stripe/evt_9/retry")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_payment_event")


def test_a_payment_counts_once_over_all_orgs(client: TestClient, runtime: Runtime, stripe: FakeStripe) -> None:
    billed_org(runtime, "globex", "initech")
    first = client.post("/v1/invoices/ACME-2026-000001/payments", json=payment("pi_1", "10", provider="stripe"))
    assert first.status_code == 200
    again = client.post("/v1/invoices/ACME-2026-000002/payments", json=payment("pi_1", "10", provider="stripe"))
    assert (again.status_code, again.json()["code"]) == (409, "request_id_conflict")
    told = stripe.intent(metadata={"invoice_number": "ACME-2026-000002"})
    assert state(send(client, stripe.event("payment_intent.succeeded", told))) == RECORDED
    (listed,) = client.get("/v1/payments/events").json()["events"]
    assert listed["org_id"] == "globex"
    assert money(runtime, "initech")["receivable"] == 1000


def test_pages_of_events(client: TestClient, runtime: Runtime, stripe: FakeStripe) -> None:
    for number in range(5):
        send(client, stripe.event("customer.created", {"id": "cus_1"}, f"evt_{number}"))
    first = client.get("/v1/payments/events", params={"limit": 3}).json()
    rest = client.get("/v1/payments/events", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    names = [one["event_id"] for one in first["events"] + rest["events"]]
    assert (names, rest["next_cursor"]) == ([f"evt_{number}" for number in (4, 3, 2, 1, 0)], None)
    assert client.get("/v1/payments/events", params={"cursor": "x"}).json()["code"] == "invalid_cursor"


def test_a_callback_needs_no_key_and_everything_beside_it_does(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    runtime.settings.require_keys = True
    with TestClient(create_app(runtime)) as guarded:
        body = stripe.event("payment_intent.succeeded", stripe.intent(metadata=named(life)))
        assert state(send(guarded, body)) == RECORDED
        assert guarded.get("/v1/payments/events").status_code == 401
        assert guarded.post("/v1/payments/events/stripe/evt_1/assign", json={}).status_code == 401


def test_an_invoice_that_is_issued_later_is_paid_when_it_is_tried_again(
    client: TestClient, runtime: Runtime, stripe: FakeStripe
) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1", "globex")])
    close_month(runtime, OCTOBER, ["globex"])
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata={"invoice_id": "globex/2026-10"}))
    assert state(send(client, body)) == (200, "unmatched", "invoice_not_issued")
    again = "/v1/payments/events/stripe/evt_1/retry"
    assert client.post(again).json()["code"] == "invoice_not_issued"
    issue_invoice(runtime, "globex/2026-10")
    assert [client.post(again).json()["state"] for _ in range(2)] == ["recorded", "recorded"]
    assert count(runtime, "payment_outcomes") == 2
    assert money(runtime)["cash"] == 1000


def test_what_is_kept_of_events_cannot_be_changed_unseen(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife, database_url: str
) -> None:
    send(client, stripe.event("payment_intent.succeeded", stripe.intent(metadata=named(life))))
    assert findings(runtime) == []
    tamper(database_url, "update payment_outcomes set seqs = '{1}'", "update payment_events set livemode = true")
    found = " ".join(findings(runtime))
    for what in ("payment_outcomes: the event evt_1 of stripe", "event evt_1 of stripe", "outcome 1 of event evt_1"):
        assert what in found


def test_without_the_database_nobody_is_asked_and_it_is_to_be_sent_again(
    client: TestClient, runtime: Runtime, stripe: FakeStripe, life: InvoiceLife
) -> None:
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata=named(life)))
    runtime.database.close()
    refused = send(client, body)
    assert (refused.status_code, refused.json()["code"]) == (503, "database_unreachable")
    assert stripe.asked == []


def test_an_endpoint_of_a_connected_account_asks_as_that_account(runtime: Runtime, stripe: FakeStripe) -> None:
    (life,) = billed_org(runtime)
    settings = runtime.settings.model_copy(update={"stripe_account": "acct_2"})
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata=named(life)), account="acct_2")
    taken = take_callback(replace(runtime, settings=settings), "stripe", signed(body), body)
    assert taken.stored.state == "recorded"
    assert stripe.accounts == {"acct_2"}


def test_real_money_is_for_no_invoice_of_a_test_org(runtime: Runtime, stripe: FakeStripe) -> None:
    apply(runtime, SELLER)
    make_test_org(runtime, "sandbox", datetime(2026, 10, 1, tzinfo=UTC), author="ann")
    subscribe(runtime, "sandbox")
    advance_clock(runtime, "sandbox", by="2mo", author="ann")
    settings = runtime.settings.model_copy(update={"stripe_api_key": SecretStr("sk_live_" + "c" * 24)})
    live = replace(runtime, settings=settings)
    said = {"invoice_id": "sandbox/2026-10"}
    intent = stripe.intent(metadata=said, livemode=True)
    body = stripe.event("payment_intent.succeeded", intent, livemode=True)
    taken = take_callback(live, "stripe", signed(body), body)
    assert taken.receipt()["code"] == "test_invoice"
    pretended = stripe.event("payment_intent.succeeded", stripe.intent("pi_2", metadata=said), "evt_2")
    assert take_callback(runtime, "stripe", signed(pretended), pretended).stored.state == "recorded"
    assert money(runtime, "sandbox")["cash"] == 1000
