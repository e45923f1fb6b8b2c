"""What comes late for a closed month is on the next invoice, priced in its own month; closed invoices never change."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month, orgs_to_close, preview_invoice
from tallystick.app.invoices import find_invoice
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.invoice.model import Invoice
from tallystick.invoice.proof import check_proof, read_proof

CONTRACT = """
contract: acme
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
plans:
  flat:
    title: Flat
    base: "0"
    prices:
      tool_calls: {unit: "10"}
  volume:
    title: Volume
    base: "0"
    prices:
      tool_calls:
        volume:
          - {up_to: 15, unit: "10"}
          - {unit: "5"}
"""
SEPTEMBER = datetime(2026, 9, 10, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 10, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 10, tzinfo=UTC)


def use(runtime: Runtime, name: str, calls: int, time: datetime) -> None:
    record(runtime, [event(name, time=time, meters={"tool_calls": calls})])


def close(runtime: Runtime, label: str, now: datetime, org_id: str = "globex") -> Invoice:
    runtime.clock = lambda: now
    (result,) = close_month(runtime, label, [org_id])
    assert result.invoice is not None, result.error
    assert result.status == "closed"
    return result.invoice


def amounts(invoice: Invoice) -> list[tuple[str, str, str]]:
    return [(line.kind, invoice.month_of(line), line.amount_usd) for line in invoice.lines]


def test_a_flat_price_charges_what_came_late_by_month(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    first = close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    assert amounts(first) == [("usage", "2026-09", "50.00")]
    use(runtime, "b", 7, OCTOBER)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    assert amounts(second) == [("usage", "2026-10", "70.00")]
    use(runtime, "c", 2, SEPTEMBER)
    use(runtime, "d", 3, OCTOBER)
    preview = preview_invoice(runtime, "globex", "2026-11")
    third = close(runtime, "2026-11", datetime(2026, 12, 3, tzinfo=UTC))
    assert amounts(third) == [("adjustment", "2026-09", "20.00"), ("adjustment", "2026-10", "30.00")]
    assert third == preview
    assert third.totals.total_usd == "50.00"
    assert third.lines[0].description == (
        "2026-09: 2 more tool_calls, 7 instead of 5: 7 × 10.00 = 70.00, less 50.00 billed before."
    )
    assert [(one.period.label, one.invoice_id, one.ledger.events) for one in third.adjustments] == [
        ("2026-09", first.invoice_id, 1),
        ("2026-10", second.invoice_id, 1),
    ]
    for label in ("2026-09", "2026-10", "2026-11"):
        report = replay_invoice(runtime, f"globex/{label}")
        assert report.identical, [one.sentence() for one in report.differences]
    seal_once(runtime, everything=True)
    proof = check_proof(read_proof(b"".join(proof_pieces(runtime, third.invoice_id))))
    assert proof.problems == []


def test_a_volume_price_gives_the_old_tier_back_and_charges_the_new_one(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "volume")
    use(runtime, "a", 15, SEPTEMBER)
    first = close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    assert first.totals.total_usd == "150.00"
    use(runtime, "b", 1, SEPTEMBER)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    assert amounts(second) == [("adjustment", "2026-09", "-150.00"), ("adjustment", "2026-09", "80.00")]
    assert (second.totals.total_usd, second.total_cents) == ("-70.00", -7000)
    assert replay_invoice(runtime, second.invoice_id).identical
