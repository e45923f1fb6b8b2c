"""Invoices are exact, add up, and do not depend on the order in which facts arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from functools import cache

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from invoicing import CONTRACT, event, month_terms
from tallystick.app.cards import load_card_history
from tallystick.contract.loader import load_contract
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.digest import EntriesHash, entries_sha256, invoice_digest
from tallystick.invoice.model import Invoice, LedgerPin, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import PeriodFacts, PeriodSums
from tallystick.ledger.encoding import event_fingerprint
from tallystick.ledger.merkle import root
from tallystick.rates.card import RateCard
from tallystick.usage.event import UsageEvent

METERS = ("tokens_in", "tokens_out", "reasoning_tokens", "tool_calls", "pages_reviewed", "cache_read_tokens")
Meters = dict[str, int]

quantities = st.one_of(st.integers(0, 50), st.integers(0, 3_000_000), st.integers(0, 10**12))
usages = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(METERS), quantities, max_size=4),
        st.sampled_from(["production", "staging", "development"]),
        st.sampled_from(["success", "empty", "failure"]),
    ),
    max_size=25,
)
plans = st.sampled_from(["pro", "enterprise"])


@cache
def card() -> RateCard:
    return load_card_history().latest


@cache
def terms(plan: str) -> Terms:
    return month_terms(load_contract(CONTRACT, "acme.yaml"), (plan, None))


def events_of(usage: Sequence[tuple[Meters, str, str]]) -> list[UsageEvent]:
    return [
        event(f"r{number}", meters=meters, environment=environment, outcome=outcome)
        for number, (meters, environment, outcome) in enumerate(usage)
    ]


def facts_of(events: Sequence[UsageEvent]) -> PeriodFacts:
    sums = PeriodSums()
    for one in events:
        sums.add_request(one, card().price_event(one))
    leaves = [event_fingerprint(one, bytes(16)) for one in events]  # 32 bytes that tell events apart
    pin = LedgerPin(
        first_seq=min(1, len(events)),
        through_seq=len(events),
        billed_through_seq=0,
        events=len(events),
        entries_sha256=entries_sha256(enumerate(leaves, start=1)),
        tree_size=len(events),
        root=root(leaves).hex(),
    )
    return PeriodFacts((sums, PeriodSums()), pin)


def cents(usd: Fraction) -> Decimal:
    """Half to even, by other means than the code under test."""
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(usd.numerator) / Decimal(usd.denominator)
        return exact.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def expected_lines(plan: str, usage: Sequence[tuple[Meters, str, str]]) -> list[Fraction]:
    """The charges of the two plans, worked out from the raw events by hand."""
    charged = [
        meters for meters, environment, outcome in usage if environment != "development" and outcome != "failure"
    ]

    def total(*names: str) -> Fraction | None:
        found = [meters[name] for meters in charged for name in names if meters.get(name)]
        return Fraction(sum(found)) if found else None

    lines: list[Fraction] = []
    if plan == "pro":
        lines.append(Fraction(10))
        for names, price in ((("tokens_in",), "0.10"), (("tokens_out", "reasoning_tokens"), "0.30")):
            used = total(*names)
            if used is not None:
                lines.append(used * Fraction(price) / 1_000_000)
        calls = total("tool_calls")
        if calls is not None:
            lines.append(max(-((5 - calls) // 10), 0) * Fraction("0.80"))
        pages = total("pages_reviewed")
        if pages is not None:
            lines.append(pages * Fraction("0.015"))
        return lines
    used = total("tokens_in")
    if used is not None:
        first, rest = min(used, Fraction(1_000_000)), max(used - 1_000_000, Fraction(0))
        lines.append((first * 10 + rest * 7) / 1_000_000 + (2 if rest else 0))
    used = total("tokens_out")
    if used is not None:
        lines.append(used * 30 / 1_000_000 if used <= 500_000 else used * 22 / 1_000_000 + 5)
    missing = 100 - sum((Fraction(cents(line)) for line in lines), Fraction(0))
    return [*lines, missing] if missing > 0 else lines


@given(plans, usages)
def test_every_line_is_exact_and_rounded_once(plan: str, usage: list[tuple[Meters, str, str]]) -> None:
    invoice = build_invoice(terms(plan), facts_of(events_of(usage)))
    expected = expected_lines(plan, usage)
    assert [Fraction(line.exact_usd) for line in invoice.lines] == expected
    assert [Decimal(line.amount_usd) for line in invoice.lines] == [cents(exact) for exact in expected]


@given(plans, usages)
def test_lines_add_up_to_the_total_and_residues_are_half_a_cent_at_most(
    plan: str, usage: list[tuple[Meters, str, str]]
) -> None:
    invoice = build_invoice(terms(plan), facts_of(events_of(usage)))
    assert Fraction(invoice.totals.total_usd) == sum(Fraction(line.amount_usd) for line in invoice.lines)
    assert invoice.total_cents == Fraction(invoice.totals.total_usd) * 100
    for line in invoice.lines:
        assert abs(Fraction(line.residue_usd)) <= Fraction(1, 200)
        assert Fraction(line.exact_usd) == Fraction(line.amount_usd) + Fraction(line.residue_usd)
        if line.tiers:
            assert Fraction(line.exact_usd) == sum(Fraction(tier.amount_usd) for tier in line.tiers)
            assert Fraction(line.quantity) == sum(Fraction(tier.quantity) for tier in line.tiers)
    totals = invoice.totals
    assert Fraction(totals.exact_total_usd) == Fraction(totals.total_usd) + Fraction(totals.residue_usd)


@given(plans, usages)
def test_every_quantity_is_either_charged_or_said_not_to_be(plan: str, usage: list[tuple[Meters, str, str]]) -> None:
    invoice = build_invoice(terms(plan), facts_of(events_of(usage)))
    told = [use for line in invoice.lines for use in line.metered]
    told += invoice.not_charged.meters
    told += [use for group in invoice.not_charged.events for use in group.meters]
    for meter in METERS:
        raw = sum(meters.get(meter, 0) for meters, _, _ in usage)
        assert sum(int(use.quantity) for use in told if use.meter == meter) == raw
    aside = sum(group.events for group in invoice.not_charged.events)
    assert aside == sum(environment == "development" or outcome == "failure" for _, environment, outcome in usage)
    assert sum(use.events for use in invoice.rates) == invoice.ledger.events == len(usage)


@given(plans, usages, st.randoms(use_true_random=False))
def test_the_order_of_arrival_moves_no_line_and_no_total(
    plan: str, usage: list[tuple[Meters, str, str]], random: object
) -> None:
    events = events_of(usage)
    shuffled = list(events)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = build_invoice(terms(plan), facts_of(events)), build_invoice(terms(plan), facts_of(shuffled))
    assert (one.lines, one.totals, one.not_charged, one.internal) == (
        other.lines,
        other.totals,
        other.not_charged,
        other.internal,
    )
    # The digest pins the sequence too: it is the same exactly when each fact has the same place.
    assert (one.digest == other.digest) == (events == shuffled)


@given(plans, usages)
def test_the_same_input_gives_the_same_bytes_and_the_document_reads_back(
    plan: str, usage: list[tuple[Meters, str, str]]
) -> None:
    facts = facts_of(events_of(usage))
    invoice = build_invoice(terms(plan), facts)
    text = canonical_json(invoice.document())
    assert canonical_json(build_invoice(terms(plan), facts).document()) == text
    again: Invoice = parse_invoice(text)
    assert again == invoice
    assert invoice_digest(again.document()) == invoice.digest


@given(usages, st.integers(1, 2**53 - 1))
def test_anything_else_pinned_of_the_ledger_is_another_digest(
    usage: list[tuple[Meters, str, str]], number: int
) -> None:
    facts = facts_of(events_of(usage))
    invoice = build_invoice(terms("pro"), facts)
    for name in LedgerPin.__struct_fields__:
        other = number if isinstance(getattr(facts.ledger, name), int) else "0" * 64
        if other != getattr(facts.ledger, name):
            changed = replace(facts, ledger=msgspec.structs.replace(facts.ledger, **{name: other}))
            assert build_invoice(terms("pro"), changed).digest != invoice.digest


@given(st.lists(st.tuples(st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32)), unique_by=lambda e: e[0]))
def test_entries_hash_alike_one_by_one_and_in_blocks(entries: list[tuple[int, bytes]]) -> None:
    entries.sort()
    blocks = EntriesHash()
    for start in range(0, len(entries), 3):
        blocks.add_block(b"".join(seq.to_bytes(8, "big") + leaf for seq, leaf in entries[start : start + 3]))
    assert blocks.hexdigest() == entries_sha256(entries)
