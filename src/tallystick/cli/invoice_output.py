"""How `tally invoice` prints: the JSON of its answers, and its tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from tallystick.cli.output import print_text
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.invoice.wording import grouped

if TYPE_CHECKING:
    from tallystick.app.close_month import MonthResult
    from tallystick.app.invoices import InvoiceRow, LateRequest
    from tallystick.invoice.explain import Explanation, LineExplanation
    from tallystick.invoice.facts import StoredFact
    from tallystick.invoice.model import Invoice, InvoiceLine


def row_json(row: InvoiceRow) -> dict[str, Any]:
    """A closed month as plain JSON, without its lines."""
    return {
        "invoice_id": row.invoice_id,
        "org_id": row.org_id,
        "month": row.period,
        "period_start": format_instant(row.period_start),
        "period_end": format_instant(row.period_end),
        "contract": row.contract,
        "contract_version": row.contract_version,
        "contract_sha256": row.contract_sha256,
        "plan": row.plan,
        "through_seq": row.through_seq,
        "total_usd": cents_to_usd(row.total_cents),
        "digest": row.digest,
        "closed_at": format_instant(row.closed_at),
    }


def late_json(late: Iterable[LateRequest]) -> list[dict[str, Any]]:
    """Requests that came too late, as plain JSON."""
    return [
        {
            "seq": one.seq,
            "request_id": one.request_id,
            "time": format_instant(one.time),
            "recorded_at": format_instant(one.recorded_at),
            "billed_on": one.billed_on,
        }
        for one in late
    ]


def result_json(result: MonthResult) -> dict[str, Any]:
    """One org's closing as plain JSON."""
    found: dict[str, Any] = {"org_id": result.org_id, "status": result.status}
    if result.error is not None:
        found["error"] = result.error.as_dict()
    if result.invoice is not None:
        invoice = result.invoice
        found |= {
            "invoice_id": invoice.invoice_id,
            "plan": invoice.contract.plan,
            "events": invoice.ledger.events,
            "total_usd": invoice.totals.total_usd,
            "digest": invoice.digest,
        }
    return found


def result_cells(result: MonthResult) -> list[str]:
    """One org's closing as a row of the table."""
    status = result.status.replace("_", " ")
    if result.invoice is None:
        return [result.org_id, "", "", "", "", status]
    invoice = result.invoice
    events, amount = f"{invoice.ledger.events:,}", grouped(invoice.totals.total_usd)
    return [result.org_id, invoice.invoice_id, invoice.contract.plan, events, amount, status]


def row_cells(row: InvoiceRow) -> list[str]:
    """A closed month as a row of the table."""
    amount = grouped(cents_to_usd(row.total_cents))
    return [row.period, row.org_id, row.invoice_id, row.plan, amount, format_instant(row.closed_at)]


def request_json(fact: StoredFact, line: InvoiceLine) -> dict[str, Any]:
    """A request behind a line as plain JSON."""
    entry, used = fact.entry, fact.meters
    quantities = {use.meter: used[use.meter] for use in line.metered if used.get(use.meter)}
    return {
        "seq": entry.seq,
        "request_id": entry.request_id,
        "time": format_instant(entry.time),
        "user_id": entry.user_id,
        "session_id": entry.session_id,
        "feature": entry.feature,
        "environment": entry.environment,
        "provider": entry.provider,
        "model": entry.model,
        "quantities": quantities,
    }


def explanation_json(
    invoice: Invoice, explanation: Explanation, numbers: list[int], behind: dict[int, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The explanation as plain JSON, of some lines or of all."""
    lines = []
    for one in explanation.lines:
        if one.number in numbers:
            found: dict[str, Any] = {"number": one.number, "title": one.title, "sentences": one.sentences}
            found["amount_usd"] = invoice.line(one.number).amount_usd
            found["month"] = invoice.month_of(invoice.line(one.number))
            lines.append(found | ({"requests": behind[one.number]} if one.number in behind else {}))
    return {
        "invoice_id": invoice.invoice_id,
        "digest": invoice.digest,
        "terms": explanation.terms,
        "lines": lines,
        "total": explanation.total,
        "not_charged": explanation.not_charged,
        "wallet": explanation.wallet,
        "evidence": explanation.evidence,
    }


def heading(invoice: Invoice, one: LineExplanation) -> str:
    """A line's heading."""
    line = invoice.line(one.number)
    adjusts = "" if line.adjusts is None else f", adjustment of {invoice.month_of(line)}"
    return f"Line {one.number}: {one.title}{adjusts}, {line.amount_usd} USD"


def print_section(title: str, sentences: tuple[str, ...]) -> None:
    """A heading and its sentences."""
    print_text("\n".join([title, *(f"  {sentence}" for sentence in sentences), ""]))


def print_requests(invoice: Invoice, line: InvoiceLine, found: list[dict[str, Any]], limit: int) -> None:
    """The requests behind a line, and how to see the others where there are more than `limit`."""
    if not line.metered:
        print_text("  No single request is behind this line.\n")
        return
    meters = [use.meter for use in line.metered]
    rows = (
        [
            *(str(one[name]) for name in ("seq", "request_id", "time", "user_id", "feature", "model")),
            *(str(one["quantities"].get(meter, "")) for meter in meters),
        ]
        for one in found
    )
    print_table(("entry", "request", "time", "user", "feature", "model", *meters), rows)
    if len(found) == limit < sum(use.events for use in line.metered):
        print_text(
            f"  The first {limit:,}; --limit lists more, `tally invoice export {invoice.invoice_id}` all of them."
        )
    print_text("")


def print_table(header: Sequence[str], rows: Iterable[list[str]]) -> None:
    """Columns as wide as what is in them; numbers to the right."""
    table = [list(header), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = (
            cell.rjust(width) if cell.replace(",", "").replace(".", "").isdigit() else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        )
        print_text("  ".join(cells).rstrip())
