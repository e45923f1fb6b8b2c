"""What comes late for a closed month is on the next invoice, priced in its own month; closed invoices never change."""

from __future__ import annotations

import copy
import csv
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

import workshop
from invoicing import apply, event, record, subscribe
from journal_helpers import append_in_the_past, tamper
from tallystick.app.close_month import MonthResult, close_month, orgs_to_close, preview_invoice
from tallystick.app.ended_months import ended_months
from tallystick.app.export import export_invoice
from tallystick.app.invoices import requests_behind, show_invoice
from tallystick.app.orgs import leave_org
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.errors import BadInput, NotFound
from tallystick.invoice.digest import invoice_digest
from tallystick.invoice.explain import explain
from tallystick.invoice.model import Invoice
from tallystick.invoice.proof import ProofReport, check_proof, read_proof
from tallystick.journal.adjustments import NewAdjustment, add_adjustments
from tallystick.journal.corrections import lock_org
from tallystick.ledger.adjustment import Adjust, AdjustedMeter

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
CREDITS = """
contract: acme
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor: {title: Tailor, price: {credits: 5}}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true, actions: [tailor]}
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


def identical(runtime: Runtime, *references: str) -> None:
    for reference in references:
        report = replay_invoice(runtime, reference)
        assert report.identical, [one.sentence() for one in report.differences]


def proved(runtime: Runtime, invoice: Invoice) -> ProofReport:
    seal_once(runtime, everything=True)
    return check_proof(read_proof(b"".join(proof_pieces(runtime, invoice.invoice_id))))


def test_what_was_adjusted_once_is_not_adjusted_again(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "volume")
    use(runtime, "a", 10, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    use(runtime, "b", 2, SEPTEMBER)
    assert amounts(close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))) == [("adjustment", "2026-09", "20.00")]
    use(runtime, "c", 8, SEPTEMBER)
    third = close(runtime, "2026-11", datetime(2026, 12, 3, tzinfo=UTC))
    assert amounts(third) == [("adjustment", "2026-09", "-120.00"), ("adjustment", "2026-09", "100.00")]
    assert third.lines[0].adjusts is not None
    assert (third.lines[0].adjusts.billed_quantity, third.lines[0].adjusts.now_quantity) == ("12", "20")
    assert close(runtime, "2026-12", datetime(2027, 1, 3, tzinfo=UTC)).adjustments == ()
    identical(runtime, "globex/2026-10", "globex/2026-11", "globex/2026-12")
    assert proved(runtime, third).problems == []


def test_months_closed_out_of_order_add_up_all_the_same(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    use(runtime, "b", 7, OCTOBER)
    now = datetime(2026, 12, 3, tzinfo=UTC)
    october = close(runtime, "2026-10", now)
    use(runtime, "c", 1, OCTOBER)
    use(runtime, "d", 1, SEPTEMBER)  # that month has no invoice yet: it is on its own
    september = close(runtime, "2026-09", now)
    assert amounts(october) == [("usage", "2026-10", "70.00")]
    assert amounts(september) == [("usage", "2026-09", "60.00"), ("adjustment", "2026-10", "10.00")]
    assert close(runtime, "2026-11", now).lines == ()
    identical(runtime, "globex/2026-09", "globex/2026-10", "globex/2026-11")
    assert proved(runtime, september).problems == []


def test_an_org_that_has_left_is_billed_for_what_came_late(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    for org_id in ("globex", "quiet"):
        subscribe(runtime, org_id, "flat")
        leave_org(runtime, org_id, at=datetime(2026, 10, 1, tzinfo=UTC))
    use(runtime, "a", 5, SEPTEMBER)
    runtime.clock = lambda: datetime(2026, 10, 3, tzinfo=UTC)
    assert [result.status for result in close_month(runtime, "2026-09")] == ["closed", "closed"]
    assert orgs_to_close(runtime, "2026-10") == []
    use(runtime, "b", 2, SEPTEMBER)
    use(runtime, "c", 9, OCTOBER)
    assert orgs_to_close(runtime, "2026-10") == ["globex"]
    runtime.clock = lambda: datetime(2026, 11, 3, tzinfo=UTC)
    assert [(org, month.label) for org, month, _ in ended_months(runtime) if month.label > "2026-09"] == [
        ("globex", "2026-10")
    ]
    invoice = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    assert amounts(invoice) == [("adjustment", "2026-09", "20.00")]
    assert [(one.plan, one.days, one.in_force) for one in invoice.sections] == [("flat", 0, ())]
    assert [(one.reason, one.events) for one in invoice.not_charged.events] == [("no_plan", 1)]
    text = "".join(export_invoice(runtime, invoice.invoice_id, "text"))
    assert "none; until it left flat" in text
    explained = explain(invoice)
    assert explained.terms[1].startswith("globex was on no plan in this period; the last one was flat")
    assert orgs_to_close(runtime, "2026-11") == []
    use(runtime, "d", 1, OCTOBER)  # late for the month without a plan: listed, not charged
    use(runtime, "e", 1, SEPTEMBER)
    last = close(runtime, "2026-11", datetime(2026, 12, 3, tzinfo=UTC))
    assert amounts(last) == [("adjustment", "2026-09", "10.00")]
    assert [(one.period.label, [group.reason for group in one.not_charged.events]) for one in last.adjustments] == [
        ("2026-09", []),
        ("2026-10", ["no_plan"]),
    ]
    identical(runtime, "globex/2026-09", "globex/2026-10", "globex/2026-11")
    for one in (invoice, last):
        assert proved(runtime, one).problems == []
    with pytest.raises(NotFound) as refused:
        preview_invoice(runtime, "globex", "2026-12")
    assert refused.value.code == "no_subscription"


def test_a_cost_that_is_corrected_after_the_close_moves_a_share_of_it(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "resale")
    record(runtime, [event("a", time=SEPTEMBER, meters={"tokens_in": 1_000_000})])
    first = close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    assert amounts(first) == [("usage", "2026-09", "0.20")]  # 0.15 USD and 30 %, 0.195
    unknown = event(
        "b", time=SEPTEMBER, provider="openai", model="gpt-4o-audio-preview", meters={"tokens_in": 1_000_000}
    )
    append_in_the_past(runtime, [unknown])
    with pytest.raises(BadInput) as refused:  # unknown is not zero
        preview_invoice(runtime, "globex", "2026-10")
    assert refused.value.code == "cost_unknown"
    assert reprice(runtime).corrected == 1
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    (line,) = second.lines
    assert (line.kind, line.exact_usd, line.amount_usd) == ("adjustment", "3.25", "3.24")  # 2.50 USD and 30 %
    # In all 2.65 USD and 30 %: 3.445, half to even 3.44, of which 0.20 was billed.
    (part,) = second.internal.adjustments
    assert (part.cost_usd, part.unpriced_events) == ("2.5", 0)
    assert second.adjustments[0].ledger.entries == 2  # the request and its correction
    identical(runtime, "globex/2026-09", "globex/2026-10")
    assert proved(runtime, second).problems == []


def test_a_correction_alone_changes_our_cost_and_no_line_of_a_price_per_unit(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "pro")
    unknown = event(
        "a", time=SEPTEMBER, provider="openai", model="gpt-4o-audio-preview", meters={"tokens_in": 1_000_000}
    )
    append_in_the_past(runtime, [unknown])
    first = close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    assert (first.internal.cost_usd, first.internal.unpriced_events) == ("0", 1)
    assert reprice(runtime).corrected == 1
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    assert [line.kind for line in second.lines] == ["base_fee"]
    (part,) = second.internal.adjustments
    assert (part.cost_usd, part.unpriced_events, part.models[0].events) == ("2.5", -1, 0)
    assert sum(use.events for use in second.adjustments[0].rates) == 0
    identical(runtime, "globex/2026-10")
    assert proved(runtime, second).problems == []


def test_what_is_late_and_not_charged_is_said(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "pro")
    record(runtime, [event("a", time=SEPTEMBER)])
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    record(
        runtime,
        [
            event("failed", time=SEPTEMBER, outcome="failure"),
            event("development", time=SEPTEMBER, environment="development"),
            event("unpriced", time=SEPTEMBER, meters={"audio_tokens_in": 7}),
            event("own-key", time=SEPTEMBER, payer="customer", meters={"pages_reviewed": 2}, provider=None, model="x"),
        ],
    )
    invoice = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    (adjustment,) = invoice.adjustments
    assert [(group.reason, group.environment, group.events) for group in adjustment.not_charged.events] == [
        ("environment", "development", 1),
        ("failure", "production", 1),
    ]
    assert [(use.meter, use.quantity) for use in adjustment.not_charged.meters] == [("audio_tokens_in", "7")]
    assert adjustment.customer_paid.events == 1
    assert [(line.meter, line.amount_usd) for line in invoice.lines if line.adjusts] == [("pages_reviewed", "0.03")]
    said = " ".join(explain(invoice).not_charged)
    assert "Late for 2026-09: 1 request in production failed and was not charged" in said
    text = "".join(export_invoice(runtime, invoice.invoice_id, "text"))
    assert "Late for 2026-09: 7 audio_tokens_in in 1 request" in " ".join(text.split())
    identical(runtime, "globex/2026-10")


def test_an_adjustment_is_explained_with_the_requests_behind_it(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "volume")
    use(runtime, "a", 15, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    use(runtime, "b", 1, SEPTEMBER)
    use(runtime, "c", 2, OCTOBER)
    shown = show_invoice(runtime, "globex/2026-09")
    assert (shown.late_events, shown.unbilled_events, shown.late[0].billed_on) == (1, 1, None)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    shown = show_invoice(runtime, "globex/2026-09")
    assert (shown.unbilled_events, shown.late[0].billed_on) == (0, second.invoice_id)
    assert shown.late_sentence() == "1 request of this month arrived after the close and is on a later invoice."
    assert [[fact.entry.request_id for fact in requests_behind(runtime, second.invoice_id, n)] for n in (1, 2, 3)] == [
        ["c"],
        ["b"],
        ["b"],
    ]
    gone, due = explain(second).lines[1:]
    assert "Billed before: Tier 1, up to 15: 15 × 10.00 = 150.00 USD." in gone.sentences
    assert "Now: Tier 2, open-ended: 16 × 5.00 = 80.00 USD." in due.sentences
    assert gone.sentences[-1] == (
        "All of it comes to 80.00 USD now, and 150.00 USD was billed: "
        "lines 2 and 3 add up to the difference, -70.00 USD."
    )
    rows = list(csv.DictReader(io.StringIO("".join(export_invoice(runtime, second.invoice_id)), newline="")))
    assert [(row["month"], row["request_id"]) for row in rows] == [("2026-10", "c"), ("2026-09", "b")]
    lines = list(
        csv.DictReader(io.StringIO("".join(export_invoice(runtime, second.invoice_id, "lines-csv")), newline=""))
    )
    assert [(row["month"], row["kind"], row["amount_usd"]) for row in lines] == [
        ("2026-10", "usage", "20.00"),
        ("2026-09", "adjustment", "-150.00"),
        ("2026-09", "adjustment", "80.00"),
    ]
    text = "".join(export_invoice(runtime, second.invoice_id, "text"))
    assert "Total, in your favour" in text
    assert max(map(len, text.splitlines())) <= 80
    kept = json.loads("".join(export_invoice(runtime, second.invoice_id, "json", for_customer=True)))
    assert invoice_digest(kept) == second.digest


def test_two_months_closed_at_once_bear_what_came_late_once(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    use(runtime, "b", 2, SEPTEMBER)
    use(runtime, "c", 1, OCTOBER)
    runtime.clock = lambda: datetime(2027, 1, 3, tzinfo=UTC)
    labels = ("2026-10", "2026-11", "2026-12")
    together = threading.Barrier(len(labels))

    def close_one(label: str) -> MonthResult:
        together.wait()
        (result,) = close_month(runtime, label, ["globex"])
        return result

    with ThreadPoolExecutor(len(labels)) as pool:
        results = list(pool.map(close_one, labels))
    assert [result.status for result in results] == ["closed"] * 3
    invoices = [result.invoice for result in results if result.invoice is not None]
    assert sorted(line.amount_usd for one in invoices for line in one.lines) == ["10.00", "20.00"]
    for label in labels:
        identical(runtime, f"globex/{label}")


def test_a_late_top_up_is_adjusted_in_its_month(runtime: Runtime) -> None:
    apply(runtime, CREDITS)
    subscribe(runtime, "globex", "wallet")
    runtime.clock = lambda: datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)
    workshop.granted(runtime, 100, source="top_up", request_id="t1")
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    runtime.clock = lambda: datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC)  # begun in the last instant, committed late
    workshop.granted(runtime, 50, source="top_up", request_id="t2")
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    (line,) = second.lines
    assert line.adjusts is not None
    assert (line.adjusts.kind, line.quantity, line.amount_usd) == ("top_up", "50", "0.50")
    wallet = second.adjustments[0].wallet
    assert wallet is not None
    assert wallet.closing.available == "150"
    identical(runtime, "globex/2026-09", "globex/2026-10")
    assert proved(runtime, second).problems == []


def test_a_late_entry_that_was_changed_is_told_by_replay_and_proof(runtime: Runtime, database_url: str) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    use(runtime, "b", 2, SEPTEMBER)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    seal_once(runtime, everything=True)
    tamper(database_url, "update ledger_entries set meter_quantities = '{9}' where request_id = 'b'")
    report = replay_invoice(runtime, second.invoice_id)
    assert not report.identical
    fields = {one.field for one in report.differences}
    assert {"leaf", "lines[0].amount_usd", "adjustments[0].ledger.entries_sha256"} <= fields
    assert not check_proof(read_proof(b"".join(proof_pieces(runtime, second.invoice_id)))).valid


def test_an_invoice_that_hides_or_invents_an_adjustment_is_told(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    use(runtime, "b", 2, SEPTEMBER)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    seal_once(runtime, everything=True)
    data = json.loads(b"".join(proof_pieces(runtime, second.invoice_id)))
    assert [json.loads(json.dumps(one))["seq"] for one in data["entries"]] == [1, 2]

    def problems(**changed: Any) -> list[str]:
        invoice = {**data["invoice"], **changed}
        invoice["digest"] = invoice_digest(invoice)
        return check_proof(read_proof(json.dumps({**data, "invoice": invoice}).encode())).problems

    assert problems() == []
    more = copy.deepcopy(data["invoice"]["lines"])
    more[0]["amount_usd"] = "30.00"
    assert problems(lines=more)
    (adjustment,) = data["invoice"]["adjustments"]
    for name, value in (("billed_through_seq", 0), ("entries", 2), ("entries_sha256", "0" * 64), ("first_seq", 2)):
        assert problems(adjustments=[{**adjustment, "ledger": {**adjustment["ledger"], name: value}}]), name
    twice = {**adjustment, "number": 2}
    assert "the invoice charges for a month twice" in problems(adjustments=[adjustment, twice])
    own = {**adjustment, "period": data["invoice"]["period"]}
    assert "the invoice charges for a month twice" in problems(adjustments=[own])
    ledger = data["invoice"]["ledger"]
    assert problems(ledger={**ledger, "billed_through_seq": 99})
    without = {**data, "entries": data["entries"][1:]}
    assert check_proof(read_proof(json.dumps(without).encode())).problems


def test_what_reconciling_adds_to_a_closed_month_is_on_the_next_invoice(runtime: Runtime) -> None:
    apply(runtime, CONTRACT)
    subscribe(runtime, "globex", "flat")
    use(runtime, "a", 5, SEPTEMBER)
    close(runtime, "2026-09", datetime(2026, 10, 3, tzinfo=UTC))
    request = Adjust(
        of_seq=None,
        provider="openai",
        model="gpt-4o-mini",
        environment="production",
        lines=(AdjustedMeter("tool_calls", -2, 0),),
        source="openai",
        source_sha256="0" * 64,
        author="ann@seller.example",
        reason="the provider counted otherwise",
    )
    with runtime.database.writer() as connection:
        head = lock_org(connection, "globex")
        new = [NewAdjustment("adjust-1", SEPTEMBER, request, bytes(16))]
        add_adjustments(connection, head, "globex", new, runtime.clock(), runtime.card.version)
    second = close(runtime, "2026-10", datetime(2026, 11, 3, tzinfo=UTC))
    assert amounts(second) == [("adjustment", "2026-09", "-20.00")]
    assert second.lines[0].description.startswith("2026-09: 2 fewer tool_calls, 3 instead of 5: ")
    identical(runtime, "globex/2026-09", "globex/2026-10")
    assert proved(runtime, second).problems == []
