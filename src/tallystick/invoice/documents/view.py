"""A document's whole text, as plain values in the order in which they are read: templates only say where they stand.

HTML and PDF are made of the same view, so that they never say two things.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.money import cents_to_usd, format_decimal
from tallystick.core.periods import load_zone
from tallystick.invoice.documents.applied import applied_rows, due_cents
from tallystick.invoice.documents.issue import Issue, Party, template_of
from tallystick.invoice.documents.locales import Writer, plain
from tallystick.invoice.documents.names import line_name, meter_title
from tallystick.invoice.documents.steps import line_notes, line_rows
from tallystick.invoice.model import Invoice, InvoiceLine, NotChargedEvents, Wallet
from tallystick.invoice.wording import counted

View = dict[str, Any]
_UNSHOWN = re.compile("[^\u0000-\u06ff\u0900-\u097f\u10a0-\u10ff\u1e00-\u1fff\u2000-\u214f\u2190-\u22ff\ufb00-\ufb4f]")
"""What the PDF's fonts are not known to have. They have Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic, Devanagari
and Georgian."""


def document_view(invoice: Invoice, issue: Issue) -> View:
    """The document of an invoice, every number and date as its reader writes them.

    Returns:
        Plain JSON values: texts, lists and objects; docs/documents.md names the members.

    Raises:
        BadInput: `invalid_invoice_document`, for a format that no template knows.
    """
    writer = Writer(issue.language)
    is_draft = issue.number is None
    view: View = {
        "template": template_of(invoice.format, issue.issued_at),
        "locale": writer.tag,
        "title": "Invoice",
        "stamp": "DRAFT" if is_draft else "TEST" if issue.is_test else "",
        "number": issue.number or "",
        "facts": _facts(invoice, issue, writer),
        "seller": _party(issue.seller),
        "bill_to": _party(issue.bill_to),
        "summary": _summary(invoice, issue, writer),
        "groups": _groups(invoice, writer),
        "totals": _totals(invoice, issue, writer),
        "total": {
            "label": "Total, in your favour" if invoice.total_cents < 0 else _due_label(issue),
            "amount": writer.usd(cents_to_usd(due_cents(invoice, issue))),
        },
        "pay": _pay(invoice, issue, writer),
        "wallet": [] if invoice.wallet is None else _wallet(invoice.wallet, writer),
        "not_charged": _not_charged(invoice, writer),
        "customer_paid": _customer_paid(invoice, writer),
        "evidence": _evidence(invoice, issue, writer),
    }
    cleaned: View = _clean(view)
    cleaned["unshown"] = any(map(_UNSHOWN.search, _texts(cleaned)))
    return cleaned


def _facts(invoice: Invoice, issue: Issue, writer: Writer) -> list[list[str]]:
    zone, period = invoice.period.time_zone, invoice.period
    facts = [["Invoice number", issue.number or "none yet: this is a draft"]]
    if issue.issued_at is not None:
        facts.append(["Invoice date", writer.day(issue.issued_at.astimezone(load_zone(zone)).date())])
    if issue.due_at is not None and due_cents(invoice, issue) > 0:
        facts.append(["Due date", writer.day(issue.due_at.astimezone(load_zone(zone)).date())])
    facts.append(["Billing month", writer.month(period.label)])
    facts += [["Plan", ", ".join(dict.fromkeys(one.plan for one in invoice.sections))]]
    if issue.purchase_order:
        facts.append(["Purchase order", issue.purchase_order])
    return facts


def _summary(invoice: Invoice, issue: Issue, writer: Writer) -> dict[str, str]:
    note = ""
    if invoice.total_cents < 0:
        label, note = "In your favour", "nothing is to be paid for this invoice"
    elif due_cents(invoice, issue) == 0:
        label, note = _due_label(issue), "nothing is to be paid for this invoice"
    else:
        label = _due_label(issue)
        if issue.due_at is not None:
            note = f"by {writer.day(issue.due_at.astimezone(load_zone(invoice.period.time_zone)).date())}"
    return {"label": label, "amount": writer.usd(cents_to_usd(abs(due_cents(invoice, issue)))), "note": note}


def _due_label(issue: Issue) -> str:
    return "Amount due" if issue.applied else "Total due"


def _groups(invoice: Invoice, writer: Writer) -> list[View]:
    """The lines, together by plan where there are several, and by the month that they adjust."""
    groups: list[View] = []
    heading: tuple[int, int] | None = None
    for line in invoice.lines:
        adjusts = 0 if line.adjusts is None else line.adjusts.adjustment
        if (adjusts, line.section) != heading:
            heading = adjusts, line.section
            groups.append({"title": _group_title(invoice, line, writer), "note": "", "lines": []})
            if adjusts:
                groups[-1]["note"] = (
                    f"The month was priced again with what arrived after it was billed, on invoice "
                    f"{invoice.adjustments[adjusts - 1].invoice_id}; this is the difference."
                )
        groups[-1]["lines"].append(_line(invoice, line, writer))
    return groups


def _group_title(invoice: Invoice, line: InvoiceLine, writer: Writer) -> str:
    parts = []
    if line.adjusts is not None:
        parts.append(f"Adjustment of {writer.month(invoice.month_of(line))}")
    sections = invoice.sections_of(line)
    if len(sections) > 1:
        section = invoice.section_of(line)
        parts.append(f"Plan {section.plan}, {section.days} of {section.days_of_month} days")
    if not parts and invoice.adjustments:
        parts.append(writer.month(invoice.period.label))
    return ": ".join(parts)


def _line(invoice: Invoice, line: InvoiceLine, writer: Writer) -> View:
    kind = line.kind if line.adjusts is None else line.adjusts.kind
    has_quantity = kind in ("usage", "top_up", "credits_owed") and line.adjusts is None
    rows = line_rows(invoice, line, writer)
    only = rows[0] if len(rows) == 1 and not rows[0]["label"] else None
    return {
        "number": str(line.number),
        "title": line_name(line),
        "quantity": (only["quantity"] if only else writer.number(line.quantity)) if has_quantity else "",
        "price": only["price"] if only else "",
        "amount": writer.amount(line.amount_usd),
        "rows": [] if only else rows,
        "notes": line_notes(invoice, line, writer),
    }


def _totals(invoice: Invoice, issue: Issue, writer: Writer) -> list[View]:
    """Subtotals where the invoice has parts; where credits are used, the total, and each of them."""
    found: list[View] = []
    if invoice.adjustments:
        own = sum((Fraction(line.amount_usd) for line in invoice.lines if line.adjusts is None), Fraction(0))
        found.append({"label": writer.month(invoice.period.label), "amount": writer.amount(format_decimal(own))})
        found += [
            {
                "label": f"Adjustment of {writer.month(one.period.label)}",
                "amount": writer.amount(one.totals.total_usd),
            }
            for one in invoice.adjustments
        ]
    if issue.applied:
        found.append({"label": "Total", "amount": writer.amount(invoice.totals.total_usd)})
        found += applied_rows(issue, writer)
    return found


def _pay(invoice: Invoice, issue: Issue, writer: Writer) -> View:
    """How to pay: the seller's words, and what to name."""
    if issue.is_test:
        return {"lines": ["This is the invoice of a test account: no money is due."], "reference": ""}
    if due_cents(invoice, issue) <= 0:
        return {"lines": [], "reference": ""}
    if issue.number is None:
        return {
            "lines": ["This is a draft: please do not pay it. The invoice follows with its number."],
            "reference": "",
        }
    return {"lines": list(issue.how_to_pay), "reference": issue.number}


