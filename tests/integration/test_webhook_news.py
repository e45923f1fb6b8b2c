"""What becomes of invoices, payments and disputes is told once, with the entry that made it so, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from billing import billed_org, findings, note, payment
from disputing import dispute, id_of, tiered_org, uphold
from journal_helpers import query
from tallystick.app.disputes import begin_review
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError


def told(runtime: Runtime) -> list[tuple[str, dict[str, Any]]]:
    rows = query(
        runtime, "select type, data from webhook_events order by (data::jsonb ->> 'entry_seq')::int, type desc"
    )
    return [(kind, json.loads(data)) for kind, data in rows]


def test_an_invoices_life_is_told_step_by_step_and_nothing_twice(runtime: Runtime) -> None:
    (life,) = billed_org(runtime, "globex")
    invoice = life.invoice_id
    for _ in range(2):
        record_payment(runtime, invoice, payment("p1", "4"))
    record_payment(runtime, invoice, payment("p2", "1", returned=True))
    with pytest.raises(TallyError):
        record_payment(runtime, invoice, payment("p3", "900", returned=True))
    credit_invoice(runtime, invoice, note("n1", "7"))
    steps = [(kind, data["due_usd"], data["state"], data.get("amount_usd")) for kind, data in told(runtime)]
    assert steps == [
        ("invoice.finalized", "10.00", "open", None),
        ("payment.recorded", "6.00", "partly_paid", "4.00"),
        ("payment.returned", "7.00", "partly_paid", "1.00"),
        ("invoice.paid", "0.00", "paid", None),
        ("invoice.credited", "0.00", "paid", "7.00"),
    ]
    data = dict(told(runtime))
    assert data["payment.recorded"]["payment_id"] == "manual:p1"
    assert data["invoice.credited"]["credit_note_number"] == "ACME-CN-2026-000001"
    assert data["invoice.finalized"]["number"] == "ACME-2026-000001"
    seqs = [(one["entry_seq"],) for _, one in told(runtime)]
    kinds = query(runtime, "select seq from ledger_entries where kind in ('invoice', 'payment', 'credit_note')")
    assert set(seqs) == set(kinds)
    assert findings(runtime) == []


def test_a_void_is_told_and_is_no_payment(runtime: Runtime) -> None:
    first, second = billed_org(runtime, "globex", "initech")
    void_invoice(runtime, first.invoice_id, {"reason": "wrong", "author": "ann"})
    record_payment(runtime, second.invoice_id, payment("p1", "10"))
    rows = query(runtime, "select org_id, type from webhook_events order by org_id, type")
    assert rows == [
        ("globex", "invoice.finalized"), ("globex", "invoice.voided"),
        ("initech", "invoice.finalized"), ("initech", "invoice.paid"), ("initech", "payment.recorded"),
    ]  # fmt: skip
    assert not [data for data in query(runtime, "select data from webhook_events") if "wrong" in str(data)]


def test_the_steps_of_a_dispute_are_told_and_what_it_gives_back_and_nobodys_words(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    done = dispute(runtime, invoice_id=life.invoice_id)
    begin_review(runtime, id_of(done), {"author": "ann"}, org_id="globex")
    for _ in range(2):
        uphold(runtime, done, amount_usd="3.50")
    steps = [(kind, data.get("disputed_usd"), data.get("upheld_usd"), data["state"]) for kind, data in told(runtime)]
    assert steps == [
        ("invoice.finalized", None, None, "open"),
        ("dispute.opened", "20.00", "0.00", "open"),
        ("dispute.under_review", "20.00", "0.00", "under_review"),
        ("dispute.upheld", "20.00", "3.50", "upheld"),
        ("invoice.credited", None, None, "open"),
    ]
    assert {data.get("dispute_id") for _, data in told(runtime)} == {None, id_of(done)}
    everything = str(told(runtime))
    for words in ("bob@globex.example", "that was not us", "you are right", "ann"):
        assert words not in everything
