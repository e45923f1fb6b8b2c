"""Base fees and commits are shared out by days of the org's own clocks, worked out here by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invoicing import CONTRACT, event, month_terms
from tallystick.app.cards import load_card_history
from tallystick.contract.loader import load_contract
from tallystick.core.errors import BadInput
from tallystick.core.periods import month_period
from tallystick.invoice.build import build_invoice
from tallystick.invoice.explain import explain
from tallystick.invoice.line_rows import lines_csv
from tallystick.invoice.model import Invoice, LedgerPin
from tallystick.invoice.proration import Held, month_days, owned_days
from tallystick.invoice.terms import Holding, Terms, make_terms
from tallystick.invoice.text import WIDTH, invoice_text
from tallystick.invoice.usage import PeriodFacts, empty_sums
from tallystick.rates.card import RateCard
from tallystick.usage.event import UsageEvent

ACME = load_contract(CONTRACT, "acme.yaml")
TWINS = load_contract(
    """
contract: twins
version: "1"
effective_from: 2020-01-01T00:00:00Z
currency: USD
plans:
  a: {title: A, base: "10", commit: "25", prices: {tool_calls: {unit: "0.07"}}}
  b: {title: B, base: "40", prices: {tool_calls: {unit: "0.05"}}}
""",
    "twins.yaml",
)
NOTHING = LedgerPin(first_seq=0, through_seq=0, billed_through_seq=0, events=0, entries_sha256="", tree_size=0, root="")


@cache
def card() -> RateCard:
    return load_card_history().latest


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def billed(terms: Terms, *events: UsageEvent) -> Invoice:
    sums = empty_sums(len(terms.sections))
    for one in events:
        sums[terms.section_of(one.time)].add_request(one, card().price_event(one))
    return build_invoice(terms, PeriodFacts(sums, NOTHING))


def days(terms: Terms) -> list[tuple[str, int, int]]:
    return [(one.plan.name, *one.days) for one in terms.sections]


def fees(invoice: Invoice) -> list[tuple[str, str, str, str]]:
    return [(line.plan, line.exact_usd, line.amount_usd, line.residue_usd) for line in invoice.lines]


def test_an_upgrade_in_the_month_charges_each_plan_its_days() -> None:
    # The 15th belongs to b, which is in force at its end: a has 14 days, b has 17.
    invoice = billed(month_terms(TWINS, ("b", "2026-10-15T09:30:00Z"), ("a", None)))
    assert days(month_terms(TWINS, ("b", "2026-10-15T09:30:00Z"), ("a", None))) == [("b", 14, 31), ("a", 17, 31)]
    # 40 × 14/31 = 18.0645…; 10 × 17/31 = 5.4838…; 25 × 17/31 = 13.7096…, of which 5.48 are charged.
    assert fees(invoice) == [
        ("b", "560/31", "18.06", "7/1550"),
        ("a", "170/31", "5.48", "3/775"),
        ("a", "6378/775", "8.23", "-1/3100"),
    ]
    assert (invoice.totals.total_usd, invoice.totals.exact_total_usd) == ("31.77", "24628/775")


def test_an_even_share_has_a_decimal() -> None:
    terms = month_terms(TWINS, ("b", "2026-04-16T00:00:00Z"), ("a", None), label="2026-04")
    assert days(terms) == [("b", 15, 30), ("a", 15, 30)]
    assert [line[1] for line in fees(billed(terms))] == ["20", "5", "7.5"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("2026-10-02T00:00:00Z", [("b", 1, 31), ("a", 30, 31)]),  # to the instant of a midnight: the 2nd is a's
        ("2026-10-01T23:59:59.999999Z", [("b", 0, 31), ("a", 31, 31)]),  # the 1st ends under a
        ("2026-10-31T00:00:00Z", [("b", 30, 31), ("a", 1, 31)]),
        ("2026-10-31T23:59:59Z", [("b", 30, 31), ("a", 1, 31)]),
    ],
)
def test_a_day_belongs_to_the_plan_in_force_at_its_end(change: str, expected: list[tuple[str, int, int]]) -> None:
    terms = month_terms(TWINS, ("b", change), ("a", None))
    assert days(terms) == expected


def test_a_plan_that_held_for_an_hour_has_no_day_and_no_fee_but_prices_what_it_saw() -> None:
    terms = month_terms(TWINS, ("a", "2026-10-10T10:00:00Z"), ("b", "2026-10-10T11:00:00Z"), ("a", None))
    assert days(terms) == [("a", 31, 31), ("b", 0, 31)]
    assert [(line.plan, line.kind, line.amount_usd) for line in billed(terms).lines] == [
        ("a", "base_fee", "10.00"),
        ("a", "commit_true_up", "15.00"),
    ]
    seen = event("r1", time=instant("2026-10-10T10:30:00Z"), meters={"tool_calls": 3})
    assert [(line.plan, line.kind, line.amount_usd) for line in billed(terms, seen).lines] == [
        ("a", "base_fee", "10.00"),
        ("a", "commit_true_up", "15.00"),
        ("b", "usage", "0.15"),
    ]


def test_the_fee_of_a_whole_month_is_whole_in_months_of_every_length_and_with_daylight_saving() -> None:
    for label, zone, length in [
        ("2028-02", "UTC", 29),
        ("2026-02", "UTC", 28),
        ("2026-03", "Europe/Paris", 31),  # 743 hours
        ("2026-10", "Europe/Paris", 31),  # 745 hours
        ("2026-09", "America/Santiago", 30),  # a midnight is skipped on the 6th
        ("2026-04", "Australia/Lord_Howe", 30),  # half an hour is repeated
    ]:
        terms = month_terms(TWINS, ("b", None), label=label, zone=zone)
        assert days(terms) == [("b", length, length)]
        assert fees(billed(terms)) == [("b", "40", "40.00", "0")]


@pytest.mark.parametrize(
    ("label", "change", "expected"),
    [
        ("2028-02", "2028-02-29T00:00:00+01:00", [("b", 28, 29), ("a", 1, 29)]),
        ("2026-02", "2026-02-28T23:00:00+01:00", [("b", 27, 28), ("a", 1, 28)]),
        # On 29 March the clocks go forward at 2: the day of 23 hours counts as one, and ends at 22:00 in UTC.
        ("2026-03", "2026-03-29T21:59:59Z", [("b", 28, 31), ("a", 3, 31)]),
        ("2026-03", "2026-03-29T22:00:00Z", [("b", 29, 31), ("a", 2, 31)]),
        # On 25 October they go back at 3: it ends at 23:00 in UTC.
        ("2026-10", "2026-10-25T22:59:59Z", [("b", 24, 31), ("a", 7, 31)]),
        ("2026-10", "2026-10-25T23:00:00Z", [("b", 25, 31), ("a", 6, 31)]),
    ],
)
def test_days_are_those_of_the_orgs_own_clocks(label: str, change: str, expected: list[tuple[str, int, int]]) -> None:
    terms = month_terms(TWINS, ("b", instant(change).isoformat()), ("a", None), label=label, zone="Europe/Paris")
    assert days(terms) == expected


def test_who_joins_pays_from_the_first_day_and_who_leaves_to_the_last() -> None:
    october = month_period("2026-10")

    def held(start: str, end: str) -> list[tuple[str, int, int]]:
        one = Holding(instant(start), instant(end), TWINS, "b", 1)
        return days(make_terms("globex", october, "UTC", [one], 1))

    assert held("2026-10-10T15:00:00Z", "2026-11-01T00:00:00Z") == [("b", 22, 31)]  # the 10th to the 31st
    assert held("2026-10-01T00:00:00Z", "2026-10-10T15:00:00Z") == [("b", 10, 31)]  # the 1st to the 10th
    assert held("2026-10-01T00:00:00Z", "2026-10-10T00:00:00Z") == [("b", 9, 31)]  # it left as the 10th began
    assert held("2026-10-10T09:00:00Z", "2026-10-10T17:00:00Z") == [("b", 1, 31)]  # came and went


def test_quantities_are_priced_by_the_plan_in_force_when_they_were_used() -> None:
    terms = month_terms(TWINS, ("b", "2026-10-15T09:30:00Z"), ("a", None))
    change = instant("2026-10-15T09:30:00Z")
    events = [
        event("r1", time=instant("2026-10-15T09:29:59.999999Z"), meters={"tool_calls": 100}),
        event("r2", time=change, meters={"tool_calls": 100}),
        event("r3", time=instant("2026-10-31T23:59:59Z"), meters={"tool_calls": 1}),
    ]
    lines = [line for line in billed(terms, *events).lines if line.kind == "usage"]
    assert [(line.plan, line.quantity, line.exact_usd) for line in lines] == [("b", "100", "5"), ("a", "101", "7.07")]


def test_what_is_used_without_a_plan_is_shown_and_not_charged() -> None:
    october = month_period("2026-10")
    times = [
        ("2026-10-05T00:00:00Z", "2026-10-10T00:00:00Z", "b"),
        ("2026-10-20T00:00:00Z", "2026-10-25T00:00:00Z", "a"),
    ]
    held = [Holding(instant(start), instant(end), TWINS, plan, 1) for start, end, plan in times]
    terms = make_terms("globex", october, "UTC", held, 3)
    used = [(3, 1), (7, 2), (15, 4), (22, 8), (28, 16)]  # before the first plan, in it, between, in the second, after
    events = [event(f"r{day}", time=datetime(2026, 10, day, tzinfo=UTC), meters={"tool_calls": n}) for day, n in used]
    invoice = billed(terms, *events)
    assert [(line.plan, line.quantity) for line in invoice.lines if line.kind == "usage"] == [("b", "3"), ("a", "8")]
    (aside,) = invoice.not_charged.events
    assert (aside.reason, aside.events, aside.meters[0].quantity) == ("no_plan", 2, "20")
    assert "no plan was in force" in " ".join(explain(invoice).not_charged)


def test_every_page_of_several_plans_names_them_and_their_days() -> None:
    terms = month_terms(TWINS, ("b", "2026-10-15T09:30:00Z"), ("a", None))
    invoice = billed(terms, event("r1", meters={"tool_calls": 5, "pages_reviewed": 1}))
    page = invoice_text(invoice)
    assert "b (twins, version 1), 14 of 31 days" in page
    assert all(len(line) <= WIDTH for line in page.splitlines())
    told = explain(invoice)
    assert told.lines[0].sentences[1] == "14 of 31 days: 40.00 × 14 / 31 = 560/31 (about 18.064516) USD."
    assert (
        "25.00 USD for each period, base fee included; for 17 of 31 days that is 425/31" in told.lines[3].sentences[0]
    )
    assert told.not_charged == (
        "1 pages_reviewed in 1 request was metered and not charged: plan a has no price for pages_reviewed.",
    )
    table = "".join(lines_csv(invoice)).splitlines()
    assert ",b,1,base_fee,,1,base fee,18.06,18.064516129032258065,0.004516129032258065," in table[1]


def test_a_plan_that_the_version_does_not_have_is_refused() -> None:
    with pytest.raises(BadInput) as refused:
        month_terms(TWINS, ("b", "2026-10-15T00:00:00Z"), ("c", None))
    assert refused.value.code == "unknown_plan"


zones = st.sampled_from(["UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "America/Santiago"])
labels = st.sampled_from(["2026-02", "2028-02", "2026-03", "2026-04", "2026-09", "2026-10", "2026-11"])


@given(labels, zones, st.lists(st.integers(1, 31 * 86400 - 1), max_size=8, unique=True), st.data())
def test_a_constant_plan_costs_the_same_however_its_time_is_split(
    label: str, zone: str, cuts: list[int], data: st.DataObject
) -> None:
    period = month_period(label, zone)
    length = int((period.end - period.start).total_seconds())
    starts = [period.start.timestamp() + cut for cut in sorted(cuts) if cut < length]
    bounds = [period.start, *(datetime.fromtimestamp(one, UTC) for one in starts), period.end]
    held = [Holding(start, end, ACME, "pro", n) for n, (start, end) in enumerate(pairwise(bounds))]
    seconds = data.draw(st.lists(st.integers(0, length - 1), max_size=6))
    events = [
        event(
            f"r{n}", time=datetime.fromtimestamp(period.start.timestamp() + second, UTC), meters={"tool_calls": n + 3}
        )
        for n, second in enumerate(seconds)
    ]
    whole = billed(month_terms(ACME, ("pro", None), label=label, zone=zone), *events)
    split = billed(make_terms("globex", period, zone, held, 1), *events)
    assert [(line.exact_usd, line.amount_usd, line.quantity) for line in split.lines] == [
        (line.exact_usd, line.amount_usd, line.quantity) for line in whole.lines
    ]
    assert split.totals == whole.totals


@given(labels, zones, st.lists(st.tuples(st.integers(0, 31 * 86400), st.booleans()), min_size=1, max_size=8))
def test_every_day_belongs_to_one_time_at_most_and_to_one_that_held_some_of_it(
    label: str, zone: str, marks: list[tuple[int, bool]]
) -> None:
    period = month_period(label, zone)
    calendar = month_days(period, zone)
    assert [one.start for one in calendar] == sorted({one.start for one in calendar})
    begin, end = period.start.timestamp(), period.end.timestamp()
    edges = sorted({min(begin + mark, end) for mark, _ in marks} | {begin, end})
    times = [Held(datetime.fromtimestamp(a, UTC), datetime.fromtimestamp(b, UTC)) for a, b in pairwise(edges)]
    kept = [one for one, (_, keep) in zip(times, [*marks, *[(0, True)] * len(times)], strict=False) if keep] or times[
        :1
    ]
    owned = owned_days(calendar, kept)
    touched = [any(one.start < day.end and one.end > day.start for one in kept) for day in calendar]
    assert sum(owned) == sum(touched)
    for count, one in zip(owned, kept, strict=True):
        assert count <= sum(one.start < day.end and one.end > day.start for day in calendar)


@given(st.integers(1, 30), st.integers(0, 10**6), st.integers(0, 10**6))
def test_two_plans_of_one_fee_come_to_that_fee_exactly(day: int, base_cents: int, commit_cents: int) -> None:
    base, commit = Fraction(base_cents, 100), Fraction(commit_cents, 100)
    text = (
        CONTRACT.split("plans:")[0]
        + "plans:\n"
        + "".join(
            f'  {name}: {{title: {name}, base: "{float(base):.2f}", commit: "{float(max(base, commit)):.2f}"}}\n'
            for name in "xy"
        )
    )
    contract = load_contract(text, "xy.yaml")
    invoice = billed(month_terms(contract, ("x", f"2026-10-{day + 1:02d}T00:00:00Z"), ("y", None)))
    fees = [Fraction(line.exact_usd) for line in invoice.lines if line.kind == "base_fee"]
    assert sum(fees) == base
    assert abs(Fraction(invoice.totals.total_usd) - max(base, commit)) <= Fraction(2, 100)
