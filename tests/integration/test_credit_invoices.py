"""Credits and keys of the customer's own on the invoice: from the ledger's operations, replayed and proved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg
import pytest

import workshop
from invoicing import event, record
from tallystick.app.close_month import close_month, preview_invoice
from tallystick.app.contracts import apply_contract
from tallystick.app.invoices import explain_invoice, show_invoice
from tallystick.app.orgs import set_subscription
from tallystick.app.proofs import proof_pieces
from tallystick.app.replay import replay_invoice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.instants import parse_instant
from tallystick.invoice.model import Invoice, Wallet
from tallystick.invoice.proof import check_proof, read_proof
from tallystick.invoice.text import invoice_text
from tallystick.ledger.operations import Recorded, Settle, SettleEvent

MONTH = "globex/2026-10"

CONTRACT = """
contract: shop
version: "1"
effective_from: 2026-01-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.0125"}
actions:
  tailor: {title: Tailor, price: {credits: 5}}
  research: {title: Research, price: {cost_plus: "0.30"}, max_credits: 200}
plans:
  credits: {title: Credits, kind: credits, base: "20", top_up: true, overage: true, actions: [tailor, research]}
  monthly: {title: Monthly, kind: credits, base: "31", included_credits: 300, actions: [tailor]}
  byok:
    title: Own key
    kind: byok
    base: "15"
    actions: [tailor]
    prices:
      tokens_in: {cost_plus: "0.50"}
      tool_calls: {unit: "0.01"}
environments:
  development: {charge: false}
