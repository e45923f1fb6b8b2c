"""Disputes as they stand: one with all that has happened to it, or a list of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tallystick.app.answer_parts import pico_to_credits
from tallystick.app.entries import entries_at
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.money import cents_to_usd
from tallystick.dispute.machine import unknown_dispute
from tallystick.dispute.model import UNDECIDED, DisputeAccount, DisputeEvent
from tallystick.journal.billing import invoice_events, list_issued
from tallystick.journal.disputes import (
    After,
    dispute_events,
    find_dispute_row,
    list_dispute_rows,
    orgs_of_dispute,
)
from tallystick.ledger.dispute_operations import DISPUTE, DISPUTE_STATES
from tallystick.ledger.operation_ids import operation_id, parse_operation_id

LISTED_MAX = 1000


@dataclass(frozen=True, slots=True)
class ListedDispute:
    """A dispute, and whose it is; `is_overdue`: it should have been answered by now."""

    org_id: str
    account: DisputeAccount
    is_overdue: bool

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; amounts are decimal strings."""
        one = self.account
        return {
            "dispute_id": operation_id(DISPUTE, one.seq),
            "org_id": self.org_id,
            "request_id": one.request_id,
            "state": one.state,
            "overdue": self.is_overdue,
            "what": one.what,
            "invoice_id": one.invoice_id,
            "line": one.line,
            "requests": len(one.entries),
            "disputed_usd": cents_to_usd(one.disputed_cents),
            "disputed_credits": pico_to_credits(one.credits_pico),
            "author": one.author,
            "reason": one.reason,
            "opened_at": format_instant(one.opened_at),
            "answer_due_at": format_instant(one.answer_due_at),
            "evidence_sha256": one.evidence_sha256,
            "differences": None if one.evidence_seq is None else one.differences,
            "proposed_usd": None if one.evidence_seq is None else cents_to_usd(one.proposed_cents),
            "decided_at": None if one.decided_at is None else format_instant(one.decided_at),
            "explanation": one.explanation,
            "upheld_usd": cents_to_usd(one.upheld_cents),
            "upheld_credits": pico_to_credits(sum(each.amount_pico for each in one.upheld)),
        }

    def cursor(self) -> str:
        """What names its place in a list."""
        return f"{format_instant(self.account.opened_at)}/{operation_id(DISPUTE, self.account.seq)}/{self.org_id}"


@dataclass(frozen=True, slots=True)
class ShownDispute:
    """A dispute with all that has happened to it.

    Attributes:
        events: its steps, in order.
        invoice_number: of the invoice that it is about; None where there is none.
        note_number: of the credit note that it gave; None where it gave none.
        request_ids: of the disputed requests, in the order of the ledger.
    """

    listed: ListedDispute
    events: tuple[DisputeEvent, ...]
    invoice_number: str | None
    note_number: str | None
    request_ids: tuple[str, ...]

    @property
    def account(self) -> DisputeAccount:
        """The dispute itself."""
        return self.listed.account

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            **self.listed.as_dict(),
            "invoice_number": self.invoice_number,
            "request_ids": list(self.request_ids),
            "credit_note_number": self.note_number,
            "settlements": [
                {
                    "settlement_id": operation_id("settlement", one.settlement_seq),
                    "disputed_credits": pico_to_credits(one.amount_pico),
                }
                for one in self.account.charges
            ],
            "history": [
                {
                    "seq": one.seq,
                    "step": one.step,
                    "at": format_instant(one.at),
                    "author": one.author,
                    "reason": one.reason,
                }
                for one in self.events
            ],
        }