def _wallet(wallet: Wallet, writer: Writer) -> list[list[str]]:
    """The statement of the month's credits: adds up from its first row to its last."""

    def both(available: str, held: str) -> str:
        return writer.number(format_decimal(Fraction(available) + Fraction(held)))

    rows = [["Credits at the beginning", both(wallet.opening.available, wallet.opening.held)]]
    for one in wallet.granted:
        source = one.source.replace("_", "-")
        rows.append([f"Granted, {source} ({counted(one.grants, 'grant')})", writer.number(one.credits)])
    rows += [[label, writer.number(value)] for label, value in (("Refunded", wallet.refunded),) if value != "0"]
    rows += [
        [label, writer.number(value if value == "0" else f"-{value}")]
        for label, value in (("Spent on work", wallet.charged), ("Expired", wallet.expired))
        if value != "0"
    ]
    held = wallet.closing.held
    of_it = f", of them {writer.number(held)} reserved" if held != "0" else ""
    rows.append([f"Credits at the end{of_it}", both(wallet.closing.available, held)])
    return rows


def _not_charged(invoice: Invoice, writer: Writer) -> list[str]:
    free, said = invoice.not_charged, []
    said += [
        f"{meter_title(one.meter)}: {writer.number(one.quantity)}, included in plan {one.plan}" for one in free.meters
    ]
    said += [_not_charged_requests(group, writer) for group in free.events]
    for one in invoice.adjustments:
        month = writer.month(one.period.label)
        said += [
            f"{month}, late: {meter_title(use.meter).lower()} {writer.number(use.quantity)}"
            for use in one.not_charged.meters
        ]
        said += [f"{month}, late: {_not_charged_requests(group, writer)}" for group in one.not_charged.events]
    return said


