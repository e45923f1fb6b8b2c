"""The ledger beside a provider's export: what agrees is said to, what differs is explained, and set right once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from conftest import NOW
from invoicing import CONTRACT, apply, event, record, subscribe
from journal_helpers import publish_price, query
from provider_exports import bucket, cost, openai_usage, page, result, seconds, text
from tallystick.app.close_month import close_month, preview_invoice
from tallystick.app.invoices import show_invoice
from tallystick.app.reconcile import Reconciliation, question, reconcile
from tallystick.app.reconcile_apply import Written, apply_offers
from tallystick.app.reconcile_report import report
from tallystick.app.replay import replay_invoice
from tallystick.app.reprice import reprice
from tallystick.app.retention import run_retention
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.usage.event import UsageEvent

DAY = date(2026, 10, 15)
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)


def compared(runtime: Runtime, export: object, **asked: Any) -> Reconciliation:
    return reconcile(runtime, question("openai", **asked), [("export.json", text(export))])


def applied(runtime: Runtime, found: Reconciliation) -> list[Written]:
    written = apply_offers(runtime, found, author="ann@seller.example", reason="the provider's own count")
    told = query(runtime, "select org_id, seq, author from administrative_acts where act = 'adjustment'")
    # Whatever is written by somebody's word is on the audit trail, once.
    assert {(one.offer.org_id, int(one.entry_id[1:]), "ann@seller.example") for one in written} <= set(told)
    assert len(told) == len(set(told))
    return written


def codes(found: Reconciliation, model: str = "gpt-4o-mini", day: date = DAY) -> list[str]:
    (cell,) = (cell for key, cell in found.comparison.cells.items() if (key.day, key.model) == (day, model))
    return [one.code for one in found.findings[cell.key]]


def counted(events: Sequence[UsageEvent], **more: int) -> dict[str, Any]:
    """OpenAI's usage of these events, all of one day and model, with so much more of each field."""
    export = openai_usage(events)
    (used,) = export["data"][0]["results"]
    for name, amount in more.items():
        used[name] += amount
    return export


def exact(*estimated: int) -> list[UsageEvent]:
    """Three requests of stated usage, and others of so many estimated tokens out."""
    known = [event(f"r{n}", time=NOON + timedelta(minutes=n)) for n in range(3)]
    meters = [{"tokens_in": 10, "tokens_out": count} for count in estimated]
    guessed = [event(f"e{n}", usage_status="estimated", meters=one) for n, one in enumerate(meters)]
    return [*known, *guessed]


def test_an_export_of_what_the_ledger_holds_equals_it(runtime: Runtime) -> None:
    events = [
        *exact(50),
        event("cached", meters={"tokens_in": 5, "cache_read_tokens": 7, "reasoning_tokens": 9, "tokens_out": 2}),
        event("other", "acme", model="gpt-4o-2024-08-06", time=NOON + timedelta(days=1)),
        event("audio", model="gpt-4o-audio-preview", meters={"audio_tokens_in": 5, "audio_tokens_out": 6}),
        event("theirs", model="claude-sonnet-4-5", provider="anthropic"),
        event("tool", provider=None, model="review", meters={"tool_calls": 3}),
        event("byok", payer="customer", meters={"tokens_in": 5}),
    ]
    record(runtime, events)
    ours = [one for one in events if one.provider == "openai" and one.payer == "seller"]
    for width in (86_400, 3_600):
        found = compared(runtime, openai_usage(ours, width=width, days=[DAY, DAY + timedelta(days=1)]))
        assert found.comparison.differing == []
        assert len(found.comparison.cells) == 3
        assert found.offers == []
        assert report(found)["equal"] is True


def test_names_of_one_model_meet(runtime: Runtime) -> None:
    record(runtime, [event("r1", model="openai/gpt-4o-mini"), event("r2", model="gpt-4o-mini-2024-07-18")])
    used = [event("r1"), event("r2", model="gpt-4o-mini-2024-07-18")]
    assert compared(runtime, openai_usage(used)).comparison.differing == []