def dispute_account(runtime: Runtime, org_id: str, seq: int) -> DisputeAccount:
    """The dispute that an entry of the org has opened.

    Raises:
        NotFound: `unknown_dispute`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.org(org_id) as connection:
        found = find_dispute_row(connection, org_id, seq)
    if found is None:
        raise unknown_dispute(operation_id(DISPUTE, seq))
    return found


def show_dispute(runtime: Runtime, org_id: str, dispute_id: str) -> ShownDispute:
    """A dispute with all that has happened to it.

    Args:
        dispute_id: such as `q17`.

    Raises:
        BadInput: `invalid_id`.
        NotFound: `unknown_dispute`.
        Unavailable: `database_unreachable`.
    """
    account = dispute_account(runtime, org_id, parse_operation_id("dispute", dispute_id, where="dispute_id"))
    number, note = None, None
    with runtime.database.org(org_id) as connection:
        events = dispute_events(connection, org_id, account.seq)
        if account.invoice_id is not None:
            issued = list_issued(connection, org_id, invoice_id=account.invoice_id)
            number = issued[0].account.number if issued else None
            upheld = {one.seq + 1 for one in events if one.step == "upheld"}  # the note follows the decision
            notes = invoice_events(connection, org_id, account.invoice_id)
            note = next((one.number for one in notes if one.seq in upheld and one.kind == "credit_note"), None)
    entries = entries_at(runtime, org_id, account.entries) if account.entries else {}
    return ShownDispute(
        listed=_listed(runtime, org_id, account),
        events=tuple(events),
        invoice_number=number,
        note_number=note if account.upheld_cents else None,
        request_ids=tuple(entries[seq].request_id for seq in account.entries),
    )


def list_disputes(
    runtime: Runtime,
    *,
    org_id: str | None = None,
    state: str | None = None,
    overdue: bool = False,
    invoice_id: str | None = None,
    after: str | None = None,
    limit: int | None = None,
) -> list[ListedDispute]:
    """Disputes, those first that were opened last.

    Args:
        org_id, state, invoice_id: only those; None for any.
        overdue: only those that should have been answered by now.
        after: what comes after this one, named by `ListedDispute.cursor`.
        limit: how many at most; None for all.

    Raises:
        BadInput: `unknown_state`, `invalid_cursor`.
        Unavailable: `database_unreachable`.
    """
    if state is not None and state not in DISPUTE_STATES:
        raise BadInput(
            "unknown_state",
            f"no dispute is {state!r:.40}",
            next_step="name one of " + ", ".join(DISPUTE_STATES),
            where="state",
        )
    states: Sequence[str] | None = None if state is None else [state]
    if overdue:
        states = [one for one in UNDECIDED if state in (None, one)]
    place = None if after is None else _after(after)
    found: list[ListedDispute] = []
    while True:
        with runtime.database.operator() if org_id is None else runtime.database.org(org_id) as connection:
            rows = list_dispute_rows(
                connection, org_id, states=states, invoice_id=invoice_id, after=place, limit=LISTED_MAX
            )
        listed = [_listed(runtime, row.org_id, row.account) for row in rows]
        found += [one for one in listed if one.is_overdue or not overdue]
        if len(rows) < LISTED_MAX or (limit is not None and len(found) >= limit):
            return found[:limit]
        place = After(rows[-1].account.opened_at, rows[-1].org_id, rows[-1].account.seq)


def org_of_dispute(runtime: Runtime, dispute_id: str, org_id: str | None) -> str:
    """Whose dispute it is: of an org that is named, or the only one that has a dispute of that id.

    Raises:
        BadInput: `invalid_id`; `org_needed`, where several orgs have one.
        NotFound: `unknown_dispute`.
        Unavailable: `database_unreachable`.
    """
    seq = parse_operation_id("dispute", dispute_id, where="dispute_id")
    if org_id is not None:
        return org_id
    with runtime.database.operator() as connection:
        found = orgs_of_dispute(connection, seq)
    if not found:
        raise unknown_dispute(dispute_id)
    if len(found) > 1:
        raise BadInput(
            "org_needed",
            f"several orgs have a dispute {dispute_id}: each numbers its own",
            next_step=f"name the org: --org {found[0]}",
            where="org_id",
        )
    return found[0]


def _listed(runtime: Runtime, org_id: str, account: DisputeAccount) -> ListedDispute:
    return ListedDispute(org_id, account, account.is_undecided and account.is_overdue(runtime.now(org_id)))


def _after(cursor: str) -> After:
    at, _, rest = cursor.partition("/")
    dispute_id, _, org_id = rest.partition("/")
    try:
        opened_at: datetime = parse_instant(at)
        return After(opened_at, org_id, parse_operation_id("dispute", dispute_id, where="cursor"))
    except BadInput:
        raise BadInput(
            "invalid_cursor",
            f"{cursor[:60]!r} is no cursor of this list",
            next_step="use the next_cursor of the page before, or none for the first page",
            where="cursor",
        ) from None
