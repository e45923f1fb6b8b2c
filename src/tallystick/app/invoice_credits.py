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
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.ledger.credit_operations import CreditSource
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Recorded


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
    """The same of a request as it was sent.

    Args:
        raw: the decoded JSON value, with the members `billing.credit_checks.CREDIT_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_amount`, `credit_expired_already`.
        NotFound: `unknown_org`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending it again is safe.
    """
    operation = credit_operation(org_id, raw, salt=new_salt(runtime))
    existing_org(runtime, org_id)
    return CreditDone(submit_and_wait(runtime, operation))