def _not_charged_requests(group: NotChargedEvents, writer: Writer) -> str:
    many = "1 request" if group.events == 1 else f"{writer.number(group.events)} requests"
    if group.reason == "failure":
        return f"{many} that failed in {group.environment}"
    if group.reason == "no_plan":
        return f"{many} in {group.environment}, while no plan was in force"
    return f"{many} in {group.environment}, which is not charged"


def _customer_paid(invoice: Invoice, writer: Writer) -> str:
    paid = invoice.customer_paid
    if not paid.events:
        return ""
    return (
        f"Paid to providers with keys of your own, and no part of this invoice: {writer.amount(paid.cost_usd)} USD "
        f"by list prices, for {writer.number(paid.events)} requests."
    )


def _evidence(invoice: Invoice, issue: Issue, writer: Writer) -> list[list[str]]:
    ledger, period, totals = invoice.ledger, invoice.period, invoice.totals
    zone = period.time_zone
    start, end = parse_instant(period.start), parse_instant(period.end)
    rows = [
        ["Period", f"{writer.instant(start, zone)} until before {writer.instant(end, zone)}, {zone}"],
        ["Requests", f"{writer.number(ledger.events)}, in ledger entries {ledger.first_seq} to {ledger.through_seq}"],
    ]
    rows += [
        [
            "Late for " + writer.month(one.period.label),
            f"{counted(one.ledger.entries, 'entry', 'entries')} after ledger entry {one.ledger.billed_through_seq}",
        ]
        for one in invoice.adjustments
    ]
    if issue.entry_seq is not None and issue.issued_at is not None:
        rows.append(["Issued", f"ledger entry {issue.entry_seq}, {format_instant(issue.issued_at)}"])
    if totals.residue_usd != "0":
        exact, residue = writer.amount(totals.exact_total_usd), writer.amount(totals.residue_usd)
        rows.append(["Before rounding", f"{exact} USD; rounding took {residue} USD"])
    contracts = dict.fromkeys((one.contract, one.version, one.sha256) for one in invoice.named_sections())
    rows += [[f"Contract {name} {version}", f"sha256:{sha256}"] for name, version, sha256 in contracts]
    rows += [
        ["Entries", f"sha256:{ledger.entries_sha256}"],
        [f"Root of {ledger.tree_size} entries", f"sha256:{ledger.root}"],
        ["Invoice id", invoice.invoice_id],
        ["Digest", invoice.digest],
    ]
    return rows


def _party(party: Party | None) -> View:
    return {"name": "", "lines": []} if party is None else {"name": party.name, "lines": list(party.lines)}


def _clean(value: Any) -> Any:
    """Every text as one line without steering characters."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return {name: _clean(one) for name, one in value.items()}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