def test_calls_that_did_not_pass_here_are_named_and_booked_only_to_who_is_named(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    events = exact()
    record(runtime, events)
    export = counted(events, num_model_requests=2, input_tokens=2000, output_tokens=300)
    found = compared(runtime, export)
    assert codes(found) == ["more_calls_there"]
    assert found.offers == []
    assert applied(runtime, found) == []
    again = compared(runtime, export, book_to="globex")
    (offer,) = again.offers
    assert [(line.meter, line.quantity) for line in offer.adjust.lines] == [("tokens_in", 2000), ("tokens_out", 300)]
    assert offer.adjust.cost_pico == 2000 * 150_000 + 300 * 600_000
    assert [one.is_new for one in applied(runtime, again)] == [True]
    after = compared(runtime, export, book_to="globex")
    assert codes(after) == ["more_calls_there", "adjusted"]
    assert after.offers == []  # the number of calls still differs, and no entry changes that
    assert verify_ledger(runtime).findings.kept == []
    (line,) = (line for line in preview_invoice(runtime, "globex", "2026-10").lines if line.meter == "tokens_in")
    assert line.quantity == "5000"


def test_estimates_are_set_to_what_the_provider_counted_and_each_stays_in_proportion(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    events = exact(100, 200, 100)
    record(runtime, events)
    export = counted(events, output_tokens=-301, input_tokens=5)
    found = compared(runtime, export)
    assert codes(found) == ["estimates"]
    assert {
        offer.adjust.of_seq: [(line.meter, line.quantity) for line in offer.adjust.lines] for offer in found.offers
    } == {
        4: [("tokens_in", 2), ("tokens_out", -75)],
        5: [("tokens_in", 2), ("tokens_out", -151)],
        6: [("tokens_in", 1), ("tokens_out", -75)],
    }
    written = applied(runtime, found)
    assert [(one.entry_id, one.is_new) for one in written] == [("a7", True), ("a8", True), ("a9", True)]
    assert query(
        runtime, "select kind, refers_to_seq, time = '2026-10-15T12:00Z' from ledger_entries where seq = 8"
    ) == [("adjustment", 5, True)]
    after = compared(runtime, export)
    assert after.comparison.differing == []
    assert applied(runtime, after) == []
    assert verify_ledger(runtime).findings.kept == []
    spent = query(
        runtime, "select debit_pico - credit_pico from account_balances where account = 'provider_usage_cost'"
    )
    assert int(spent[0][0]) == 3035 * 150_000 + 399 * 600_000
    used = {line.meter: line.quantity for line in preview_invoice(runtime, "globex", "2026-10").lines}
    assert (used["tokens_in"], used["tokens_out"]) == ("3035", "399")


def test_what_was_offered_is_written_once_however_many_apply_it_at_once(runtime: Runtime) -> None:
    events = exact(100, 200, 100)
    record(runtime, events)
    export = counted(events, output_tokens=-40)
    found = [compared(runtime, export) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        written = [one for many in pool.map(lambda one: applied(runtime, one), found) for one in many]
    assert sum(one.is_new for one in written) == 3
    assert query(runtime, "select count(*) from ledger_entries where kind = 'adjustment'") == [(3,)]
    assert compared(runtime, export).comparison.differing == []


def test_an_offer_that_another_has_overtaken_is_refused_and_comparing_again_goes_on(runtime: Runtime) -> None:
    events = exact(100)
    record(runtime, events)
    first = compared(runtime, counted(events, output_tokens=-40))
    second = compared(runtime, counted(events, output_tokens=-50))
    other = compared(runtime, counted(events, output_tokens=7, num_model_requests=1), book_to="globex")
    applied(runtime, first)
    for late in (second, other):
        with pytest.raises(Conflict) as refused:
            applied(runtime, late)
        assert refused.value.code == "ledger_moved"
    (offer,) = compared(runtime, counted(events, output_tokens=-50)).offers
    assert [(line.meter, line.quantity) for line in offer.adjust.lines] == [("tokens_out", -10)]
    assert offer.request_id == "reconcile:openai:4:1"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"num_model_requests": 1, "output_tokens": 5}, "the number of calls differs"),
        ({"output_tokens": -101}, "the estimates hold 100 tokens_out"),
    ],
)
def test_what_estimates_alone_cannot_explain_is_not_laid_to_them(
    runtime: Runtime, changed: dict[str, int], why: str
) -> None:
    events = exact(100)
    record(runtime, events)
    found = compared(runtime, counted(events, **changed))
    assert found.offers == []
    ((_, offered),) = found.offered.items()
    assert why in (offered.why_not or "")


