"""Callbacks of a payment provider: nothing is believed that it does not confirm, and money counts once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from billing import billed_org, findings, money
from conftest import NOW
from fake_stripe import KEY, SECRET, FakeStripe, running_stripe, signed
from tallystick.api.app import create_app
from tallystick.app.invoice_life import InvoiceLife
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings


@pytest.fixture(scope="module")
def server() -> Iterator[FakeStripe]:
    with running_stripe() as fake:
        yield fake


@pytest.fixture
def stripe(server: FakeStripe) -> FakeStripe:
    server.objects.clear()
    server.asked.clear()
    server.status = server.before_answer = None
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