"""


@pytest.fixture(autouse=True)
def shop(runtime: Runtime) -> None:
    apply_contract(runtime, CONTRACT, "shop.yaml")
    at(runtime, "2026-10-15T12:00:00Z")


def at(runtime: Runtime, text: str) -> None:
    instant = parse_instant(text)
    runtime.clock = lambda: instant


def put(runtime: Runtime, plan: str, begins: str = "2026-01-01T00:00:00Z") -> None:
    set_subscription(runtime, "globex", contract="shop", plan=plan, effective_from=parse_instant(begins))


def work(runtime: Runtime, name: str, tokens_in: int = 1000, action: str = "tailor", **more: Any) -> Recorded:
    """Hold, do and settle one piece of work, one call of a model that costs 0.15 USD a million tokens."""
    if action == "research":  # quoted for a thousand tokens, 0.00015 USD
        more |= {"model": "gpt-4o-mini", "meters": {"tokens_in": 1000}, "worst_cost_pico": 150_000_000}
    hold = workshop.held(runtime, action, **more)
    assert hold.kind == "hold", hold
    call = event(name, time=runtime.clock(), meters={"tokens_in": tokens_in})
    request = Settle(hold_seq=hold.seq, outcome="success", events=(name,))
    return workshop.do(runtime, "settlement", request, f"h{hold.seq}", events=(SettleEvent(call),))


def closed(runtime: Runtime, month: str = "2026-10") -> Invoice:
    at(runtime, "2026-12-05T00:00:00Z")
    (result,) = close_month(runtime, month, ["globex"])
    assert result.invoice is not None, result.error
    return result.invoice


def proved(runtime: Runtime) -> list[str]:
    seal_once(runtime, everything=True)
    return check_proof(read_proof(b"".join(proof_pieces(runtime, MONTH)))).problems


def adds_up(wallet: Wallet) -> bool:
    opening, closing = (Fraction(side.available) + Fraction(side.held) for side in (wallet.opening, wallet.closing))
    came = sum((Fraction(one.credits) for one in wallet.granted), Fraction(wallet.refunded))
    return opening + came - Fraction(wallet.charged) - Fraction(wallet.expired) == closing


def test_a_month_of_a_wallet_is_on_the_invoice_replays_and_is_proved(runtime: Runtime) -> None:
    put(runtime, "credits")
    at(runtime, "2026-09-20T12:00:00Z")
    workshop.granted(runtime, 40)  # of September: it is the opening balance
    at(runtime, "2026-10-15T12:00:00Z")
    workshop.granted(runtime, 100, source="top_up")
    workshop.granted(runtime, 33, source="top_up")
    workshop.granted(runtime, 7, source="promo", expires_at=datetime(2026, 10, 16, tzinfo=UTC))
    first = work(runtime, "w1")  # of the promotion, which ends first
    work(runtime, "w2")  # its other 2, and 3
    workshop.refunded(runtime, first, 3)
    at(runtime, "2026-10-17T12:00:00Z")
    work(runtime, "w3", environment="development")  # never billed; the promotion has ended, and its 3 with it
    workshop.held(runtime, request_id="open")  # open at the month's end
    invoice = closed(runtime)
    assert [(line.kind, line.quantity, line.exact_usd, line.amount_usd) for line in invoice.lines] == [
        ("base_fee", "1", "20", "20.00"),
        ("top_up", "133", "1.6625", "1.66"),  # 133 × 0.0125
    ]
    wallet = invoice.wallet
    assert wallet is not None
    assert (wallet.opening.available, wallet.opening.held) == ("40", "0")
    assert [(one.source, one.grants, one.credits) for one in wallet.granted] == [
        ("promo", 1, "7"),
        ("top_up", 2, "133"),
    ]
    assert (wallet.charged, wallet.refunded, wallet.expired, wallet.owed) == ("10", "3", "3", "0")
    assert (wallet.closing.available, wallet.closing.held) == ("165", "5")
    assert adds_up(wallet)
    assert replay_invoice(runtime, MONTH).identical
    assert proved(runtime) == []
    assert any("165" in sentence for sentence in explain_invoice(runtime, MONTH)[1].wallet)
    page = invoice_text(invoice)
    assert "Granted, top-up (2 grants)" in page
    assert "At the end (of it held: 5)" in page
    november = preview_invoice(runtime, "globex", "2026-11")
    assert november.wallet is None  # nothing moved yet


def test_what_is_charged_beyond_the_wallet_is_a_line(runtime: Runtime) -> None:
    put(runtime, "credits")
    workshop.granted(runtime, 60)
    # 10,000,000 tokens cost 1.50 USD, with 30 % 1.95: 156 credits of 0.0125. Sixty are there, 96 are owed.
    owing = work(runtime, "big", 10_000_000, "research")
    invoice = preview_invoice(runtime, "globex", "2026-10")
    assert [(line.kind, line.quantity, line.amount_usd) for line in invoice.lines[1:]] == [
        ("credits_owed", "96", "1.20")
    ]
    assert invoice.wallet is not None
    assert (invoice.wallet.charged, invoice.wallet.owed, invoice.wallet.closing.available) == ("60", "96", "0")
    workshop.refunded(runtime, owing, 100)  # what is owed goes first
    invoice = closed(runtime)
    assert [line.kind for line in invoice.lines] == ["base_fee"]
    assert invoice.wallet is not None
    assert (invoice.wallet.owed, invoice.wallet.refunded, invoice.wallet.closing.available) == ("0", "4", "4")
    assert adds_up(invoice.wallet)
    assert replay_invoice(runtime, MONTH).identical


def test_top_ups_are_billed_under_the_plan_of_their_time_and_included_credits_are_not(runtime: Runtime) -> None:
    put(runtime, "credits")
    put(runtime, "monthly", "2026-10-20T00:00:00Z")
    at(runtime, "2026-10-10T12:00:00Z")
    workshop.granted(runtime, 10, source="top_up")
    at(runtime, "2026-10-21T12:00:00Z")
    work(runtime, "w1")  # the plan's credits are given before it
    invoice = closed(runtime)
    assert [(line.plan, line.kind, line.exact_usd) for line in invoice.lines] == [
        ("credits", "base_fee", "380/31"),  # 20 × 19/31
        ("monthly", "base_fee", "12"),  # 31 × 12/31
        ("credits", "top_up", "0.125"),
    ]
    assert invoice.wallet is not None
    assert [(one.source, one.credits) for one in invoice.wallet.granted] == [("included", "300"), ("top_up", "10")]
    assert adds_up(invoice.wallet)
    assert replay_invoice(runtime, MONTH).identical
    assert proved(runtime) == []


def test_what_the_customers_key_has_paid_is_no_cost_of_ours_and_in_no_price(runtime: Runtime) -> None:
    put(runtime, "byok")
    put(runtime, "credits", "2026-10-16T00:00:00Z")
    times = [datetime(2026, 10, 10, tzinfo=UTC) + timedelta(days=day) for day in range(8)]
    theirs = [
        event(f"c{n}", time=time, payer="customer", meters={"tokens_in": 10**6, "tool_calls": 1})
        for n, time in enumerate(times)
    ]
    ours = [event("s1", time=times[0], meters={"tokens_in": 2 * 10**6})]
    aside = [
        event("d1", time=times[0], environment="development", payer="customer", meters={"tokens_in": 10**6}),
        event("d2", time=times[7], environment="development", meters={"tokens_in": 10**6}),
        event("u1", time=times[1], payer="customer", model="a-model-that-no-card-knows", meters={"tokens_in": 5}),
    ]
    record(runtime, [*theirs, *ours, *aside])
    invoice = closed(runtime)
    # Of the 8,000,005 tokens under byok only the two million that we paid for cost 0.30 USD, and 50 % more. Six calls.
    assert [(line.plan, line.kind, line.meter, line.exact_usd) for line in invoice.lines] == [
        ("byok", "base_fee", None, "225/31"),  # 15 × 15/31
        ("byok", "usage", "tokens_in", "0.45"),
        ("byok", "usage", "tool_calls", "0.06"),
        ("credits", "base_fee", None, "320/31"),  # 20 × 16/31
    ]
    assert (invoice.internal.cost_usd, invoice.internal.unpriced_events) == ("0.45", 0)  # s1 and d2
    paid = invoice.customer_paid
    assert (paid.events, paid.cost_usd, paid.unpriced_events) == (10, "1.35", 1)
    assert [(one.model, one.events, one.cost_usd) for one in paid.models] == [
        ("a-model-that-no-card-knows", 1, "0"),
        ("gpt-4o-mini", 9, "1.35"),
    ]
    assert [(one.environment, one.events) for one in invoice.not_charged.events] == [("development", 2)]
    assert [(one.plan, one.meter, one.quantity) for one in invoice.not_charged.meters] == [
        ("credits", "tokens_in", "2000000"),
        ("credits", "tool_calls", "2"),
    ]
    assert replay_invoice(runtime, MONTH).identical
    assert proved(runtime) == []


def test_an_operation_that_was_changed_is_told_by_the_replay(runtime: Runtime, database_url: str) -> None:
    put(runtime, "credits")
    workshop.granted(runtime, 100, source="top_up")
    closed(runtime)
    change = (
        "update ledger_entries set body = replace(body, '\"100000000000000\"', '\"200000000000000\"') where seq = 1"
    )
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("alter table ledger_entries disable trigger all")
        assert connection.execute(change).rowcount == 1
    report = replay_invoice(runtime, MONTH)
    assert not report.identical
    told = {(one.where, one.field) for one in report.differences}
    assert ("the invoice", "lines[1].amount_usd") in told


def test_a_top_up_that_was_committed_after_the_close_is_told_and_changes_nothing(runtime: Runtime) -> None:
    put(runtime, "credits")
    workshop.granted(runtime, 100)
    invoice = closed(runtime)
    at(runtime, "2026-10-31T23:59:59.999999Z")  # by the clock of a program that was slow to commit
    late = workshop.granted(runtime, 50, source="top_up")
    workshop.held(runtime)
    shown = show_invoice(runtime, MONTH)
    assert shown.late_events == 2
    assert shown.late[0].seq == late.seq
    assert shown.invoice == invoice
    assert replay_invoice(runtime, MONTH).identical