def test_estimates_of_two_orgs_are_told_apart_by_project(runtime: Runtime) -> None:
    mine, theirs = exact(100), [event("x", "acme", usage_status="estimated")]
    record(runtime, [*mine, *theirs])
    rows = [counted(mine, output_tokens=-10)["data"][0]["results"][0], counted(theirs)["data"][0]["results"][0]]
    rows[0]["project_id"], rows[1]["project_id"] = "proj_a", "proj_b"
    rows.append(result("gpt-4o-mini", project_id="proj_c", num_model_requests=5))
    export = page([bucket(seconds(DAY), seconds(DAY) + 86_400, rows[:2])])
    together = compared(runtime, export)
    assert together.offers == []
    assert "several orgs" in (next(iter(together.offered.values())).why_not or "")
    export["data"][0]["results"] = rows
    apart = compared(runtime, export, org_of={"proj_a": "globex", "proj_b": "acme"})
    assert [cell.key.org_id for cell in apart.comparison.differing] == ["globex"]
    assert [(offer.org_id, offer.adjust.lines[0].quantity) for offer in apart.offers] == [("globex", -10)]
    assert apart.comparison.notes == ["1 rows are of proj_c, which is mapped to no org; they are left out"]


def test_calls_near_midnight_that_the_provider_dates_otherwise_are_no_loss(runtime: Runtime) -> None:
    before = event("late", time=datetime(2026, 10, 15, 23, 59, 50, tzinfo=UTC))
    record(runtime, [*exact(), before, event("next", time=NOON + timedelta(days=1))])
    there = [
        *exact(),
        event("late", time=before.time + timedelta(seconds=20)),
        event("next", time=NOON + timedelta(days=1)),
    ]
    found = compared(runtime, openai_usage(there), book_to="globex")
    assert codes(found) == ["more_calls_here", "midnight"]
    assert codes(found, day=DAY + timedelta(days=1)) == ["more_calls_there", "midnight"]
    assert found.offers == []


def test_costs_agree_to_the_rounding_of_the_export_and_prices_that_differ_are_named(runtime: Runtime) -> None:
    events = exact()
    record(runtime, events)
    day = (seconds(DAY), seconds(DAY) + 86_400)
    # 3000 × 0.15 + 300 × 0.60 USD a million
    right = [
        cost("gpt-4o-mini-2024-07-18, input", "#0.00045#"),
        cost("gpt-4o-mini-2024-07-18, output", "#0.00018000000000000001#"),
    ]
    usage = openai_usage(events)
    found = reconcile(
        runtime, question("openai"), [("u.json", text(usage)), ("c.json", text(page([bucket(*day, right)])))]
    )
    assert found.comparison.differing == []
    dear = [right[0], cost("gpt-4o-mini-2024-07-18, output", "#0.00036#"), cost("web search", "#0.5#")]
    found = reconcile(
        runtime,
        question("openai", book_to="globex"),
        [("u.json", text(usage)), ("c.json", text(page([bucket(*day, dear)])))],
    )
    assert codes(found) == ["price"]
    ((_, findings),) = found.findings.items()
    assert (
        "tokens_out: the provider charges 0.00036 USD, 1.2 for a million, and here it cost 0.00018 USD"
        in findings[0].text
    )
    assert "0.6 for 1,000,000 tokens_out" in findings[0].text
    assert report(found)["unattributed"] == [{"item": "web search", "cost_usd": "0.5"}]
    (offer,) = found.offers
    assert [(line.meter, line.quantity, line.cost_pico) for line in offer.adjust.lines] == [
        ("provider_cost_adjustment", 0, 180_000_000)
    ]
    applied(runtime, found)
    assert verify_ledger(runtime).findings.kept == []


