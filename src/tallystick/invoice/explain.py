"""How each line of an invoice came about, in plain sentences with the arithmetic written out.

Everything said here is read from the invoice alone, so that the explanation of a closed invoice never
changes, whatever happens to contracts, rates or plans later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from tallystick.core.money import format_exact
from tallystick.invoice.adjusted_lines import KIND_TITLES
from tallystick.invoice.explain_adjustment import adjusted_rounding, adjustment_sentences
from tallystick.invoice.model import (
    Adjustment,
    CustomerPaid,
    Invoice,
    InvoiceLine,
    InvoiceSection,
    MeterUse,
    NotChargedEvents,
    Wallet,
)
from tallystick.invoice.wording import added, counted, grouped, listed, tier_sentence, usd

_CREDIT_KINDS = ("top_up", "credits_owed")


@dataclass(frozen=True, slots=True)
class LineExplanation:
    """One line: its number, what it is called, and the sentences about it."""

    number: int
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The whole invoice: where its terms come from, its lines, its sum, what was not charged, and the wallet."""

    terms: tuple[str, ...]
    lines: tuple[LineExplanation, ...]
    total: tuple[str, ...]
    not_charged: tuple[str, ...]
    wallet: tuple[str, ...]
    evidence: tuple[str, ...]


def explain(invoice: Invoice) -> Explanation:
    """The invoice in sentences."""
    return Explanation(
        terms=_terms(invoice),
        lines=tuple(explain_line(invoice, line) for line in invoice.lines),
        total=_total(invoice),
        not_charged=_not_charged(invoice),
        wallet=_wallet(invoice.wallet),
        evidence=_evidence(invoice),
    )


def explain_line(invoice: Invoice, line: InvoiceLine) -> LineExplanation:
    """One line in sentences."""
    say = {
        "base_fee": _base,
        "usage": _usage,
        "commit_true_up": _true_up,
        "top_up": _top_up,
        "credits_owed": _owed,
        "adjustment": adjustment_sentences,
    }[line.kind]
    sentences = say(invoice, line)
    rounding = _rounding(line) if line.adjusts is None else adjusted_rounding(invoice, line, line.adjusts)
    return LineExplanation(line.number, line_title(line), (*sentences, rounding))


def line_title(line: InvoiceLine) -> str:
    """What the line is called on paper; of an adjustment, what it is called in the month that it adjusts."""
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    if kind == "usage" and line.meter is not None:
        return " + ".join([line.meter, *(use.meter for use in line.metered if use.meter != line.meter)])
    return KIND_TITLES[kind]


def section_title(section: InvoiceSection) -> str:
    """What a section is called on paper, where an invoice has several."""
    return f"Plan {section.plan}, {section.days} of {section.days_of_month} days"


def _terms(invoice: Invoice) -> tuple[str, ...]:
    period = invoice.period
    return (
        f"The period is {period.label} on the clocks of {period.time_zone}: from {period.start} up to, "
        f"and not including, {period.end}.",
        *(_section(invoice, section) for section in invoice.sections),
    )


def _section(invoice: Invoice, section: InvoiceSection) -> str:
    if not section.in_force:
        return (
            f"{invoice.org_id} was on no plan in this period; the last one was {section.plan} of contract "
            f"{section.contract}, version {section.version}. It prices nothing that was used."
        )
    named = f"Plan {section.plan} of contract {section.contract}, version {section.version},"
    if len(invoice.sections) == 1 and section.days == section.days_of_month:
        (held,) = section.in_force[:1]
        return (
            f"{named} prices the whole period: it was in force at {held.start}, by subscription {held.subscription} "
            f"of {invoice.org_id}."
        )
    times = [f"from {one.start} until {one.end} (subscription {one.subscription})" for one in section.in_force]
    days = f"{section.days} of the month's {section.days_of_month} days"
    return f"{named} was in force {listed(times)}, and prices what was used then; {days} are its share."


