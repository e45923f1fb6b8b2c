"""A period's entries are found without an index by time, and are exactly those that a look at every row finds."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from invoicing import CONTRACT, event
from journal_helpers import append_in_the_past, query
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.contract.loader import load_contract
from tallystick.contract.pricing import WHOLE
from tallystick.core.periods import Period
from tallystick.invoice.facts import StoredFact, stored_lines
from tallystick.invoice.proration import Held
from tallystick.invoice.terms import Holding, Section, Terms
from tallystick.invoice.usage import PeriodSums, empty_sums
from tallystick.journal.invoices import InvoiceRow, late_requests, orgs_that_used, unsubscribed_orgs
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_entries import period_meters, stream_corrections, stream_facts
from tallystick.journal.period_facts import sum_period
from tallystick.journal.period_pin import sealed_tree
from tallystick.journal.period_scope import Scope, Span, begin_reading, find_span
from tallystick.ledger.entry import entry_event
from tallystick.ledger.merkle import node_hash
from tallystick.rates.model import Cost

START, END = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
OCTOBER = Period("2026-10", START, END)
_INSTANT = timedelta(microseconds=1)
_EDGES = [
    edge + timedelta(hours=hours) + shift
    for edge in (START, END)
    for hours in (0, 6, -6)
    for shift in (timedelta(0), -_INSTANT, _INSTANT)
]
_numbers = itertools.count(1)

Arrivals = list[tuple[list[tuple[datetime, bool]], bool]]
times = st.one_of(
    st.sampled_from(_EDGES),
    st.integers(-90, 34 * 24).map(lambda hours: START + timedelta(hours=hours)),
)
batches = st.tuples(
    st.lists(st.tuples(times, st.sampled_from([True, True, True, False])), min_size=1, max_size=8), st.booleans()
)
arrivals = st.lists(batches, min_size=1, max_size=6)
periods = st.one_of(
    st.just(OCTOBER),
    st.tuples(times, st.integers(1, 400)).map(
        lambda found: Period("some hours", found[0], found[0] + timedelta(hours=found[1]))
    ),
)
unhurried = {"suppress_health_check": [HealthCheck.function_scoped_fixture]}


def arrive(runtime: Runtime, org_id: str, arriving: Arrivals) -> None:
    """Store the batches one after another; where one says so, what has no price yet gets it after it.

    A key of the customer's own has paid for every third request.
    """
    number = 0
    for batch, then_reprice in arriving:
        for time, is_priced in batch:
            number += 1
            payer = "customer" if number % 3 == 2 else "seller"
            if is_priced:
                meters = {"tokens_in": 10 * number, "tokens_out": number % 3}
                runtime.append([event(f"r{number}", org_id, time=time, meters=meters, payer=payer)])
            else:
                model = {"provider": "anthropic", "model": "claude-sonnet-4-5"}
                unknown = event(f"r{number}", org_id, time=time, payer=payer, **model)
                append_in_the_past(runtime, [unknown])
        if then_reprice:
            reprice(runtime)


def every_row(runtime: Runtime, org_id: str) -> list[dict[str, Any]]:
    names = ("seq", "kind", "time", "time_max", "leaf", "refers_to_seq", "cost_pico")
    rows = query(runtime, f"select {', '.join(names)} from ledger_entries where org_id = %s order by seq", org_id)
    return [dict(zip(names, row, strict=True)) for row in rows]


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(naive_root(leaves[:split]), naive_root(leaves[split:]))


@settings(max_examples=examples(15), **unhurried)
@given(arrivals, periods, st.integers(0, 40))
def test_what_bisection_finds_is_what_a_look_at_every_row_finds(
    runtime: Runtime, arriving: Arrivals, period: Period, through_seq: int
) -> None:
    org_id = f"org-{next(_numbers)}"
    arrive(runtime, org_id, arriving)
    rows = every_row(runtime, org_id)
    inside = [row for row in rows if period.start <= row["time"] < period.end]
    requests = [row for row in inside if row["kind"] == "usage"]

    facts = sum_period(runtime.database, one_plan(org_id, period))
    pin = facts.ledger
    reached = [row["seq"] for row in rows if row["time_max"] >= period.start]
    marks = b"".join(row["seq"].to_bytes(8, "big") + row["leaf"] for row in inside)
    assert pin.first_seq == (reached[0] if reached else 0)
    assert (pin.through_seq, pin.tree_size, pin.events) == (len(rows), len(rows), len(requests))
    assert pin.entries_sha256 == hashlib.sha256(b"tallystick/invoice-entries/v2\n" + marks).hexdigest()
    assert pin.root == naive_root([row["leaf"] for row in rows]).hex()

    corrected = {row["refers_to_seq"]: row["cost_pico"] for row in rows if row["kind"] == "correction"}
    costs = [corrected.get(row["seq"], row["cost_pico"]) for row in requests]
    models = [*facts.total.models.values(), *facts.total.customer_models.values()]
    assert sum(model.cost_pico for model in models) == sum(cost for cost in costs if cost is not None)
    assert sum(model.unpriced for model in models) == costs.count(None)

    through = min(through_seq, len(rows))
    scope = Scope(org_id, period.start, period.end, through)
    corrections = {row["refers_to_seq"]: row["seq"] for row in inside if row["refers_to_seq"] and row["seq"] <= through}
    later = [row["seq"] for row in requests if row["seq"] > through]
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        seen = list(stream_facts(connection, scope))
        assert [fact.entry.seq for fact in seen] == [row["seq"] for row in requests if row["seq"] <= through]
        assert {fact.entry.seq: fact.correction.seq for fact in seen if fact.correction is not None} == corrections
        streamed = stream_corrections(connection, find_span(connection, scope))
        assert [one.refers_to_seq for one in streamed] == sorted(corrections)
        assert period_meters(connection, scope) == (["tokens_in", "tokens_out"] if seen else [])
        row = InvoiceRow("", org_id, "", period.start, period.end, "", "", "", "", through, "", 0, period.end)
        billed = through + 2  # by a later invoice
        count, unbilled, late = late_requests(connection, row, billed, 3)
        assert (count, [one.seq for one in late]) == (len(later), later[:3])
        assert unbilled == sum(seq > billed for seq in later)

    with runtime.database.operator() as connection:
        used = [org_id] if requests else []
        assert orgs_that_used(connection, {org_id: period, "nobody": period}) == used
        assert [org for org in unsubscribed_orgs(connection, period) if org == org_id] == used


@settings(max_examples=examples(12), **unhurried)
@given(arrivals, periods, st.tuples(times, times).map(sorted))
def test_the_database_sums_what_the_requests_one_by_one_sum_to(
    runtime: Runtime, arriving: Arrivals, period: Period, cuts: list[datetime]
) -> None:
    org_id = f"org-{next(_numbers)}"
    arrive(runtime, org_id, arriving)
    terms = plans_with_a_gap(org_id, period, *cuts)
    facts = sum_period(runtime.database, terms)
    one_by_one = empty_sums(len(terms.sections))
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        for fact in stream_facts(connection, Scope(org_id, period.start, period.end, facts.ledger.through_seq)):
            add(one_by_one[terms.section_of(fact.entry.time)], fact)
    assert facts.sums == one_by_one


def one_plan(org_id: str, period: Period) -> Terms:
    """Terms under which one plan holds for all of a time, which need not be a month."""
    contract = load_contract(CONTRACT, "acme.yaml")
    held = Holding(period.start, period.end, contract, "pro", 1)
    return Terms(org_id, period, "UTC", (Section(contract, contract.plans["pro"], (held,), WHOLE),), 1)


def plans_with_a_gap(org_id: str, period: Period, leaves: datetime, joins: datetime) -> Terms:
    """One plan until an instant, none until another, and a second one from there on, as far as the period has them."""
    whole = one_plan(org_id, period)
    (section,) = whole.sections
    times = [Held(period.start, min(leaves, period.end)), Held(max(joins, period.start), period.end)]
    held = [one for one in times if one.start < one.end]
    if not held:
        return whole
    sections = tuple(replace(section, holdings=(section.holdings[0]._replace(start=a, end=b),)) for a, b in held)
    return replace(whole, sections=sections)


def add(sums: PeriodSums, fact: StoredFact) -> None:
    one, priced = entry_event(fact.entry), fact.priced
    assert one is not None
    lines, status = stored_lines(priced), "unpriced" if priced.cost_pico is None else "final"
    sums.add_request(one, Cost(one.provider, one.model, lines, priced.cost_pico, status, priced.rate_version))  # type: ignore[arg-type]


def test_a_period_before_or_after_everything_is_empty(runtime: Runtime) -> None:
    arrive(runtime, "globex", [([(START, True), (END, True)], False)])
    for start, first_seq in ((datetime(1999, 1, 1, tzinfo=UTC), 1), (datetime(2026, 12, 1, tzinfo=UTC), 0)):
        facts = sum_period(runtime.database, one_plan("globex", Period("none", start, start + timedelta(days=30))))
        assert (facts.ledger.first_seq, facts.ledger.events, facts.total) == (first_seq, 0, PeriodSums())
    nobody = sum_period(runtime.database, one_plan("nobody", OCTOBER)).ledger
    assert (nobody.first_seq, nobody.through_seq, nobody.root) == (0, 0, hashlib.sha256(b"").hexdigest())


def test_the_root_is_the_same_however_much_of_the_ledger_is_sealed(runtime: Runtime) -> None:
    for number in range(5):
        arrive_more(runtime, 7 * number, 7)
        before = sum_period(runtime.database, one_plan("globex", OCTOBER))
        assert before.ledger.root == naive_root([row["leaf"] for row in every_row(runtime, "globex")]).hex()
        seal_once(runtime, everything=True)
        assert sum_period(runtime.database, one_plan("globex", OCTOBER)) == before
        with runtime.database.org("globex") as connection:
            assert sealed_tree(connection, "globex", 1000).size == 7 * number + 7
            assert sealed_tree(connection, "globex", 7 * number + 6).size == 7 * number


def arrive_more(runtime: Runtime, first: int, count: int) -> None:
    events = [event(f"r{n}", time=START + timedelta(hours=n % 9 * 80 - 20)) for n in range(first, first + count)]
    assert {receipt.status for receipt in runtime.append(events)} == {"accepted"}


_MANY = """
insert into ledger_entries (
    org_id, seq, kind, request_id, time, time_max, recorded_at, environment, model, outcome, fingerprint, salt, leaf,
    rate_version, status, cost_pico, meter_names, meter_quantities, line_meters, line_quantities, line_price_pico,
    line_per, line_amount_pico
)
select 'globex', n, 'usage', 'r' || n, time, time, time, 'production', 'm', 'success', sha256(''), '', sha256(''),
       'v', 'final', 0, '{tokens_in}', '{1}', '{}', '{}', '{}', '{}', '{}'
