"""Adjustments are entries like others: hashed, sealed, proved, billed, and found out when they are tampered with."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import query, tamper
from tallystick.app.close_month import close_month
from tallystick.app.explain_entry import show_entry
from tallystick.app.export import export_invoice
from tallystick.app.invoices import requests_behind, show_invoice
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.verify import verify_ledger
from tallystick.invoice.proof import check_proof, read_proof
from tallystick.journal.adjustments import NewAdjustment, add_adjustments, stored_adjustments
from tallystick.journal.corrections import lock_org
from tallystick.ledger.adjustment import Adjust, AdjustedMeter

ORG = "globex"
DAY = datetime(2026, 10, 9, 12, tzinfo=UTC)


def adjust(runtime: Runtime, request_id: str, time: datetime, of_seq: int | None = None, **meters: int) -> int:
    """Write one adjustment of those quantities, at 2 pico-USD each: its place."""
    request = Adjust(
        of_seq=of_seq,
        provider="openai",
        model="gpt-4o",
        environment="production",
        lines=tuple(AdjustedMeter(meter, meters[meter], 2 * meters[meter]) for meter in sorted(meters)),
        source="openai",
        source_sha256="0" * 64,
        author="ann@seller.example",
        reason="the provider counted otherwise",
    )
    with runtime.database.writer() as connection:
        head = lock_org(connection, ORG)
        new = [NewAdjustment(request_id, time, request, bytes(16))]
        (seq,) = add_adjustments(connection, head, ORG, new, runtime.clock(), runtime.card.version)
    return seq


@pytest.fixture
def used(runtime: Runtime) -> Runtime:
    """Three requests in October, of 1000 tokens in each."""
    apply(runtime)
    subscribe(runtime, ORG)
    record(runtime, [event(f"r{n}", time=DAY, meters={"tokens_in": 1000, "tokens_out": 100}) for n in range(3)])
    return runtime


def usage_of(runtime: Runtime, meter: str) -> str:
    (result,) = close_month(runtime, "2026-10")
    assert result.invoice is not None, result.error
    return next(line.quantity for line in result.invoice.lines if line.meter == meter)


def test_what_was_used_less_is_charged_less_and_costs_less(used: Runtime) -> None:
    cost_pico = int(
        query(used, "select debit_pico - credit_pico from account_balances where account = 'provider_usage_cost'")[0][0]
    )
    assert adjust(used, "a1", DAY, 1, tokens_in=-600) == 4
    assert usage_of(used, "tokens_in") == "2400"
    assert query(used, "select debit_account, amount_pico from transfers where seq = 4") == [("provider_payable", 1200)]
    left = query(used, "select account, debit_pico - credit_pico from account_balances where asset = 'USD' order by 1")
    assert left == [("provider_payable", 1200 - cost_pico), ("provider_usage_cost", cost_pico - 1200)]
    report = replay_invoice(used, f"{ORG}/2026-10")
    assert report.identical, report.as_dict()
    assert verify_ledger(used).findings.kept == []


def test_an_entry_is_shown_with_the_adjustments_of_it(used: Runtime) -> None:
    adjust(used, "a1", DAY, 2, tokens_in=-600)
    (later,) = show_entry(used, ORG, 2)["referred_to_by"]
    assert (later["entry_id"], later["kind"]) == ("a4", "adjustment")
    shown = show_entry(used, ORG, 4)
    assert (shown["refers_to"], shown["by"], shown["why"]) == (
        "2", "ann@seller.example", "the provider counted otherwise",
    )  # fmt: skip
    assert shown["adjusted"] == [{"meter": "tokens_in", "quantity": -600, "cost_usd": "-0.0000000012"}]


def test_a_month_of_nothing_but_an_adjustment_is_billed_replayed_and_listed(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, ORG)
    adjust(runtime, "a1", DAY, tokens_in=5000, tokens_out=7)
    assert usage_of(runtime, "tokens_in") == "5000"
    assert replay_invoice(runtime, f"{ORG}/2026-10").identical
    rows = list(csv.DictReader(io.StringIO("".join(export_invoice(runtime, f"{ORG}/2026-10")), newline="")))
    assert [(row["request_id"], row["tokens_in_quantity"], row["cost_usd"]) for row in rows] == [
        ("a1", "5000", "0.000000010014")
    ]
    assert verify_ledger(runtime).findings.kept == []


def test_rows_of_an_invoice_add_up_to_its_lines_with_adjustments_among_them(used: Runtime) -> None:
    adjust(used, "a1", DAY, 1, tokens_in=-600)
    adjust(used, "a2", DAY, tokens_in=50)
    quantity = usage_of(used, "tokens_in")
    rows = csv.DictReader(io.StringIO("".join(export_invoice(used, f"{ORG}/2026-10")), newline=""))
    assert sum(int(row["tokens_in_quantity"] or 0) for row in rows) == int(quantity) == 2450
    behind = list(requests_behind(used, f"{ORG}/2026-10", 2))
    assert [fact.entry.request_id for fact in behind] == ["r0", "r1", "r2", "a1", "a2"]
    assert [fact.entry.request_id for fact in requests_behind(used, f"{ORG}/2026-10", 2, limit=4)] == [
        "r0", "r1", "r2", "a1"
    ]  # fmt: skip


def test_a_closed_month_stays_and_lists_the_adjustment_as_late(used: Runtime) -> None:
    assert usage_of(used, "tokens_in") == "3000"
    adjust(used, "a1", DAY, 1, tokens_in=-600)
    assert usage_of(used, "tokens_in") == "3000"
    shown = show_invoice(used, f"{ORG}/2026-10")
    assert (shown.late_events, [one.request_id for one in shown.late]) == (1, ["a1"])
    assert replay_invoice(used, f"{ORG}/2026-10").identical


def test_a_proof_counts_adjustments(used: Runtime) -> None:
    adjust(used, "a1", DAY, 1, tokens_in=-600)
    assert usage_of(used, "tokens_in") == "2400"
    seal_once(used, everything=True)
    report = check_proof(read_proof(b"".join(proof_pieces(used, f"{ORG}/2026-10"))))
    assert report.problems == []
    assert verify_ledger(used).findings.kept == []


def test_an_adjustment_of_a_time_that_nothing_else_has_reached_moves_the_latest_time(used: Runtime) -> None:
    adjust(used, "a1", DAY + timedelta(days=3), tokens_in=5)
    record(used, [event("later", time=DAY + timedelta(days=1))])
    assert verify_ledger(used).findings.kept == []
    assert usage_of(used, "tokens_in") == "4005"


def test_entries_that_have_left_are_counted_from_their_blocks(runtime: Runtime) -> None:
    march, closed = datetime(2025, 3, 9, tzinfo=UTC), datetime(2025, 4, 2, tzinfo=UTC)
    then = replace(runtime, clock=lambda: closed)
    apply(then, CONTRACT.replace("2026-01-01", "2025-01-01"))
    subscribe(then, ORG, effective_from=datetime(2025, 1, 1, tzinfo=UTC))
    record(then, [event(f"r{n}", time=march, meters={"tokens_in": 1000}) for n in range(3)])
    adjust(then, "a1", march, 1, tokens_in=-600)
    (result,) = close_month(then, "2025-03")
    assert result.invoice is not None, result.error
    seal_once(then, everything=True)
    settings = runtime.settings.model_copy(update={"retention_days": 45})
    later = replace(runtime, clock=lambda: closed + timedelta(days=60), settings=settings)
    before = list(requests_behind(later, f"{ORG}/2025-03", 2))
    assert run_retention(later).entries == 4
    assert replay_invoice(later, f"{ORG}/2025-03").identical
    assert [one.entry.request_id for one in requests_behind(later, f"{ORG}/2025-03", 2)] == [
        one.entry.request_id for one in before
    ]
    with later.database.org(ORG) as connection:
        assert stored_adjustments(connection, ORG, ["a1", "a2"])["a1"].seq == 4
    adjust(later, "a2", march, 2, tokens_in=-5)
    assert verify_ledger(later).findings.kept == []
    assert [one.request_id for one in show_invoice(later, f"{ORG}/2025-03").late] == ["a2"]


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("update ledger_entries set body = replace(body, '-600', '-601') where seq = 4", "leaf"),
        ("update ledger_entries set cost_pico = 5 where seq = 4", "form"),
        ("update transfers set amount_pico = 1201 where seq = 4", "transfer"),
        ("update transfers set debit_account = credit_account, credit_account = debit_account where seq = 4",
         "transfer"),
    ],
)  # fmt: skip
def test_what_was_changed_of_an_adjustment_is_named(used: Runtime, change: str, check: str) -> None:
    adjust(used, "a1", DAY, 1, tokens_in=-600)
    tamper(used.database.url, change)
    assert check in {one.check for one in verify_ledger(used).findings.kept}


def test_an_adjustment_of_what_is_no_such_usage_is_named(used: Runtime) -> None:
    adjust(used, "a1", DAY + timedelta(seconds=1), 1, tokens_in=-600)
    assert {(one.check, one.seq) for one in verify_ledger(used).findings.kept} == {("adjustment", 4)}
