"""Lists of invoices in pages: a page computes its own drafts and no other, and a cursor holds while invoices change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from billing import OCTOBER, SELLER, payment
from invoicing import apply, event, record, subscribe
from tallystick.api.app import create_app
from tallystick.app import invoice_life
from tallystick.app.invoice_actions import record_payment
from tallystick.app.invoice_life import finalize_month
from tallystick.app.runtime import Runtime

ORGS = [f"org/{number}" for number in range(5)]


@pytest.fixture
def client(runtime: Runtime) -> Iterator[TestClient]:
    apply(runtime, SELLER)
    for org_id in ORGS:
        subscribe(runtime, org_id, effective_from=datetime(2026, 10, 1, tzinfo=UTC))
        record(runtime, [event("r1", org_id)])
    with TestClient(create_app(runtime)) as opened:
        yield opened


def pages(client: TestClient, **asked: Any) -> Iterator[list[dict[str, Any]]]:
    cursor: str | None = ""
    while cursor is not None:
        said = {**asked, **({"cursor": cursor} if cursor else {})}
        answer = client.get("/v1/billing/invoices", params=said).json()
        yield answer["invoices"]
        cursor = answer["next_cursor"]


def test_a_page_computes_its_own_drafts_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[str] = []
    preview = invoice_life.preview_invoice

    def counted(runtime: Runtime, org_id: str, label: str) -> Any:
        computed.append(org_id)
        return preview(runtime, org_id, label)

    monkeypatch.setattr(invoice_life, "preview_invoice", counted)
    found = []
    for page in pages(client, state="draft", limit=2):
        assert len(computed) <= 3  # and one more, to know whether there is another page
        computed.clear()
        found += page
    assert [(one["org_id"], one["month"], one["state"]) for one in found] == [(org, OCTOBER, "draft") for org in ORGS]


def test_drafts_that_are_closed_between_pages_leave_no_gap(client: TestClient, runtime: Runtime) -> None:
    reading = pages(client, state="draft", limit=2)
    first = next(reading)
    finalize_month(runtime, OCTOBER, ORGS[1:3])
    rest = [one for page in reading for one in page]
    assert [one["org_id"] for one in first + rest] == [ORGS[0], ORGS[1], ORGS[3], ORGS[4]]


def test_a_cursor_holds_when_its_invoice_is_paid_meanwhile(client: TestClient, runtime: Runtime) -> None:
    finalize_month(runtime, OCTOBER)
    reading = pages(client, state="open", limit=2)
    first = next(reading)
    record_payment(runtime, first[-1]["invoice_id"], payment("p1", "10"))
    rest = [one for page in reading for one in page]
    assert [one["org_id"] for one in first + rest] == ORGS
    refused = client.get("/v1/billing/invoices", params={"cursor": "inv_no"})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_cursor")


def test_an_orgs_drafts_come_before_what_is_closed(client: TestClient, runtime: Runtime) -> None:
    finalize_month(runtime, OCTOBER)
    runtime.clock = lambda: datetime(2027, 1, 1, 12, tzinfo=UTC)
    found = [one for page in pages(client, org_id=ORGS[0], limit=1) for one in page]
    assert [(one["month"], one["state"]) for one in found] == [
        ("2026-11", "draft"), ("2026-12", "draft"), (OCTOBER, "overdue"),
    ]  # fmt: skip
