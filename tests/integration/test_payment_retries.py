"""Events of payments that wait are done by themselves, callbacks of strangers take nobody's place, and what is counted
is said to be.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, billed_org, findings, money
from conftest import NOW
from fake_stripe import KEY, SECRET, FakeStripe, running_stripe, signed
from invoicing import apply, event, record, subscribe
from journal_helpers import count
from tallystick.api import payments
from tallystick.api.app import create_app
from tallystick.app.body_budget import BodyBudget
from tallystick.app.close_month import close_month
from tallystick.app.invoice_life import issue_invoice
from tallystick.app.job_list import find_job
from tallystick.app.jobs import run_job
from tallystick.app.payment_events import TakenEvent, list_payment_events, retry_event, signed_event, take_callback
from tallystick.app.payments.providers import find_adapter
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput
from tallystick.journal import steps
from tallystick.journal.payment_events import Outcome, add_event, add_outcome


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with running_stripe() as fake:
        yield fake


@pytest.fixture
def runtime(database_url: str, tmp_path: Path, stripe: FakeStripe) -> Iterator[Runtime]:
    settings = Settings(
        database_url=database_url,
        data_dir=tmp_path,
        stripe_api_key=KEY,
        stripe_webhook_secret=SECRET,
        stripe_api_base=stripe.url,
    )
    with open_runtime(settings, lambda: NOW) as opened:
        yield opened


def take(runtime: Runtime, body: bytes) -> TakenEvent:
    return take_callback(runtime, "stripe", signed(body), body)


def match(runtime: Runtime) -> str:
    done = run_job(runtime, find_job(runtime.settings, "payments"), by="hand")
    assert done is not None
    return done.detail


def test_what_waits_is_done_by_the_job_and_what_fails_keeps_no_other_waiting(
    runtime: Runtime, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1", "globex")])
    close_month(runtime, OCTOBER, ["globex"])
    said = {"invoice_id": "globex/2026-10"}
    # one was kept, and its server killed; one is of an invoice that is not issued yet; one is of nobody's
    body = stripe.event("payment_intent.succeeded", stripe.intent("pi_1", 100, metadata=said), "evt_1")
    event_id = signed_event(runtime, "stripe", signed(body), body)
    fact = find_adapter(runtime.settings, "stripe").fetch(event_id)
    with runtime.database.operator() as connection:
        add_event(connection, "stripe", fact, sha256(body).digest(), NOW)
    for name, metadata in (("2", said), ("3", {"invoice_number": "ACME-2026-000099"})):
        intent = stripe.intent(f"pi_{name}", 100, metadata=metadata)
        assert (
            take(runtime, stripe.event("payment_intent.succeeded", intent, f"evt_{name}")).stored.state == "unmatched"
        )
    assert match(runtime) == "0 events of payments came to an end, 3 wait still"
    with TestClient(create_app(runtime)) as client:
        figures = client.get("/metrics").text
    assert "tallystick_payments_pending 0.0" in figures, "it was looked at: it waits for its invoice"
    assert "tallystick_payments_unmatched 3.0" in figures
    issue_invoice(runtime, "globex/2026-10")

    from tallystick.app import payment_retries

    def fail(given: Runtime, provider: str, event_id: str) -> Any:
        if event_id == "evt_1":
            raise ValueError("it is broken")
        return retry_event(given, provider, event_id)

    monkeypatch.setattr(payment_retries, "retry_event", fail)
    with pytest.raises(ValueError, match="broken"):
        match(runtime)
    assert money(runtime)["cash"] == 100
    monkeypatch.undo()
    assert match(runtime) == "1 events of payments came to an end, 1 wait still"
    rows = count(runtime, "payment_outcomes")
    assert match(runtime) == "0 events of payments came to an end, 1 wait still"
    assert (money(runtime)["cash"], count(runtime, "payment_outcomes")) == (200, rows), "nothing new is said"
    # what only a person can tell waits for one, and nothing is tried for ever
    assert (
        take(runtime, stripe.event("payment_intent.succeeded", stripe.intent("pi_4"), "evt_4")).stored.state
        == "unmatched"
    )
    assert match(runtime) == "0 events of payments came to an end, 1 wait still"
    runtime.clock = lambda: NOW + timedelta(days=91)
    assert match(runtime) == "0 events of payments came to an end, 0 wait still"
    assert findings(runtime) == []


def test_what_is_counted_is_said_to_be_though_another_found_it_waiting_before(
    runtime: Runtime, stripe: FakeStripe
) -> None:
    billed_org(runtime)
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata={"invoice_id": "globex/2026-10"}))
    waits = Outcome("unmatched", "invoice_not_issued", "not yet", None, None, (), "stripe", NOW - timedelta(seconds=1))

    def say_before(step: str) -> None:
        if step == "payments.settled":
            steps.install(None)
            with runtime.database.operator() as connection:
                assert add_outcome(connection, "stripe", "evt_1", 1, waits)

    steps.install(say_before)
    try:
        assert take(runtime, body).stored.state == "recorded"
    finally:
        steps.install(None)
    assert [one.state for one in list_payment_events(runtime)] == ["recorded"]
    assert findings(runtime) == []


def test_a_key_of_an_unknown_kind_takes_no_play_money(runtime: Runtime, stripe: FakeStripe) -> None:
    billed_org(runtime)
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata={"invoice_id": "globex/2026-10"}))
    settings = runtime.settings.model_copy(update={"stripe_api_key": SecretStr("sk_org_" + "d" * 24)})
    with pytest.raises(BadInput) as refused:
        take(replace(runtime, settings=settings), body)
    assert refused.value.code == "payment_mode_mismatch"
    assert count(runtime, "payment_events") == 0


def test_a_key_is_not_sent_in_the_clear(runtime: Runtime) -> None:
    for base in (
        "http://stripe.example.com",
        "ftp://127.0.0.1",
        "//api.stripe.com",
        "http://[::1",
        "http://127.0.0.1.nip.io",
    ):
        with pytest.raises(BadInput) as refused:
            find_adapter(runtime.settings.model_copy(update={"stripe_api_base": base}), "stripe")
        assert (refused.value.code, refused.value.where) == ("invalid_setting", "TALLY_STRIPE_API_BASE"), base
    find_adapter(runtime.settings.model_copy(update={"stripe_api_base": "https://stripe.example.com/"}), "stripe")


def test_callbacks_of_strangers_and_slow_ones_take_nobodys_place(
    runtime: Runtime, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payments, "CALLBACKS_WAITING_MAX", 0)  # whoever would have to wait is told to come again
    there = "/v1/payments/callbacks/stripe"
    with TestClient(create_app(runtime)) as client:
        forged = client.post(there, content=b"{}", headers={"stripe-signature": "t=1,v1=00"})
        assert (forged.status_code, forged.json()["code"]) == (400, "invalid_signature")
        body = stripe.event("payment_intent.succeeded", stripe.intent())
        assert client.post(there, content=body, headers=signed(body)).json()["code"] == "busy"

    monkeypatch.setattr(payments, "CALLBACK_SECONDS", 0.05)
    budget = BodyBudget(10)
    given = iter([{"type": "http.request", "body": b"{", "more_body": True}])

    async def receive() -> Any:
        part = next(given, None)
        if part is None:
            await anyio.sleep_forever()
        return part

    async def read() -> None:
        await payments._read(Request({"type": "http", "headers": []}, receive), budget)

    with pytest.raises(BadInput, match="did not come within"):
        anyio.run(read)
    assert budget.bytes_held == 0


def test_a_provider_that_never_ends_its_answer_takes_nobodys_place(
    runtime: Runtime, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    billed_org(runtime)
    free = threading.Event()
    whole = payments.take_event

    def drip(*given: Any) -> TakenEvent:
        free.wait(20)
        return whole(*given)

    monkeypatch.setattr(payments, "WORK_SECONDS", 0.1)
    monkeypatch.setattr(payments, "take_event", drip)
    body = stripe.event("payment_intent.succeeded", stripe.intent(metadata={"invoice_id": "globex/2026-10"}))
    there = "/v1/payments/callbacks/stripe"
    with TestClient(create_app(runtime)) as client:
        for _ in range(payments.CALLBACKS_AT_ONCE + 1):
            late = client.post(there, content=body, headers=signed(body))
            assert (late.status_code, late.json()["code"]) == (503, "payment_provider_unavailable")
        monkeypatch.setattr(payments, "WORK_SECONDS", 30)
        monkeypatch.setattr(payments, "take_event", whole)
        done = client.post(there, content=body, headers=signed(body))
        assert (done.status_code, done.json()["state"]) == (200, "recorded")
        free.set()  # those that went on do no more than that
    assert money(runtime)["cash"] == 1000
