"""Closing a month: what is on the invoice, what is not, whose month it is, and that it happens once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import append_in_the_past, count
from tallystick.app.close_month import MonthResult, close_each, close_month, orgs_to_close, preview_invoice
from tallystick.app.invoices import find_invoice, list_invoices, requests_behind, show_invoice
from tallystick.app.replay import replay_invoice
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.invoice.model import Invoice

OCTOBER = "2026-10"


def closed(result: MonthResult) -> Invoice:
    assert result.invoice is not None, result.error
    return result.invoice


def error_code(result: MonthResult) -> str:
    assert result.status == "failed"
    assert result.error is not None
    return result.error.code


def quantities(invoice: Invoice) -> dict[str | None, str]:
    return {line.meter: line.quantity for line in invoice.lines if line.kind == "usage"}


def test_lines_come_from_charged_requests_only_and_nothing_else_goes_unsaid(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(
        runtime,
        [
            *(event(f"r{number}") for number in range(10)),
            event("failed", outcome="failure"),
            event("empty", outcome="empty"),
            event("development", environment="development"),
            event("failed-in-development", environment="development", outcome="failure"),
            event("unpriced", model="a-model-that-no-card-knows"),
            event("tools", provider=None, model="review", meters={"pages_reviewed": 3, "tool_calls": 27}),
            event("classes", meters={"tokens_in": 10, "reasoning_tokens": 5, "audio_tokens_in": 3, "tokens_out": 0}),
        ],
    )
    (result,) = close_month(runtime, OCTOBER)
    invoice = closed(result)
    assert [(line.kind, line.meter, line.quantity, line.amount_usd) for line in invoice.lines] == [
        ("base_fee", None, "1", "10.00"),
        ("usage", "tokens_in", "12010", "0.00"),
        ("usage", "tokens_out", "1205", "0.00"),
        ("usage", "tool_calls", "27", "2.40"),
        ("usage", "pages_reviewed", "3", "0.04"),
    ]
    assert [(use.meter, use.quantity, use.events) for use in invoice.lines[2].metered] == [
        ("tokens_out", "1200", 12),
        ("reasoning_tokens", "5", 1),
    ]
    assert [(use.meter, use.quantity, use.events) for use in invoice.not_charged.meters] == [
        ("audio_tokens_in", "3", 1)
    ]
    assert [(group.reason, group.environment, group.events) for group in invoice.not_charged.events] == [
        ("environment", "development", 2),
        ("failure", "production", 1),
    ]
    assert [(use.meter, use.quantity) for use in invoice.not_charged.events[0].meters] == [
        ("tokens_in", "2000"),
        ("tokens_out", "200"),
    ]
    assert (invoice.ledger.events, invoice.ledger.through_seq) == (17, 17)
    assert invoice.internal.unpriced_events == 1
    # 13 known calls of 1000 in and 100 out at 0.15 and 0.60 USD per million, and the one with 10 in and 5 of reasoning.
    assert Fraction(invoice.internal.cost_usd) >= 13 * Fraction("0.00021")
    assert replay_invoice(runtime, invoice.invoice_id).identical


def test_closing_again_gives_the_same_invoice_whatever_came_since(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    (first,) = close_month(runtime, OCTOBER)
    record(runtime, [event("r2")])
    (again,) = close_month(runtime, OCTOBER)
    assert (first.status, again.status) == ("closed", "already_closed")
    assert again.invoice == first.invoice
    assert len(list_invoices(runtime)) == 1


def test_of_many_closing_at_once_one_stores_the_invoice_and_all_give_it(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event(f"r{number}") for number in range(50)])
    together = threading.Barrier(6)

    def close(_: int) -> MonthResult:
        together.wait()
        (result,) = close_month(runtime, OCTOBER)
        return result

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(close, range(6)))
    assert sorted(result.status for result in results) == ["already_closed"] * 5 + ["closed"]
    assert len({closed(result).digest for result in results}) == 1
    assert len(list_invoices(runtime)) == 1


def test_requests_that_arrive_while_a_month_is_closed_are_on_it_whole_or_late(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event(f"early-{number}") for number in range(200)])
    stop = threading.Event()

    def keep_sending() -> None:
        number = 0
        while not stop.is_set():
            record(runtime, [event(f"more-{number}-{part}") for part in range(20)])
            number += 1

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(keep_sending)
        (result,) = close_month(runtime, OCTOBER)
        stop.set()
        sending.result()
    invoice = closed(result)
    shown = show_invoice(runtime, invoice.invoice_id)
    assert invoice.ledger.events == invoice.ledger.through_seq
    assert invoice.ledger.events + shown.late_events == count(runtime, "ledger_entries")
    assert quantities(invoice)["tokens_in"] == str(1000 * invoice.ledger.events)
    assert replay_invoice(runtime, invoice.invoice_id).identical


def test_late_requests_are_listed_and_change_nothing(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    (result,) = close_month(runtime, OCTOBER)
    record(runtime, [event("late-1"), event("late-2"), event("november", time=datetime(2026, 11, 1, tzinfo=UTC))])
    shown = show_invoice(runtime, "globex/2026-10")
    assert shown.invoice == result.invoice
    assert shown.late_events == 2
    assert [one.request_id for one in shown.late] == ["late-1", "late-2"]
    assert shown.late_sentence() == (
        "2 requests of this month arrived after the close and are not billed yet: they will be on the next invoice."
    )
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_a_month_begins_and_ends_on_the_clocks_of_the_org(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", time_zone="Europe/Paris")  # summer time until 25 October
    instants = {
        "before": datetime(2026, 9, 30, 21, 59, 59, 999999, tzinfo=UTC),
        "first": datetime(2026, 9, 30, 22, tzinfo=UTC),
        "last": datetime(2026, 10, 31, 22, 59, 59, 999999, tzinfo=UTC),
        "after": datetime(2026, 10, 31, 23, tzinfo=UTC),
    }
    record(runtime, [event(name, time=time) for name, time in instants.items()])
    (result,) = close_month(runtime, OCTOBER)
    invoice = closed(result)
    assert (invoice.period.start, invoice.period.end) == ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
    behind = requests_behind(runtime, invoice.invoice_id, 2)
    assert [fact.entry.request_id for fact in behind] == ["first", "last"]


def test_a_month_that_is_not_over_there_is_refused_and_may_be_previewed(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", time_zone="UTC")
    subscribe(runtime, "initech", time_zone="America/New_York")
    record(runtime, [event("r1"), event("r1", org_id="initech")])
    runtime.clock = lambda: datetime(2026, 11, 1, 0, 30, tzinfo=UTC)
    ours, theirs = close_month(runtime, OCTOBER, before_late_window=True)
    assert (ours.org_id, ours.status) == ("globex", "closed")
    assert error_code(theirs) == "month_not_over"
    ahead = preview_invoice(runtime, "initech", OCTOBER)
    assert ahead.ledger.events == 1
    assert [row.org_id for row in list_invoices(runtime)] == ["globex"]
    runtime.clock = lambda: datetime(2026, 11, 1, 4, tzinfo=UTC)  # midnight in New York, on the dot
    _, theirs = close_month(runtime, OCTOBER, before_late_window=True)
    assert closed(theirs) == ahead


def test_usage_without_a_plan_is_reported_and_harms_nobody(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    subscribe(runtime, "later", effective_from=datetime(2026, 11, 1, tzinfo=UTC))
    record(runtime, [event("r1"), event("r1", org_id="stranger")])
    assert orgs_to_close(runtime, OCTOBER) == ["globex", "stranger"]
    ours, stranger = close_month(runtime, OCTOBER)
    assert ours.status == "closed"
    assert error_code(stranger) == "no_subscription"
    (later,) = close_month(runtime, OCTOBER, ["later"])
    assert error_code(later) == "no_subscription"
    with pytest.raises(NotFound) as refused:
        preview_invoice(runtime, "stranger", OCTOBER)
    assert refused.value.code == "no_subscription"


def test_usage_before_an_org_begins_is_reported_on_the_clocks_of_the_org(runtime: Runtime) -> None:
    # Its first plan begins with its November, which is still October in UTC; what it used before has no plan.
    apply(runtime)
    november = datetime(2026, 10, 31, 23, tzinfo=UTC)
    for org_id in ("east", "idle", "newcomer"):
        subscribe(runtime, org_id, time_zone="Europe/Paris", effective_from=november)
    record(runtime, [event("r1", org_id="east"), event("r1", org_id="newcomer", time=november)])
    assert orgs_to_close(runtime, OCTOBER) == ["east"]
    (east,) = close_month(runtime, OCTOBER)
    assert error_code(east) == "no_subscription"


def test_an_amount_that_no_invoice_can_hold_is_refused_and_harms_nobody(runtime: Runtime) -> None:
    apply(
        runtime,
        CONTRACT.replace("tool_calls: {package", 'egress_bytes: {unit: "999999999999999"}\n      tool_calls: {package'),
    )
    subscribe(runtime, "globex")
    subscribe(runtime, "initech", "enterprise")
    record(runtime, [event("r1", meters={"egress_bytes": 10**6}), event("r1", org_id="initech")])
    absurd, ours = close_month(runtime, OCTOBER)
    assert error_code(absurd) == "total_out_of_range"
    assert ours.status == "closed"


def test_an_org_that_joins_in_the_month_pays_from_its_first_day_and_each_plan_its_days(runtime: Runtime) -> None:
    apply(runtime)
    start = datetime(2026, 10, 10, 8, tzinfo=UTC)
    subscribe(runtime, "globex", "pro", effective_from=start)
    subscribe(runtime, "globex", "enterprise", effective_from=datetime(2026, 10, 20, tzinfo=UTC))
    record(runtime, [event("trial", time=datetime(2026, 10, 2, tzinfo=UTC)), event("r1")])
    (result,) = close_month(runtime, OCTOBER)
    invoice = closed(result)
    assert (invoice.contract.plan, invoice.contract.in_force_at) == ("enterprise", "2026-10-20T00:00:00Z")
    assert [(one.plan, one.days, one.days_of_month) for one in invoice.sections] == [
        ("pro", 10, 31),  # the 10th to the 19th
        ("enterprise", 12, 31),
    ]
    # 10 × 10/31 = 3.2258…; 100 × 12/31 = 38.7096…, of which nothing was used. What was used before the first plan of
    # the month, on the 2nd, is that plan's.
    assert [(line.plan, line.kind, line.meter, line.exact_usd, line.amount_usd) for line in invoice.lines] == [
        ("pro", "base_fee", None, "100/31", "3.23"),
        ("pro", "usage", "tokens_in", "0.0002", "0.00"),
        ("pro", "usage", "tokens_out", "0.00006", "0.00"),
        ("enterprise", "commit_true_up", None, "1200/31", "38.71"),
    ]
    assert quantities(invoice)["tokens_in"] == "2000"
    assert replay_invoice(runtime, "globex/2026-10").identical
    runtime.clock = lambda: datetime(2026, 12, 2, tzinfo=UTC)  # late usage was waited for
    (november,) = close_month(runtime, "2026-11")
    assert [(one.plan, one.days) for one in closed(november).sections] == [("enterprise", 30)]


def test_the_version_in_force_at_the_start_prices_the_whole_month(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    newer = CONTRACT.replace('version: "1"', 'version: "2"').replace("2026-01-01", "2026-10-02")
    apply(runtime, newer.replace('base: "10"', 'base: "99"'))
    runtime.clock = lambda: datetime(2026, 12, 2, tzinfo=UTC)  # late usage was waited for
    (october,), (november,) = close_month(runtime, OCTOBER), close_month(runtime, "2026-11")
    assert (closed(october).contract.version, closed(october).totals.total_usd) == ("1", "10.00")
    assert (closed(november).contract.version, closed(november).totals.total_usd) == ("2", "99.00")
    for label in (OCTOBER, "2026-11"):
        assert replay_invoice(runtime, f"globex/{label}").identical


def test_a_contract_that_begins_with_the_month_elsewhere_is_in_force_from_its_beginning_on(runtime: Runtime) -> None:
    apply(runtime, CONTRACT.replace("2026-01-01", "2026-10-01"))
    began = datetime(2026, 10, 1, tzinfo=UTC)
    subscribe(runtime, "globex", time_zone="Asia/Tokyo", effective_from=began)
    record(runtime, [event("r1", time=datetime(2026, 9, 30, 15, tzinfo=UTC))])
    (result,) = close_month(runtime, OCTOBER)
    assert closed(result).contract.in_force_at == "2026-10-01T00:00:00Z"
    assert quantities(closed(result))["tokens_in"] == "1000"
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_a_plan_that_the_version_in_force_does_not_have_is_refused(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "resale")
    newer = CONTRACT.replace('version: "1"', 'version: "2"').replace("2026-01-01", "2026-09-01")
    apply(runtime, newer.replace("  resale:", "  reseller:"))
    (result,) = close_month(runtime, OCTOBER)
    assert error_code(result) == "unknown_plan"


def test_a_commit_is_made_up_for_to_the_cent(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", "enterprise")
    record(runtime, [event("r1", meters={"tokens_in": 1_234_567, "tokens_out": 500_001})])
    (result,) = close_month(runtime, OCTOBER)
    invoice = closed(result)
    # 1,000,000 × 10 per million; 234,567 × 7 per million + 2 flat. 500,001 × 22 per million + 5 flat.
    assert [(line.exact_usd, line.amount_usd) for line in invoice.lines] == [
        ("13.641969", "13.64"),
        ("16.000022", "16.00"),
        ("70.36", "70.36"),
    ]
    assert invoice.totals.total_usd == "100.00"


def test_an_org_without_any_usage_is_billed_its_base_fee(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    (result,) = close_month(runtime, OCTOBER)
    assert [line.kind for line in closed(result).lines] == ["base_fee"]
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_a_share_of_an_unknown_cost_is_refused_until_the_cost_is_known(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    subscribe(runtime, "initech", "resale")
    record(runtime, [event("r1")])
    unknown = event("r2", org_id="initech", provider="anthropic", model="claude-sonnet-4-5")
    (receipt,) = append_in_the_past(runtime, [unknown])  # before this model was known
    assert receipt.cost_status == "unpriced"
    ours, theirs = close_month(runtime, OCTOBER)
    assert ours.status == "closed"
    assert error_code(theirs) == "cost_unknown"

    assert reprice(runtime).corrected == 1
    (theirs,) = close_month(runtime, OCTOBER, ["initech"])
    invoice = closed(theirs)
    # 1000 × 3 USD and 100 × 15 USD per million, each plus 30 %.
    assert [line.exact_usd for line in invoice.lines] == ["0.0039", "0.00195"]
    assert invoice.internal.cost_usd == "0.0045"
    assert [use.rate_version for use in invoice.rates] == [runtime.card.version]
    assert replay_invoice(runtime, invoice.invoice_id).identical


def test_a_share_of_cost_follows_what_the_provider_itself_stated(runtime: Runtime) -> None:
    included = 'tokens_in: {cost_plus: "0.30", includes: [provider_cost_adjustment]}'
    apply(runtime, CONTRACT.replace('tokens_in: {cost_plus: "0.30"}', included))
    subscribe(runtime, "globex", "resale")
    record(
        runtime,
        [
            event("cheaper", provider_cost_pico=100_000_000),  # by the card 210,000,000 pico-USD
            event("no-rate", provider="openrouter", model="a-model-that-no-card-knows", provider_cost_pico=7),
        ],
    )
    (result,) = close_month(runtime, OCTOBER)
    invoice = closed(result)
    assert invoice.internal.cost_usd == "0.000100000007"
    assert sum(Fraction(line.exact_usd) for line in invoice.lines) == Fraction("0.000100000007") * Fraction("1.3")
    assert replay_invoice(runtime, invoice.invoice_id).identical


def test_a_correction_after_the_close_changes_nothing(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    append_in_the_past(runtime, [event("r1", provider="anthropic", model="claude-sonnet-4-5")])
    (result,) = close_month(runtime, OCTOBER)
    assert closed(result).internal.unpriced_events == 1
    reprice(runtime)
    assert replay_invoice(runtime, "globex/2026-10").identical
    assert preview_invoice(runtime, "globex", OCTOBER).internal.unpriced_events == 0


def test_the_order_of_arrival_moves_no_line(runtime: Runtime) -> None:
    apply(runtime)
    events = [
        event(f"r{number}", meters={"tokens_in": number * 37 % 1000, "tokens_out": number, "tool_calls": number % 3})
        for number in range(120)
    ]
    for org_id in ("forth", "back"):
        subscribe(runtime, org_id)
    record(runtime, [event(one.request_id, "forth", meters=one.meters) for one in events])
    for start in range(0, len(events), 7):
        batch = events[::-1][start : start + 7]
        record(runtime, [event(one.request_id, "back", meters=one.meters) for one in batch])
    back, forth = (closed(result) for result in close_month(runtime, OCTOBER))
    assert back.lines == forth.lines
    assert back.totals == forth.totals


def test_an_invalid_month_is_refused_before_anything_else(runtime: Runtime) -> None:
    for month in ("2026-13", "2026", "october", ""):
        with pytest.raises(BadInput) as refused:
            close_month(runtime, month)
        assert refused.value.code == "invalid_month"


def test_an_invoice_is_found_by_its_org_and_month_also_when_the_org_has_a_slash(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "emea/globex")
    (result,) = close_month(runtime, OCTOBER)
    assert find_invoice(runtime, "emea/globex/2026-10").row.invoice_id == closed(result).invoice_id
    for reference in ("globex/2026-10", "inv_0", "emea/globex", "/2026-10"):
        with pytest.raises(NotFound) as refused:
            find_invoice(runtime, reference)
        assert refused.value.code == "unknown_invoice"


def test_the_requests_behind_a_line_are_exactly_those_that_it_charges(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    record(
        runtime,
        [
            event("plain"),
            event("thinking", meters={"reasoning_tokens": 7}),
            event("none", meters={"tokens_out": 0, "tokens_in": 4}),
            event("failed", outcome="failure"),
            event("development", environment="development"),
        ],
    )
    close_month(runtime, OCTOBER)
    out = next(line for line in show_invoice(runtime, "globex/2026-10").invoice.lines if line.meter == "tokens_out")
    behind = list(requests_behind(runtime, "globex/2026-10", out.number))
    assert [fact.entry.request_id for fact in behind] == ["plain", "thinking"]
    assert len(list(requests_behind(runtime, "globex/2026-10", out.number, limit=1))) == 1
    assert list(requests_behind(runtime, "globex/2026-10", 1)) == []
    with pytest.raises(BadInput) as refused:
        requests_behind(runtime, "globex/2026-10", 99)
    assert refused.value.code == "unknown_line"


def test_what_is_closed_stays_closed_when_somebody_stops_in_between(runtime: Runtime) -> None:
    apply(runtime)
    orgs = [f"org-{number}" for number in range(12)]
    for org_id in orgs:
        subscribe(runtime, org_id)
    with closing(close_each(runtime, OCTOBER)) as results:
        first = next(results)
    assert (first.org_id, first.status) == ("org-0", "closed")
    there = {row.org_id for row in list_invoices(runtime, month=OCTOBER)}
    assert "org-0" in there
    again = close_month(runtime, OCTOBER)
    assert [(one.org_id, one.status == "already_closed") for one in again] == [
        (one, one in there) for one in sorted(orgs)
    ]
    assert {row.org_id for row in list_invoices(runtime, month=OCTOBER)} == set(orgs)
