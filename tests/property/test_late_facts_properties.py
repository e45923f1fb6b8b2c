"""Whatever comes when, and whenever months are closed: in all a month is billed what it comes to as a whole."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from invoicing import event, month_terms
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.instants import parse_instant
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.late_months import LateMonth
from tallystick.invoice.model import AdjustmentPin, Invoice, InvoiceLine, LedgerPin, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount, PeriodFacts, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.adjustment import Adjust, AdjustedMeter
from tallystick.rates.model import Cost, CostLine
from tallystick.usage.event import UsageEvent

LABELS = ("2026-09", "2026-10", "2026-11")
LAST = "2026-12"
ZONE = "Europe/Paris"  # its October has an hour more than 31 days have
HASH = "0" * 64

money = st.integers(0, 10**6).map(lambda mills: f"{mills // 1000}.{mills % 1000:03d}")
units = st.integers(1, 40)


def per_unit() -> st.SearchStrategy[Any]:
    return st.builds(lambda unit, per: {"unit": unit, "per": per}, money, st.sampled_from([1, 10, 1000]))


def tiers() -> st.SearchStrategy[Any]:
    tier = st.tuples(units, money, st.one_of(st.none(), money))

    def build(found: list[tuple[int, str, str | None]]) -> list[dict[str, Any]]:
        bound, made = 0, []
        for place, (size, unit, flat) in enumerate(found):
            bound += size
            up_to = {} if place == len(found) - 1 else {"up_to": bound}
            made.append({**up_to, "unit": unit, **({} if flat is None else {"flat": flat})})
        return made

    return st.lists(tier, min_size=1, max_size=4).map(build)


prices = st.one_of(
    per_unit(),
    st.builds(lambda size, price, free: {"package": {"size": size, "price": price, "free": free}}, units, money, units),
    tiers().map(lambda found: {"graduated": found}),
    tiers().map(lambda found: {"volume": found}),
    st.just({"cost_plus": "0.30"}),
)
plans = st.builds(
    lambda base, commit, calls, pages: {
        "base": base,
        **({} if commit is None else {"commit": commit}),
        "prices": {"tool_calls": calls, "tokens_in": {**pages}},
    },
    money,
    st.one_of(st.none(), money),
    prices,
    prices,
)


def contract_of(first: dict[str, Any], second: dict[str, Any]) -> Contract:
    text = {
        "contract": "acme",
        "version": "1",
        "effective_from": "2026-01-01T00:00:00Z",
        "currency": "USD",
        "plans": {"small": {"title": "Small", **first}, "large": {"title": "Large", **second}},
        "environments": {"development": {"charge": False}},
    }
    return load_contract(json.dumps(text), "acme.yaml")


class Fact(NamedTuple):
    """A request, or an adjustment of what was recorded, of one of the months."""

    month: int
    hours: int
    calls: int
    tokens: int
    cost_pico: int
    outcome: str
    environment: str
    adjusts: bool

    @property
    def time(self) -> datetime:
        return datetime(2026, 9 + self.month, 1, 12, tzinfo=UTC) + timedelta(hours=self.hours)


facts = st.builds(
    Fact,
    month=st.integers(0, 2),
    hours=st.integers(0, 27 * 24),
    calls=st.integers(0, 30),
    tokens=st.integers(0, 30),
    cost_pico=st.integers(0, 10**13),
    outcome=st.sampled_from(["success", "success", "success", "failure"]),
    environment=st.sampled_from(["production", "production", "development"]),
    adjusts=st.booleans(),
)


def event_of(place: int, fact: Fact, models: int = 1) -> tuple[UsageEvent, Cost]:
    meters = {"tool_calls": fact.calls, "tokens_in": fact.tokens}
    model = ("gpt-4o-mini", "gpt-4o", "o3")[place % models]
    members = {"outcome": fact.outcome, "environment": fact.environment, "meters": meters, "model": model}
    one = event(f"r{place}", time=fact.time, **members)
    lines = tuple(
        CostLine(meter, quantity, None, None, fact.cost_pico // 2, None) for meter, quantity in meters.items()
    )
    total = fact.cost_pico // 2 * 2
    return one, Cost(one.provider, one.model, lines, total, "final", "card-1", None)


def adjustment_of(fact: Fact) -> Adjust:
    """It takes away what the fact would add."""
    return Adjust(
        of_seq=None,
        provider="openai",
        model="gpt-4o-mini",
        environment=fact.environment,
        lines=(AdjustedMeter("tokens_in", -fact.tokens, -(fact.cost_pico // 2)),),
        source="openai",
        source_sha256=HASH,
        author="ann",
        reason="the provider counted otherwise",
    )


class Ledger:
    """Facts in the order of their arrival, and the invoices that were made of them."""

    def __init__(self, terms: dict[str, Terms], arrived: Sequence[Fact]) -> None:
        self.terms, self.arrived = terms, arrived
        self.invoices: list[Invoice] = []

    def count(self, label: str, through: int) -> MonthCount:
        terms = self.terms[label]
        sums = empty_sums(len(terms.sections))
        for place, fact in enumerate(self.arrived[:through]):
            if fact.time in terms.period:
                of = sums[terms.section_of(fact.time)]
                if fact.adjusts:
                    of.add_adjustment(adjustment_of(fact))
                else:
                    of.add_request(*event_of(place, fact))
        return MonthCount(sums, WalletMonth())

    def close(self, label: str, through: int) -> Invoice:
        billed = max((one.ledger.through_seq for one in self.invoices), default=0)
        late = []
        for one in self.invoices:
            own = self.terms[one.period.label]
            came = [place for place in range(billed, through) if self.arrived[place].time in own.period]
            if came:
                before, now = (self.count(one.period.label, until) for until in (billed, through))
                late.append(LateMonth(one.invoice_id, own, before, now, pin(billed, through, len(came))))
        found = self.count(label, through)
        ledger = LedgerPin(
            first_seq=1,
            through_seq=through,
            billed_through_seq=billed,
            events=through,
            entries_sha256=HASH,
            tree_size=through,
            root=HASH,
        )
        invoice = build_invoice(self.terms[label], PeriodFacts(found.sums, ledger, found.wallet), late)
        self.invoices.append(invoice)
        return invoice

    def lines_for(self, label: str) -> list[InvoiceLine]:
        return [line for one in self.invoices for line in one.lines if one.month_of(line) == label]


def pin(billed: int, through: int, entries: int) -> AdjustmentPin:
    return AdjustmentPin(
        first_seq=1,
        billed_through_seq=billed,
        through_seq=through,
        entries=entries,
        events=entries,
        first_arrived="2026-12-01T00:00:00Z",
        last_arrived="2026-12-01T00:00:00Z",
        entries_sha256=HASH,
    )


def terms_of(contract: Contract, change: int | None) -> dict[str, Terms]:
    """Every month, with a change of plan on that day of it, or none."""
    found = {}
    for label in (*LABELS, LAST):
        plans = (
            (("small", None),) if change is None else (("small", f"{label}-{change:02d}T09:30:00Z"), ("large", None))
        )
        found[label] = month_terms(contract, *plans, label=label, zone=ZONE)
    return found


def total(lines: Iterable[InvoiceLine]) -> Fraction:
    return sum((Fraction(line.amount_usd) for line in lines), Fraction(0))


@settings(max_examples=examples(40))
@given(plans, plans, st.lists(facts, max_size=14), st.permutations(range(3)), st.data())
def test_in_all_a_month_is_billed_what_it_comes_to_as_a_whole(
    first: dict[str, Any], second: dict[str, Any], arrived: list[Fact], order: list[int], data: st.DataObject
) -> None:
    change = data.draw(st.one_of(st.none(), st.integers(2, 28)))
    ledger = Ledger(terms_of(contract_of(first, second), change), arrived)
    closes = sorted(data.draw(st.lists(st.integers(0, len(arrived)), min_size=3, max_size=3)))
    for month, through in zip(order, closes, strict=True):
        ledger.close(LABELS[month], through)
    last = ledger.close(LAST, len(arrived))
    for label in LABELS:
        whole = Ledger(ledger.terms, arrived).close(label, len(arrived))
        lines = ledger.lines_for(label)
        assert total(lines) == Fraction(whole.totals.total_usd)
        exact = sum((Fraction(line.exact_usd) for line in lines), Fraction(0))
        assert exact == Fraction(whole.totals.exact_total_usd)
        for plan, kind, meter in {(line.plan, line.kind, line.meter) for line in whole.lines}:
            of_line = [one for one in lines if (one.plan, kind_of(one), one.meter) == (plan, kind, meter)]
            assert total(of_line) == total(
                one for one in whole.lines if (one.plan, one.kind, one.meter) == (plan, kind, meter)
            )
    for invoice in ledger.invoices:
        assert Fraction(invoice.totals.total_usd) == total(invoice.lines)
        assert parse_invoice(canonical_json(invoice.document())) == invoice
        for adjustment in invoice.adjustments:
            own = [line for line in invoice.lines if line.adjusts and line.adjusts.adjustment == adjustment.number]
            assert Fraction(adjustment.totals.total_usd) == total(own)
    stated = [invoice.internal.cost_usd for invoice in ledger.invoices]
    stated += [one.cost_usd for invoice in ledger.invoices for one in invoice.internal.adjustments]
    costs = sum(map(Fraction, stated), Fraction(0))
    whole_cost = sum(
        (Fraction(Ledger(ledger.terms, arrived).close(label, len(arrived)).internal.cost_usd) for label in LABELS),
        Fraction(0),
    )
    assert costs == whole_cost + Fraction(last.internal.cost_usd)


def kind_of(line: InvoiceLine) -> str:
    return line.kind if line.adjusts is None else line.adjusts.kind


@settings(max_examples=examples(40))
@given(plans, st.lists(facts, max_size=12), st.integers(0, 12))
def test_the_lines_of_a_group_add_up_to_the_change_of_the_line_and_their_steps_to_the_exact_one(
    plan: dict[str, Any], arrived: list[Fact], at: int
) -> None:
    ledger = Ledger(terms_of(contract_of(plan, plan), None), arrived)
    ledger.close(LABELS[0], min(at, len(arrived)))
    invoice = ledger.close(LAST, len(arrived))
    groups: dict[tuple[str, str | None], list[InvoiceLine]] = {}
    for line in invoice.lines:
        if line.adjusts is not None:
            groups.setdefault((line.adjusts.kind, line.meter), []).append(line)
    for lines in groups.values():
        adjusts = lines[0].adjusts
        assert adjusts is not None
        assert total(lines) == Fraction(adjusts.now_usd) - Fraction(adjusts.billed_usd)
        for line in lines:
            assert Fraction(line.exact_usd) == Fraction(line.amount_usd) + Fraction(line.residue_usd)
            step = line.adjusts
            assert step is not None
            if step.before or step.after:
                before = Fraction(step.before.amount_usd) if step.before else Fraction(0)
                after = Fraction(step.after.amount_usd) if step.after else Fraction(0)
                assert Fraction(line.exact_usd) == after - before
        for line in lines[:-1]:
            assert abs(Fraction(line.residue_usd)) <= Fraction(1, 200)
        assert abs(Fraction(lines[-1].residue_usd)) <= Fraction(len(lines) + 1, 200)


VOLUME = {
    "base": "3.33",
    "commit": "40",
    "prices": {
        "tool_calls": {"volume": [{"up_to": 15, "unit": "1.005"}, {"unit": "0.5", "flat": "0.333"}]},
        "tokens_in": {"graduated": [{"up_to": 20, "unit": "0.333"}, {"unit": "0.125", "flat": "1"}]},
    },
}


def test_ten_thousand_orders_of_arrival_give_the_same_bytes() -> None:
    """What came before a month's close may come in any order, and what came after it likewise.

    Left out of the comparison are the places in the ledger, which are the order of arrival. An invoice is a function of
    its sums; where an order gives the same sums, down to the order within them, it is not built again.
    """
    terms = terms_of(contract_of(VOLUME, VOLUME), 12)
    draw = random.Random(6)
    every = [event_of(place, fact, 3) for place, fact in enumerate(MIXED)]
    early, late = every[:7], every[7:]
    orders: set[tuple[str, ...]] = set()
    inputs: set[str] = set()
    adjusting = 0
    documents: set[bytes] = set()
    while len(orders) < 10_000:
        arrived = [*draw.sample(early, len(early)), *draw.sample(late, len(late))]
        orders.add(tuple(one.request_id for one, _ in arrived))
        ledger = Arrived(terms, arrived)
        given = repr([ledger.count("2026-09", 7), ledger.count("2026-09", 10), ledger.count("2026-10", 10)])
        if given not in inputs:
            inputs.add(given)
            first, second = ledger.close("2026-09", 7), ledger.close("2026-10", 10)
            adjusting = sum(line.kind == "adjustment" for line in second.lines)
            documents.add(canonical_json([without_places(first), without_places(second)]))
    assert len(inputs) > 20  # the orders do differ in what the invoices are built from
    assert len(documents) == 1
    assert adjusting >= 3


class Arrived(Ledger):
    """A ledger of requests that are made already."""

    def __init__(self, terms: dict[str, Terms], events: Sequence[tuple[UsageEvent, Cost]]) -> None:
        super().__init__(terms, [MIXED[int(one.request_id[1:])] for one, _ in events])
        self.events = events

    def count(self, label: str, through: int) -> MonthCount:
        terms = self.terms[label]
        sums = empty_sums(len(terms.sections))
        for one, cost in self.events[:through]:
            if one.time in terms.period:
                sums[terms.section_of(one.time)].add_request(one, cost)
        return MonthCount(sums, WalletMonth())


MIXED = [
    Fact(0, 10, 7, 3, 10**9, "success", "production", False),
    Fact(0, 400, 2, 9, 3 * 10**9, "success", "production", False),
    Fact(0, 20, 5, 0, 5 * 10**9, "failure", "production", False),
    Fact(0, 500, 0, 8, 7 * 10**9, "success", "development", False),
    Fact(0, 30, 4, 4, 9 * 10**9, "success", "production", False),
    Fact(1, 35, 1, 1, 8 * 10**9, "success", "development", False),
    Fact(1, 40, 6, 1, 11 * 10**9, "success", "production", False),
    Fact(0, 50, 9, 9, 13 * 10**9, "success", "production", False),
    Fact(0, 450, 16, 2, 15 * 10**9, "success", "production", False),
    Fact(1, 60, 3, 3, 17 * 10**9, "failure", "production", False),
]


def without_places(invoice: Invoice) -> dict[str, Any]:
    """The document without what names places in the ledger, and the hash over them."""
    document = invoice.document()
    del document["ledger"], document["digest"]
    for adjustment in document["adjustments"]:
        del adjustment["ledger"]
    return document


def test_the_time_of_day_that_clocks_have_twice_is_in_the_month_and_the_plan_that_it_belongs_to() -> None:
    """02:30 comes twice on 25 October in Paris; a change of plan lies between the two."""
    contract = contract_of(VOLUME, {**VOLUME, "commit": "50"})
    month = month_terms(contract, ("small", "2026-10-25T01:00:00Z"), ("large", None), label="2026-10", zone=ZONE)
    ledger = Ledger(
        {"2026-10": month, LAST: month_terms(contract, ("large", None), label=LAST, zone=ZONE)},
        [at("2026-10-25T00:30:00Z", 1), at("2026-10-25T00:30:00Z", 2), at("2026-10-25T01:30:00Z", 4)],
    )
    ledger.close("2026-10", 1)
    late = ledger.close(LAST, 3)
    own = [line for line in late.lines if line.adjusts is not None and line.meter == "tool_calls"]
    assert [(line.plan, line.metered[0].quantity) for line in own] == [("small", "2"), ("large", "4")]
    (adjustment,) = late.adjustments
    assert [(one.plan, one.days, one.days_of_month) for one in adjustment.sections] == [
        ("small", 24, 31),
        ("large", 7, 31),
    ]
    assert (adjustment.period.start, adjustment.period.end) == ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")


def at(instant: str, calls: int) -> Fact:
    """A request of October with so many calls, at that instant."""
    hours = (parse_instant(instant) - datetime(2026, 10, 1, 12, tzinfo=UTC)) / timedelta(hours=1)
    return Fact(1, hours, calls, 0, 10**9, "success", "production", False)  # type: ignore[arg-type]
