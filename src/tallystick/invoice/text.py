"""The invoice as a page for a person: plain text in columns of one width, at most 80 characters wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from datetime import date
from fractions import Fraction

from tallystick.core.money import format_decimal
from tallystick.invoice.adjusted_lines import step_words
from tallystick.invoice.explain import customer_paid_sentence, late_not_charged, line_title, section_title
from tallystick.invoice.model import AdjustedStep, Credits, Invoice, InvoiceLine, MeterUse, Wallet
from tallystick.invoice.wording import counted, grouped, tier_arithmetic, tier_label, usd

WIDTH = 80
_LABEL = 16
_AMOUNT = 20
_QUANTITY = 20
_TITLE = WIDTH - _AMOUNT - _QUANTITY - 4


def invoice_text(invoice: Invoice) -> str:
    """The whole page. It holds what the customer is charged and the evidence, and nothing of our own cost."""
    return "\n".join(line.rstrip() for line in _page(invoice)) + "\n"


def _page(invoice: Invoice) -> Iterator[str]:
    year, month = map(int, invoice.period.label.split("-"))
    yield _ends("INVOICE", f"{date(year, month, 1):%B %Y}")
    yield "=" * WIDTH
    yield from _facts(invoice)
    yield ""
    yield f"{'':4}{'':{_TITLE}}{'Quantity':>{_QUANTITY}}{'Amount in USD':>{_AMOUNT}}"
    yield "-" * WIDTH
    yield from _lines(invoice)
    yield "-" * WIDTH
    label = "    Total, in your favour" if invoice.total_cents < 0 else "    Total due"
    yield _ends(label, grouped(invoice.totals.total_usd))
    yield _ends("    Exact before rounding", usd(invoice.totals.exact_total_usd))
    yield _ends("    Residue of rounding", usd(invoice.totals.residue_usd))
    yield from _not_charged(invoice)
    if invoice.wallet is not None:
        yield from _wallet(invoice.wallet)
    if invoice.customer_paid.events:
        yield ""
        yield "Paid to providers with keys of your own, for information"
        yield "-" * WIDTH
        yield from _wrapped(customer_paid_sentence(invoice.customer_paid), 4)
    yield from _evidence(invoice)


def _facts(invoice: Invoice) -> Iterator[str]:
    contract, period = invoice.contract, invoice.period
    yield from _field("Invoice", invoice.invoice_id)
    yield from _field("Customer", invoice.org_id)
    yield from _field("Period", f"{period.label}, {period.time_zone}")
    yield from _field("", f"from {period.start} until before {period.end}")
    if len(invoice.sections) == 1:
        yield from _field("Contract", f"{contract.name}, version {contract.version}")
        yield from _field(
            "Plan", contract.plan if invoice.sections[0].in_force else f"none; until it left {contract.plan}"
        )
        return
    for place, section in enumerate(invoice.sections):
        days = f"{section.days} of {section.days_of_month} days"
        terms = f"{section.plan} ({section.contract}, version {section.version}), {days}"
        yield from _field("" if place else "Plans", terms)


def _lines(invoice: Invoice) -> Iterator[str]:
    """The lines, under the plan that they belong to where there are several, and the month that they adjust."""
    heading: tuple[int, int] | None = None
    for line in invoice.lines:
        number = line.adjusts.adjustment if line.adjusts is not None else 0
        if (number, line.section) != heading:
            if number and (heading is None or heading[0] != number):
                adjustment = invoice.adjustments[number - 1]
                yield from _wrapped(f"Adjustment of {adjustment.period.label}, invoice {adjustment.invoice_id}", 0)
            if len(invoice.sections_of(line)) > 1:
                yield from _wrapped(section_title(invoice.section_of(line)), 0)
            heading = number, line.section
        yield from _line(line) if line.adjusts is None else _adjustment(line, line.adjusts)
    if not invoice.lines:
        yield "    Nothing is due for this period."


def _adjustment(line: InvoiceLine, adjusts: AdjustedStep) -> Iterator[str]:
    title, *more = textwrap.wrap(line_title(line), _TITLE - 1) or [""]
    quantity = grouped(line.quantity) if adjusts.kind in ("usage", "top_up", "credits_owed") else ""
    yield f"{line.number:>2}  {title:<{_TITLE}}{quantity:>{_QUANTITY}}{grouped(line.amount_usd):>{_AMOUNT}}"
    yield from (f"    {part}" for part in more)
    if adjusts.kind == "usage":
        yield from _wrapped(f"{grouped(adjusts.now_quantity)} instead of {grouped(adjusts.billed_quantity)}", 6)
    yield from _wrapped(step_words(adjusts), 6)


def _line(line: InvoiceLine) -> Iterator[str]:
    title, *more = textwrap.wrap(line_title(line), _TITLE - 1) or [""]
    quantity = grouped(line.quantity) if line.kind in ("usage", "top_up", "credits_owed") else ""
    yield f"{line.number:>2}  {title:<{_TITLE}}{quantity:>{_QUANTITY}}{grouped(line.amount_usd):>{_AMOUNT}}"
    yield from (f"    {part}" for part in more)
    for tier in line.tiers:
        label = tier_label(tier, len(line.tiers))
        step = f"{label}: {tier_arithmetic(tier)}" if label else tier_arithmetic(tier)
        yield from _wrapped(step, 6)
    if len(line.metered) > 1:
        for use in line.metered:
            yield from _wrapped(f"of which {grouped(use.quantity)} {use.meter}", 6)


def _not_charged(invoice: Invoice) -> Iterator[str]:
    free = invoice.not_charged
    late = [sentence for one in invoice.adjustments for sentence in late_not_charged(one)]
    if not free.meters and not free.events and not late:
        return
    yield ""
    yield "Metered and not charged"
    yield "-" * WIDTH
    if free.meters:
        yield "    No price in the plan"
        for unpriced in free.meters:
            yield from _use(unpriced)
    for group in free.events:
        what = counted(group.events, "request")
        if group.reason == "failure":
            yield from _wrapped(f"Failed in {group.environment}: {what}", 4)
        elif group.reason == "no_plan":
            yield from _wrapped(f"In {group.environment}, while no plan was in force: {what}", 4)
        else:
            yield from _wrapped(f"In {group.environment}, which is not charged: {what}", 4)
        for use in group.meters:
            yield from _use(use)
    for sentence in late:
        yield from _wrapped(sentence, 4)


def _wallet(wallet: Wallet) -> Iterator[str]:
    """The month of the wallet, as a statement that adds up from its first line to its last."""
    yield ""
    yield "Credits"
    yield "-" * WIDTH
    yield _balance("At the beginning", wallet.opening)
    for granted in wallet.granted:
        source = granted.source.replace("_", "-")
        yield _ends(f"    Granted, {source} ({counted(granted.grants, 'grant')})", grouped(granted.credits))
    yield _ends("    Refunded", grouped(wallet.refunded))
    yield _ends("    Charged", _taken(wallet.charged))
    yield _ends("    Expired", _taken(wallet.expired))
    yield _balance("At the end", wallet.closing)
    if wallet.owed != "0":
        yield _ends("    Charged beyond the wallet, on a line of its own", grouped(wallet.owed))


def _balance(label: str, credits: Credits) -> str:
    both = format_decimal(Fraction(credits.available) + Fraction(credits.held))
    held = "" if credits.held == "0" else f" (of it held: {grouped(credits.held)})"
    return _ends(f"    {label}{held}", grouped(both))


def _taken(credits: str) -> str:
    return grouped(credits if credits == "0" else f"-{credits}")


def _use(use: MeterUse) -> Iterator[str]:
    if len(use.meter) > _TITLE - 3:
        yield f"      {use.meter}"
        yield f"{grouped(use.quantity):>{4 + _TITLE + _QUANTITY}}"
    else:
        yield f"      {use.meter:<{_TITLE - 2}}{grouped(use.quantity):>{_QUANTITY}}"


def _evidence(invoice: Invoice) -> Iterator[str]:
    yield ""
    yield "Evidence"
    yield "-" * WIDTH
    yield from _field("Requests", f"{invoice.ledger.events:,}, up to ledger entry {invoice.ledger.through_seq:,}")
    for one in invoice.adjustments:
        late = (
            f"{counted(one.ledger.entries, 'entry', 'entries')}, after ledger entry {one.ledger.billed_through_seq:,}"
        )
        yield from _field(f"Late, {one.period.label}", late)
    for use in invoice.rates:
        yield from _field("Rate card", f"{use.rate_version} ({counted(use.events, 'request')})")
    ledger = invoice.ledger
    contracts = dict.fromkeys((one.contract, one.version, one.sha256) for one in invoice.named_sections())
    hashes = {
        "Entries": ledger.entries_sha256,
        **{f"Late entries of {one.period.label}": one.ledger.entries_sha256 for one in invoice.adjustments},
        f"Root of the ledger's first {ledger.tree_size:,} entries": ledger.root,
        **{f"Contract {name}, version {version}": sha256 for name, version, sha256 in contracts},
        "Digest": invoice.digest,
    }
    for label, value in hashes.items():  # whole, so that they can be searched for
        yield label
        yield f"    {value if ':' in value else 'sha256:' + value}"
    yield ""
    yield "Recompute it from the raw facts:"
    yield f"    tally invoice replay {invoice.invoice_id}"


def _field(label: str, value: str) -> Iterable[str]:
    width = WIDTH - _LABEL
    parts = textwrap.wrap(value, width, break_on_hyphens=False) or [""]
    return [f"{label if index == 0 else '':<{_LABEL}}{part}" for index, part in enumerate(parts)]


def _wrapped(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def _ends(left: str, right: str) -> str:
    return f"{left}{right:>{max(WIDTH - len(left), len(right) + 1)}}"
