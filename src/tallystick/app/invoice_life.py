"""The life of invoices: what is a draft, final, open, paid, overdue or void; issuing them under a number.

    draft      the month is over, and late usage may still come in: always computed, stored nowhere
    final      stored by `close_month`, and never changed; it has no number yet
    open …     issued: an entry of the ledger gives it its number, and it is due

Issuing is an entry of its own, after the document is stored. Dying between the two leaves a final invoice, which the
next run issues; a number is given only in the transaction that stores the entry, so that none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, Literal

from tallystick.app.close_month import MonthResult, close_each, preview_invoice
from tallystick.app.ended_months import ended_months
from tallystick.app.invoices import find_invoice, unknown_invoice
from tallystick.app.issue_invoices import Issue, contract_of, issue_stored
from tallystick.app.money_credit_words import applied_members
from tallystick.app.parties import BillingProfile, find_profile
from tallystick.app.runtime import Runtime
from tallystick.billing.model import INVOICE_STATES, InvoiceAccount, InvoiceEvent, InvoiceState
from tallystick.billing.party import seller_members
from tallystick.core.errors import BadInput, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.core.periods import month_period
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.journal.billing import (
    bill_to_of,
    invoice_events,
    invoice_rows_of,
    list_issued,
)
from tallystick.journal.invoices import InvoiceRow, StoredInvoice, list_invoice_rows
from tallystick.ledger.operation_ids import operation_id

Progress = Callable[[int], object]
_DRAFT = "draft:"
FINALIZED_AT_ONCE = 100
"""How many orgs are closed, and then issued together."""
FinalStatus = Literal["issued", "already_issued", "failed"]


@dataclass(frozen=True, slots=True)
class FinalResult:
    """What became of one org's month: how the invoice stands, or the error that kept it from being issued."""

    org_id: str
    period: str
    status: FinalStatus
    life: InvoiceLife | None = None
    error: TallyError | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        members: dict[str, Any] = {"org_id": self.org_id, "month": self.period, "status": self.status}
        if self.life is not None:
            members |= self.life.as_dict()
        if self.error is not None:
            members["error"] = self.error.as_dict()
        return members


@dataclass(frozen=True, slots=True)
class InvoiceLife:
    """How an invoice stands at an instant.

    Attributes:
        invoice_id: of a draft the one that it will have.
        account: None while it is not issued.
        closed_at: None of a draft.
    """

    org_id: str
    invoice_id: str
    period: str
    state: InvoiceState
    total_cents: int
    digest: str
    closed_at: datetime | None = None
    account: InvoiceAccount | None = None

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; amounts are decimal strings of USD."""
        account = self.account
        members: dict[str, Any] = {
            "org_id": self.org_id,
            "invoice_id": self.invoice_id,
            "month": self.period,
            "state": self.state,
            "number": None if account is None else account.number,
            "total_usd": cents_to_usd(self.total_cents),
            "applied_usd": cents_to_usd(0 if account is None else account.applied_cents),
            "carried_usd": cents_to_usd(0 if account is None else account.carried_cents),
            "paid_usd": cents_to_usd(0 if account is None else account.paid_cents),
            "credited_usd": cents_to_usd(0 if account is None else account.credited_cents),
            "due_usd": None if account is None else cents_to_usd(account.due_cents),
            "closed_at": None if self.closed_at is None else format_instant(self.closed_at),
            "issued_at": None if account is None else format_instant(account.issued_at),
            "due_at": None if account is None else format_instant(account.due_at),
            "test": account is not None and account.is_test,
            "digest": self.digest,
        }
        return members


@dataclass(frozen=True, slots=True)
class ShownLife:
    """An invoice with all that has happened to it, who sells, and who is billed."""

    life: InvoiceLife
    events: tuple[InvoiceEvent, ...]
    seller: dict[str, Any] | None
    bill_to: BillingProfile | None

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        history = [
            {
                "seq": one.seq,
                "kind": one.kind,
                "at": format_instant(one.at),
                "amount_usd": cents_to_usd(one.amount_cents),
                "number": one.number,
            }
            for one in self.events
        ]
        bill_to = None if self.bill_to is None else self.bill_to.as_dict()
        account = self.life.account
        applied = [] if account is None else applied_members(account.applied)
        carried = {} if account is None else account.carried
        moved = [
            {"entry_id": operation_id("invoice", seq), "amount_usd": cents_to_usd(cents)}
            for seq, cents in carried.items()
        ]
        return {
            **self.life.as_dict(),
            "applied": applied,
            "carried": moved,
            "history": history,
            "seller": self.seller,
            "bill_to": bill_to,
        }


def issue_invoice(runtime: Runtime, reference: str) -> InvoiceLife:
    """Give a stored invoice its number, and have it be due; one that is issued stays as it is.

    Args:
        reference: its id, or ORG/MONTH.

    Raises:
        NotFound: `unknown_invoice`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    (issue,) = issue_stored(runtime, [find_invoice(runtime, reference).row])
    if issue.error is not None:
        raise issue.error
    return _life(runtime, issue.row, issue.account)