def test_a_whole_day_without_models_is_compared_as_a_whole(runtime: Runtime) -> None:
    events = [*exact(), event("other", model="gpt-4o")]
    record(runtime, events)
    costs = page([bucket(seconds(DAY), seconds(DAY) + 86_400, [cost(None, "#0.00413#")])])
    assert compared(runtime, costs).comparison.differing == []
    costs["data"][0]["results"][0]["amount"]["value"] = "#0.005#"
    (cell,) = compared(runtime, costs, book_to="globex").comparison.differing
    assert cell.key.model == "*"
    assert compared(runtime, costs, book_to="globex").offers == []


def test_what_has_no_price_is_said_and_priced_first(runtime: Runtime) -> None:
    events = [event("n", model="newest", usage_status="estimated", meters={"tokens_in": 100})]
    record(runtime, events)
    export = counted(events, input_tokens=-40)
    found = compared(runtime, export)
    assert codes(found, "newest") == ["unknown_model", "estimates", "unpriced"]
    assert found.offers == []
    publish_price(runtime)
    reprice(runtime)
    priced = compared(runtime, export)
    (offer,) = priced.offers
    assert (offer.adjust.of_seq, offer.adjust.lines[0].quantity, offer.adjust.cost_pico) == (1, -40, -280)
    applied(runtime, priced)
    assert compared(runtime, export).comparison.differing == []
    assert verify_ledger(runtime).findings.kept == []