from generate_series(1, 40000) as n
cross join lateral (select timestamptz '2026-08-01' + n * interval '3 minutes' as time) as at
"""


def test_looking_for_a_few_entries_reads_few_pages_of_a_long_ledger(runtime: Runtime, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute(_MANY)
        owner.execute(
            "insert into org_heads (org_id, last_seq, time_max) select 'globex', 40000, '2026-10-23T08:00:00Z'"
        )
    end = datetime(2026, 8, 2, tzinfo=UTC)
    asked = {"org": "globex", "start": end - timedelta(hours=1), "end": end, "through_seq": 40000}
    with runtime.database.operator() as connection:
        ((whole,),) = connection.execute("select pg_relation_size('ledger_entries') / 8192").fetchall()
        assert whole > 1000
        span = Span(Scope(*asked.values()), 460, 600)
        late = {**span.parameters(), "first_seq": 40001, "last_seq": 40000, "limit": 20, "kinds": ["grant"]}
        late["billed_through_seq"] = 40000
        requests = {**span.parameters(), "meters": None, "uncharged": [], "limit": None}
        for file, query_name, parameters in (
            ("period", "span", asked),
            ("invoices", "unsubscribed_orgs", asked),
            ("invoices", "orgs_that_used", {"orgs": ["globex"], "starts": [asked["start"]], "ends": [end]}),
            ("invoices", "late_requests", late),
            ("period", "requests_late", {**requests, "after_seq": 0}),
            ("period", "requests", {**requests, "after_seq": 0}),
            ("period", "requests_late", {**requests, "after_seq": 500}),
            ("period", "requests", {**requests, "after_seq": 500}),
            ("period", "corrections", span.parameters()),
            ("period", "operations", {**span.parameters(), "kinds": ["grant"]}),
            ("period", "operations_late", {**span.parameters(), "kinds": ["grant"]}),
        ):
            sql = b"explain (analyze, buffers, format json) " + load_queries(file)[query_name]
            ((plan,),) = connection.execute(sql, parameters).fetchall()
            read = plan[0]["Plan"]["Shared Hit Blocks"] + plan[0]["Plan"]["Shared Read Blocks"]
            assert read < 250, (query_name, read, whole)
