"""Credits in money: giving an org an amount that its next invoices use up, and what is left of all that it was given.

Wallets of credits are something else: `app.grants`. A credit here is USD, and lowers what an invoice leaves to be paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.money_credit_words import credit_members, credit_sentence
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.runtime import Runtime
from tallystick.billing.credit_checks import credit_operation
from tallystick.billing.credits import CreditLot, left_of
from tallystick.billing.model import InvoiceAccount
from tallystick.billing.promos import percent_text
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.journal.billing import list_issued
from tallystick.journal.credit_rows import list_lots
from tallystick.ledger.credit_operations import CreditSource
from tallystick.ledger.invoice_operations import Applied
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Operation, Recorded


@dataclass(frozen=True, slots=True)
class CreditDone:
    """What was given, as it is recorded."""

    recorded: Recorded

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; `is_new` tells whether it was done now."""
        one: Any = self.recorded
        return {
            "credit_id": operation_id(one.kind, one.seq),
            "org_id": one.org_id,
            "request_id": one.request_id,
            "is_new": one.is_new,
            "author": one.request.author,
            "reason": getattr(one.request, "reason", None),
            "what": credit_sentence(one.request, one.result),
            **credit_members(one.request, one.result),
            "entry": {
                "seq": one.seq,
                "recorded_at": format_instant(one.recorded_at),
                "fingerprint": one.fingerprint,
                "leaf": one.leaf,
            },
        }


@dataclass(frozen=True, slots=True)
class HeldCredit:
    """One credit of an org as it stands, and what invoices have used of it.

    Attributes:
        uses: by invoice, in the order of their issue; of a void one what it gave back.
    """

    lot: CreditLot
    uses: tuple[tuple[InvoiceAccount, Applied], ...]
    now: datetime

    @property
    def state(self) -> str:
        """`open`, `used` up, or `over` by time with something left."""
        if self.lot.is_used_up:
            return "used"
        return "over" if self.lot.is_over(self.now) else "open"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; amounts are decimal strings of USD."""
        lot = self.lot
        is_share = lot.percent_bp is not None
        return {
            "credit_id": operation_id("invoice_credit" if lot.code is None else "promo", lot.seq),
            "source": lot.source,
            "code": lot.code,
            "state": self.state,
            "amount_usd": None if is_share else cents_to_usd(lot.amount_cents),
            "left_usd": None if is_share else cents_to_usd(0 if self.state == "over" else lot.left_cents),
            "percent": None if lot.percent_bp is None else percent_text(lot.percent_bp),
            "invoices_left": lot.invoices_left,
            "cap_usd": None if lot.cap_cents is None else cents_to_usd(lot.cap_cents),
            "minimum_usd": cents_to_usd(lot.minimum_cents),
            "from_month": lot.from_month,
            "given_at": format_instant(lot.given_at),
            "expires_at": None if lot.expires_at is None else format_instant(lot.expires_at),
            "used": [
                {
                    "invoice_id": account.invoice_id,
                    "number": account.number,
                    "month": account.period,
                    "amount_usd": cents_to_usd(used.amount_cents),
                    "given_back": account.voided,
                }
                for account, used in self.uses
            ],
        }


@dataclass(frozen=True, slots=True)
class OrgCredits:
    """All that an org was given in money, and what it has too much on its invoices."""

    org_id: str
    credits: tuple[HeldCredit, ...]
    left_cents: int
    beyond_cents: int

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members; amounts are decimal strings of USD."""
        return {
            "org_id": self.org_id,
            "left_usd": cents_to_usd(self.left_cents),
            "beyond_usd": cents_to_usd(self.beyond_cents),
            "credits": [one.as_dict() for one in self.credits],
        }


def show_credits(runtime: Runtime, org_id: str) -> OrgCredits:
    """What an org was given in money, the first one first: what is left of each, and where the rest went.

    Raises:
        BadInput: `invalid_text`.
        NotFound: `unknown_org`.
        Unavailable: `database_unreachable`.
    """
    existing_org(runtime, org_id)
    now = runtime.now(org_id)
    with runtime.database.org(org_id) as connection:
        lots = list_lots(connection, org_id)
        issued = sorted((one.account for one in list_issued(connection, org_id)), key=lambda one: one.seq)
    uses: dict[int, list[tuple[InvoiceAccount, Applied]]] = {}
    for account in issued:
        for used in account.applied:
            if used.source != "carried":
                uses.setdefault(used.seq, []).append((account, used))
    return OrgCredits(
        org_id=org_id,
        credits=tuple(HeldCredit(lot, tuple(uses.get(lot.seq, ())), now) for lot in lots),
        left_cents=left_of(lots, now),
        beyond_cents=sum(max(0, -account.due_cents) for account in issued),
    )


def credit_by_itself(
    runtime: Runtime,
    org_id: str,
    *,
    source: CreditSource,
    amount_cents: int,
    reason: str,
    author: str,
    request_id: str,
    about: dict[str, Any] | None = None,
) -> Operation:
    """What gives an org an amount of USD that its next invoices use up, and that nobody has asked for.

    Args:
        org_id: the customer, who is known here.
        source: what for.
        amount_cents: above nothing.
        about: what it was computed from: JSON without fractions, which stands in the ledger for good, and so names no
            person.

    Raises:
        BadInput, Problems: what is wrong with it.
    """
    members = {
        "request_id": request_id,
        "source": source,
        "amount_usd": cents_to_usd(amount_cents),
        "author": author,
        "reason": reason,
        "about": about,
    }
    return credit_operation(org_id, members, salt=new_salt(runtime), by_itself=True)


def give_credit(
    runtime: Runtime,
    org_id: str,
    *,
    source: CreditSource,
    amount_cents: int,
    reason: str,
    author: str,
    request_id: str,
    about: dict[str, Any] | None = None,
    expires_at: datetime | None = None,
    from_month: str | None = None,
) -> CreditDone:
    """Give an org an amount of USD that its next invoices use up; the same request id again is the same credit.

    Args:
        org_id: the customer, who is known here.
        source: what for.
        amount_cents: above nothing.
        about: what it was computed from: JSON without fractions, which stands in the ledger for good, and so names no
            person.
        expires_at: from when on what is left of it is gone; None for never.
        from_month: the first month whose invoice may use it; None for any.

    Raises:
        BadInput, Problems: as `give_credit_asked`.
        NotFound, Conflict, Unavailable: as that.
    """
    members = {
        "request_id": request_id,
        "source": source,
        "amount_usd": cents_to_usd(amount_cents),
        "author": author,
        "reason": reason,
        "about": about,
        "expires_at": None if expires_at is None else format_instant(expires_at),
        "from_month": from_month,
    }
    return give_credit_asked(runtime, org_id, members)


def give_credit_asked(runtime: Runtime, org_id: str, raw: object) -> CreditDone:
    """The same, of a request as it was sent.

    Args:
        raw: the decoded JSON value, with the members `billing.credit_checks.CREDIT_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_amount`, `credit_expired_already`, `reserved_id`.
        NotFound: `unknown_org`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    operation = credit_operation(org_id, raw, salt=new_salt(runtime))
    existing_org(runtime, org_id)
    return CreditDone(submit_and_wait(runtime, operation))