def finalize_month(
    runtime: Runtime,
    label: str,
    orgs: Sequence[str] | None = None,
    *,
    before_late_window: bool = False,
    progress: Progress | None = None,
) -> list[FinalResult]:
    """Close the month of these orgs, or of all that are to be billed, and issue their invoices. Each stands for itself.

    Doing it again changes nothing, and finishes what was interrupted.

    Args:
        before_late_window: also while late usage may still come in, by the contract.
        progress: called with how many orgs are done, some at a time.

    Raises:
        BadInput: `invalid_month`, or `invalid_text` for what cannot be an org's id.
        Unavailable: `database_unreachable`; doing it again is safe.
    """
    results: list[FinalResult] = []
    with closing(close_each(runtime, label, orgs, before_late_window=before_late_window)) as closed:
        while batch := list(islice(closed, FINALIZED_AT_ONCE)):
            results += _finalized(runtime, label, batch)
            if progress is not None:
                progress(len(batch))
    return results


def _finalized(runtime: Runtime, label: str, closed: Sequence[MonthResult]) -> list[FinalResult]:
    stored = {one.org_id: one.invoice.invoice_id for one in closed if one.invoice is not None}
    with runtime.database.operator() as connection:
        rows = invoice_rows_of(connection, stored.items())
    issues = {one.row.org_id: one for one in issue_stored(runtime, [rows[each] for each in stored.values()])}
    return [
        final_result(runtime, issues[one.org_id])
        if one.org_id in issues
        else FinalResult(one.org_id, label, "failed", error=one.error)
        for one in closed
    ]


def final_result(runtime: Runtime, issue: Issue) -> FinalResult:
    """What became of an invoice that was to be issued, as the result of its month."""
    row = issue.row
    if issue.error is not None:
        return FinalResult(row.org_id, row.period, "failed", error=issue.error)
    status: FinalStatus = "issued" if issue.is_new else "already_issued"
    return FinalResult(row.org_id, row.period, status, _life(runtime, row, issue.account))


def show_life(runtime: Runtime, reference: str, *, org_id: str | None = None) -> ShownLife:
    """How a stored invoice stands, and all that has happened to it.

    Args:
        reference: its id, number or ORG/MONTH.
        org_id: of whom it must be; None for any.

    Raises:
        NotFound: `unknown_invoice`.
        Unavailable: `database_unreachable`.
    """
    row = find_invoice(runtime, reference).row
    if org_id not in (None, row.org_id):
        raise unknown_invoice(reference)
    with runtime.database.org(row.org_id) as connection:
        issued = list_issued(connection, row.org_id, invoice_id=row.invoice_id)
        events = invoice_events(connection, row.org_id, row.invoice_id)
        version = bill_to_of(connection, row.org_id, row.invoice_id)
    seller = contract_of(runtime, row.contract, row.contract_sha256).seller
    return ShownLife(
        life=_life(runtime, row, issued[0].account if issued else None),
        events=tuple(events),
        seller=None if seller is None else seller_members(seller),
        bill_to=None if version is None else find_profile(runtime, row.org_id, version),
    )


