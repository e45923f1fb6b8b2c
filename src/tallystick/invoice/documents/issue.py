"""What stands on a document beside the invoice itself: its number, its dates, who sells and who is billed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from tallystick.core.errors import BadInput
from tallystick.invoice.model import FORMAT
from tallystick.ledger.invoice_operations import Applied

_TEMPLATES: Final[Mapping[str, tuple[tuple[str | None, str], ...]]] = {FORMAT: ((None, "invoice/1"),)}
"""By the invoice's format, its templates: from which instant of issue (RFC 3339 in UTC; None for ever) which one is
used. Only ever added to, so that an old invoice is rendered with the template that it was issued with."""


@dataclass(frozen=True, slots=True)
class Party:
    """Who sells or who is billed: a name, and the lines under it."""

    name: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Issue:
    """How an invoice was issued. Nothing here ever changes once it is, so that a document never does.

    Attributes:
        number, issued_at, due_at: None of an invoice that has no number yet; its document says DRAFT.
        entry_seq: the ledger entry that issued it.
        seller: None where the contract names none.
        how_to_pay: the seller's own words, line by line.
        bill_to: who is billed; the org's id alone where it has no billing profile.
        language: a BCP 47 tag by which dates and numbers are written; None for `en-US`.
        is_test: of an org with a test clock: no money is due.
        applied: what it uses of credits, in the order of that.
    """

    bill_to: Party
    number: str | None = None
    issued_at: datetime | None = None
    due_at: datetime | None = None
    entry_seq: int | None = None
    seller: Party | None = None
    how_to_pay: tuple[str, ...] = ()
    purchase_order: str | None = None
    language: str | None = None
    is_test: bool = False
    applied: tuple[Applied, ...] = ()


def template_of(invoice_format: str, issued_at: datetime | None) -> str:
    """The template of an invoice of that format issued at that instant; of a draft the newest one.

    Raises:
        BadInput: `invalid_invoice_document`, for a format that no template knows.
    """
    chosen = [
        template
        for since, template in _TEMPLATES.get(invoice_format, ())
        if since is None or issued_at is None or datetime.fromisoformat(since) <= issued_at
    ]
    if not chosen:
        raise BadInput(
            "invalid_invoice_document",
            f"there is no template for an invoice of the form {invoice_format!r:.80}",
            next_step="export it with the version of Tallystick that closed it",
        )
    return chosen[-1]


def seller_party(members: Mapping[str, Any] | None) -> Party | None:
    """The seller's block (`billing.party.seller_members`) as it stands on paper."""
    if members is None:
        return None
    return Party(
        members["name"],
        (
            *members.get("address", ()),
            *_labelled("Tax id", members.get("tax_id")),
            *_labelled("Registration", members.get("registration")),
            *(members[name] for name in ("email", "website") if members.get(name)),
        ),
    )


def bill_to_party(org_id: str, members: Mapping[str, Any] | None) -> Party:
    """The billing profile (its members; None for none) as it stands on paper, with the account that it is of."""
    account = f"Account {org_id}"
    if members is None:
        return Party(org_id)
    return Party(
        members["name"],
        (
            *members.get("address", ()),
            *_labelled("Tax id", members.get("tax_id")),
            *((members["email"],) if members.get("email") else ()),
            account,
        ),
    )


def _labelled(label: str, value: str | None) -> tuple[str, ...]:
    return (f"{label} {value}",) if value else ()