def test_a_month_that_is_closed_stays_as_it_is_and_lists_what_came_late(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    events = exact(100)
    record(runtime, events)
    (month,) = close_month(runtime, "2026-10")
    assert month.invoice is not None
    applied(runtime, compared(runtime, counted(events, output_tokens=-40)))
    shown = show_invoice(runtime, "globex/2026-10")
    assert shown.invoice.digest == month.invoice.digest
    assert [one.request_id for one in shown.late] == ["reconcile:openai:4:0"]
    assert replay_invoice(runtime, "globex/2026-10").identical


def test_entries_that_have_left_the_database_are_compared_from_their_blocks(runtime: Runtime) -> None:
    closed, march = datetime(2025, 4, 2, tzinfo=UTC), datetime(2025, 3, 9, 12, tzinfo=UTC)
    then = replace(runtime, clock=lambda: closed)
    apply(then, CONTRACT.replace("2026-01-01", "2025-01-01"))
    subscribe(then, "globex", effective_from=datetime(2025, 1, 1, tzinfo=UTC))
    events = [
        event("near", time=datetime(2025, 3, 9, 23, 50, tzinfo=UTC)),
        event("r", time=march, meters={"tokens_in": 5, "cache_read_tokens": 7}),
        event("e", time=march, usage_status="estimated", meters={"tokens_in": 5, "tokens_out": 100}),
        event("f", time=march, outcome="failure", meters={}),
        event("byok", time=march, payer="customer"),
    ]
    record(then, events)
    export = openai_usage(one for one in events if one.payer == "seller" and one.meters)
    (used,) = export["data"][0]["results"]
    used["output_tokens"] -= 30
    first = compared(then, export)
    applied(then, first)
    kept = compared(then, export)
    assert kept.comparison.differing == []
    seal_once(then, everything=True)
    settings = runtime.settings.model_copy(update={"retention_days": 45})
    later = replace(runtime, clock=lambda: closed + timedelta(days=60), settings=settings)
    assert run_retention(later).entries == 6
    left = compared(later, export)
    assert left.ledger.groups == kept.ledger.groups
    assert left.ledger.estimates.keys() == kept.ledger.estimates.keys()
    assert applied(later, first)[0].is_new is False  # also by its id alone
    used["output_tokens"] += 1
    again = compared(later, export)
    assert [one.is_new for one in applied(later, again)] == [True]
    assert compared(later, export).comparison.differing == []
    assert verify_ledger(later).findings.kept == []


def test_a_day_that_is_not_over_is_compared_and_not_set_right(runtime: Runtime) -> None:
    today = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    events = [event("e", time=today, usage_status="estimated")]
    record(runtime, events)
    found = compared(runtime, counted(events, output_tokens=4))
    assert len(found.offers) == 1
    with pytest.raises(BadInput) as refused:
        applied(runtime, found)
    assert refused.value.code == "day_not_over"
    assert query(runtime, "select count(*) from ledger_entries") == [(1,)]


def test_what_nobody_has_is_refused(runtime: Runtime) -> None:
    events = exact(5)
    record(runtime, events)
    export = counted(events)
    with pytest.raises(NotFound):
        compared(runtime, export, book_to="nobody")
    for asked, code in (
        ({"since": date(2026, 11, 1)}, "invalid_period"),
        ({"models_of": {"input": "gpt-4o"}}, "unmatched_item"),
        ({"orgs": ["globex"], "org_of": {"p": "globex"}}, "conflicting_options"),
    ):
        with pytest.raises(BadInput) as refused:
            compared(runtime, export, **asked)  # type: ignore[arg-type]
        assert refused.value.code == code


def test_a_part_of_a_day_is_said_and_sets_nothing_right(runtime: Runtime) -> None:
    events = exact(100)
    record(runtime, events)
    export = openai_usage(events, width=3_600)
    export["data"][0]["results"][0]["output_tokens"] += 5
    found = compared(runtime, export)
    assert codes(found)[0] == "part_of_day"
    assert found.offers == []


def test_an_export_that_counts_no_calls_needs_somebody_to_say_that_all_passed_here(runtime: Runtime) -> None:
    claude = {"provider": "anthropic", "model": "claude-sonnet-4-5", "usage_status": "estimated"}
    events = [event(f"e{n}", meters={"tokens_out": 100 * n}, **claude) for n in (1, 2)]
    record(runtime, events)
    used = {"model": "claude-sonnet-4-5-20250929", "uncached_input_tokens": 31, "output_tokens": 240}
    export = {"data": [{"starting_at": "2026-10-15T00:00:00Z", "ending_at": "2026-10-16T00:00:00Z", "results": [used]}]}

    def asked(**more: Any) -> Reconciliation:
        return reconcile(runtime, question("anthropic", **more), [("a.json", text(export))])

    assert asked().offers == []
    found = asked(is_complete=True)
    assert {
        offer.adjust.of_seq: [(line.meter, line.quantity) for line in offer.adjust.lines] for offer in found.offers
    } == {
        1: [("tokens_in", 10), ("tokens_out", -20)],
        2: [("tokens_in", 21), ("tokens_out", -40)],
    }
    applied(runtime, found)
    assert asked().comparison.differing == []
    assert verify_ledger(runtime).findings.kept == []


def test_a_provider_that_no_card_knows_is_booked_at_what_it_says_that_it_cost(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")  # nothing was recorded for it yet
    export = "date,model,meter,quantity,cost_usd\n2026-10-15,house-model,tokens_in,1000,{}\n"

    def asked(cost_usd: str) -> Reconciliation:
        return reconcile(runtime, question("house", book_to="globex"), [("h.csv", export.format(cost_usd).encode())])

    unpriced = asked("")
    assert unpriced.offers == []
    assert "no price for tokens_in" in (next(iter(unpriced.offered.values())).why_not or "")
    found = asked("0.25")
    (offer,) = found.offers
    assert [(line.meter, line.quantity, line.cost_pico) for line in offer.adjust.lines] == [
        ("provider_cost_adjustment", 0, 250_000_000_000),
        ("tokens_in", 1000, 0),
    ]
    applied(runtime, found)
    assert asked("0.25").comparison.differing == []
    assert verify_ledger(runtime).findings.kept == []
    (line,) = (line for line in preview_invoice(runtime, "globex", "2026-10").lines if line.meter == "tokens_in")
    assert line.quantity == "1000"


def test_the_report_is_plain_json(runtime: Runtime) -> None:
    events = exact(100)
    record(runtime, events)
    found = compared(runtime, counted(events, output_tokens=-40))
    told = json.loads(json.dumps(report(found, applied(runtime, found))))
    assert told["applied"] == {"entries": 1, "already_there": 0}
    (cell,) = told["cells"]
    assert cell["offers"][0]["entry_id"] == "a5"
    assert cell["meters"]["tokens_out"] == {"provider": 360, "ledger": 400, "difference": -40}