def list_life(
    runtime: Runtime,
    *,
    org_id: str | None = None,
    month: str | None = None,
    state: str | None = None,
    after: str | None = None,
) -> Iterator[InvoiceLife]:
    """Invoices with their states, newest month first; drafts before them where they are asked for.

    Args:
        org_id, month, state: only those; None for any. Drafts are listed where `state` is `draft`, and for one org.
            Each is computed as it is asked for, and not before.
        after: what comes after this one, named by `life_cursor`; nothing is computed of what is before.

    Raises:
        BadInput: `invalid_month`, `unknown_state`, `invalid_cursor`.
        Unavailable: `database_unreachable`.
    """
    if state is not None and state not in INVOICE_STATES:
        raise BadInput(
            "unknown_state",
            f"no invoice is {state!r:.40}",
            next_step="name one of " + ", ".join(INVOICE_STATES),
            where="state",
        )
    if month is not None:
        month_period(month)
    after_draft = None if after is None or not after.startswith(_DRAFT) else after.removeprefix(_DRAFT)
    if (state == "draft" or (state is None and org_id is not None)) and (after is None or after_draft is not None):
        yield from _drafts(runtime, org_id, month, after_draft)
    if state == "draft":
        return
    with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
        rows = list_invoice_rows(connection, org_id, month)
        issued = {one.account.invoice_id: one.account for one in list_issued(connection, org_id, period=month)}
    for row in rows if after is None or after_draft is not None else _rows_after(rows, after):
        life = _life(runtime, row, issued.get(row.invoice_id))
        if state in (None, life.state):
            yield life


def life_cursor(life: InvoiceLife) -> str:
    """What names an invoice's place in a list; it holds when its state has changed since, or a draft is closed."""
    return f"{_DRAFT}{life.org_id}/{life.period}" if life.state == "draft" else life.invoice_id


def _rows_after(rows: Sequence[InvoiceRow], after: str) -> Sequence[InvoiceRow]:
    for place, row in enumerate(rows, 1):
        if row.invoice_id == after:
            return rows[place:]
    raise BadInput(
        "invalid_cursor",
        f"{after[:60]!r} is no cursor of this list",
        next_step="use the next_cursor of the page before, or none for the first page",
        where="cursor",
    )


def _drafts(runtime: Runtime, org_id: str | None, month: str | None, after: str | None) -> Iterator[InvoiceLife]:
    last = ("", "") if after is None else (after.rpartition("/")[0], after.rpartition("/")[2])
    for draft_org, period, _ in ended_months(runtime, org_id):
        if month in (None, period.label) and (draft_org, period.label) > last:
            try:
                invoice: Invoice = preview_invoice(runtime, draft_org, period.label)
            except Unavailable:
                raise
            except TallyError:
                continue  # a month that cannot be billed has no draft: closing it says why
            yield InvoiceLife(
                org_id=draft_org,
                invoice_id=invoice.invoice_id,
                period=period.label,
                state="draft",
                total_cents=invoice.total_cents,
                digest=invoice.digest,
            )


def stored_line_cents(stored: StoredInvoice) -> dict[int, int]:
    """The amounts of an invoice's lines by number, in cents."""
    lines = parse_invoice(stored.document).lines
    return {line.number: int(line.amount_usd.replace(".", "")) for line in lines}


def _life(runtime: Runtime, row: InvoiceRow, account: InvoiceAccount | None) -> InvoiceLife:
    return InvoiceLife(
        org_id=row.org_id,
        invoice_id=row.invoice_id,
        period=row.period,
        state="final" if account is None else account.state(runtime.now(row.org_id)),
        total_cents=row.total_cents,
        digest=row.digest,
        closed_at=row.closed_at,
        account=account,
    )