def _base(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    section = invoice.sections[line.section - 1]
    if section.days == section.days_of_month:
        return (f"Plan {line.plan} has a base fee of {usd(line.exact_usd)} USD for each period.",)
    days, month = section.days, section.days_of_month
    fee = format_exact(Fraction(line.exact_usd) * month / days)
    return (
        f"Plan {line.plan} has a base fee of {usd(fee)} USD for each period, shared out by days: each day belongs to "
        f"the plan in force at its end.",
        f"{days} of {month} days: {usd(fee)} × {days} / {month} = {usd(line.exact_usd)} USD.",
    )


def _usage(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    if not line.metered:
        behind = [f"No charged request of the period used {line.meter}."]
    else:
        behind = [f"{listed([_use(use) for use in line.metered])} {_verb(line.metered)} charged here."]
    if len(line.metered) > 1:
        behind.append(f"The plan's price for {line.meter} includes them all, together {grouped(line.quantity)}.")
    steps = [tier_sentence(tier, len(line.tiers)) for tier in line.tiers]
    if len(steps) > 1:
        steps.append(f"Together that is {usd(added([tier.amount_usd for tier in line.tiers]))} USD.")
    return (*behind, *steps)


def _true_up(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    section = invoice.sections[line.section - 1]
    same = [
        other
        for other in invoice.lines
        if other.section == line.section and other.kind not in ("commit_true_up", "adjustment", *_CREDIT_KINDS)
    ]
    others = added([other.amount_usd for other in same])
    commit = added([others, line.exact_usd])
    if section.days == section.days_of_month:
        due = f"Plan {line.plan} commits to at least {usd(commit)} USD for each period, base fee included."
    else:
        whole = format_exact(Fraction(commit) * section.days_of_month / section.days)
        due = (
            f"Plan {line.plan} commits to at least {usd(whole)} USD for each period, base fee included; for "
            f"{section.days} of {section.days_of_month} days that is {usd(commit)} USD."
        )
    return (
        due,
        f"Its other lines come to {usd(others)} USD: "
        f"{usd(commit)} - {usd(others)} = {usd(line.exact_usd)} USD is missing, and is charged here.",
    )


def _top_up(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    return (f"{grouped(line.quantity)} credits were topped up under plan {line.plan}.", *_steps(line))


def _owed(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    if line.quantity.startswith("-"):
        return (
            f"{grouped(line.quantity[1:])} credits that had been charged beyond the wallet were given back.",
            *_steps(line),
        )
    return (
        f"{grouped(line.quantity)} credits were charged under plan {line.plan} when the wallet had no more.",
        *_steps(line),
    )


def _steps(line: InvoiceLine) -> list[str]:
    return [tier_sentence(tier, len(line.tiers)) for tier in line.tiers]


def _wallet(wallet: Wallet | None) -> tuple[str, ...]:
    if wallet is None:
        return ()
    opening, closing = wallet.opening, wallet.closing
    granted = [
        f"{grouped(one.credits)} of source {one.source} in {counted(one.grants, 'grant')}" for one in wallet.granted
    ]
    owed = f" Beyond the wallet {grouped(wallet.owed)} were charged." if wallet.owed != "0" else ""
    return (
        f"The period began with {grouped(opening.available)} credits available and {grouped(opening.held)} held, and "
        f"ended with {grouped(closing.available)} and {grouped(closing.held)}.",
        f"{listed(granted) if granted else 'Nothing'} came in, {grouped(wallet.refunded)} were "
        f"refunded, {grouped(wallet.charged)} charged, and {grouped(wallet.expired)} expired.{owed}",
    )


def _rounding(line: InvoiceLine) -> str:
    if Fraction(line.residue_usd) == 0:
        return f"The line is exactly {usd(line.amount_usd)} USD; nothing was rounded."
    return (
        f"Exactly {usd(line.exact_usd)} USD, rounded once, half to even, to {usd(line.amount_usd)} USD; "
        f"the residue of {usd(line.residue_usd)} USD is kept on the invoice."
    )


def _total(invoice: Invoice) -> tuple[str, ...]:
    totals = invoice.totals
    back = ("It is below nothing: so much is in the customer's favour.",) if invoice.total_cents < 0 else ()
    return (
        f"The {counted(len(invoice.lines), 'line')} add up to {usd(totals.total_usd)} USD.",
        *back,
        f"Before rounding the lines add up to exactly {usd(totals.exact_total_usd)} USD; "
        f"all residues together are {usd(totals.residue_usd)} USD.",
    )


def _not_charged(invoice: Invoice) -> tuple[str, ...]:
    sentences = [
        f"{_use(use)} {_verb([use])} metered and not charged: plan {use.plan} has no price for {use.meter}."
        for use in invoice.not_charged.meters
    ]
    sentences += [_not_charged_events(group) for group in invoice.not_charged.events]
    if invoice.customer_paid.events:
        sentences.append(customer_paid_sentence(invoice.customer_paid))
    sentences += [sentence for one in invoice.adjustments for sentence in late_not_charged(one)]
    return tuple(sentences or ["Every request of the period, and every meter in it, was charged."])


def late_not_charged(adjustment: Adjustment) -> tuple[str, ...]:
    """What came late for a closed month and costs the customer nothing."""
    label, free = adjustment.period.label, adjustment.not_charged
    sentences = [
        f"Late for {label}: {_use(use)} {_verb([use])} metered and not charged: plan {use.plan} has no price for "
        f"{use.meter}."
        for use in free.meters
    ]
    sentences += [f"Late for {label}: {_not_charged_events(group)}" for group in free.events]
    if adjustment.customer_paid.events:
        sentences.append(f"Late for {label}: {customer_paid_sentence(adjustment.customer_paid)}")
    return tuple(sentences)


def customer_paid_sentence(paid: CustomerPaid) -> str:
    """What the customer's own keys have paid to providers."""
    were = "was" if paid.events == 1 else "were"
    unknown = f", and {counted(paid.unpriced_events, 'request')} without a known price" if paid.unpriced_events else ""
    return (
        f"{counted(paid.events, 'request')} {were} paid to the provider with a key of the customer's own: "
        f"{usd(paid.cost_usd)} USD by the rate cards{unknown}. That is no part of this invoice."
    )


def _not_charged_events(group: NotChargedEvents) -> str:
    what = counted(group.events, "request")
    were = "was" if group.events == 1 else "were"
    if group.reason == "failure":
        why = f"{what} in {group.environment} failed and {were} not charged"
    elif group.reason == "no_plan":
        why = f"{what} in {group.environment} {were} not charged: no plan was in force"
    else:
        why = f"{what} in {group.environment} {were} not charged: the contract does not charge that environment"
    return f"{why} ({listed([f'{grouped(use.quantity)} {use.meter}' for use in group.meters])})."


def _evidence(invoice: Invoice) -> tuple[str, ...]:
    ledger = invoice.ledger
    late = [
        f"Of {one.period.label} it covers what came after entry {one.ledger.billed_through_seq:,} as well, "
        f"{counted(one.ledger.entries, 'entry', 'entries')}; they hash to {one.ledger.entries_sha256}."
        for one in invoice.adjustments
    ]
    versions = [f"{use.rate_version} ({counted(use.events, 'request')})" for use in invoice.rates]
    return (
        f"The invoice covers {counted(ledger.events, 'request')}, all that the ledger of {invoice.org_id} held for the "
        f"period up to its entry {ledger.through_seq:,}; their entries hash to {ledger.entries_sha256}.",
        *late,
        f"The Merkle tree over the first {counted(ledger.tree_size, 'entry', 'entries')} of that ledger has the root "
        f"{ledger.root}.",
        f"Their cost was computed with rate card {listed(versions)}." if versions else "No rate card was needed.",
        *(
            f"The content of contract {name}, version {version}, hashes to {sha256}."
            for name, version, sha256 in dict.fromkeys(
                (one.contract, one.version, one.sha256) for one in invoice.named_sections()
            )
        ),
        f"The digest over facts, versions and lines is {invoice.digest}.",
    )


def _verb(uses: Sequence[MeterUse]) -> str:
    return "was" if [use.quantity for use in uses] == ["1"] else "were"


def _use(use: MeterUse) -> str:
    return f"{grouped(use.quantity)} {use.meter} in {counted(use.events, 'request')}"
