"""What comes with a request about a dispute, checked."""

from __future__ import annotations

from typing import Final, NamedTuple

from tallystick.ledger.dispute_operations import REQUESTS_MAX
from tallystick.ledger.invoice_operations import CENT_PICO, CENTS_MAX
from tallystick.ledger.members import Members
from tallystick.usage.event_problems import ids_fit

OPEN_MEMBERS: Final = ("request_id", "org_id", "invoice_id", "line", "request_ids", "amount_usd", "author", "reason")
REVIEW_MEMBERS: Final = ("author", "reason")
DECIDE_MEMBERS: Final = ("author", "reason")
UPHOLD_MEMBERS: Final = ("author", "reason", "amount_usd", "credits")
LINE_MAX: Final = 10_000


class AskedDispute(NamedTuple):
    """What is to be disputed: an invoice, a line of it, or requests of an org.

    `cents` None: all of it.
    """

    request_id: str
    org_id: str | None
    invoice: str | None
    line: int | None
    request_ids: tuple[str, ...]
    cents: int | None
    author: str
    reason: str


class AskedDecision(NamedTuple):
    """A step of a dispute: who takes it, and why; of an award how much, None for what is proposed or disputed."""

    author: str
    reason: str
    cents: int | None = None
    credits_pico: int | None = None


def asked_dispute(raw: object) -> AskedDispute:
    """What is to be disputed.

    Args:
        raw: the decoded JSON value, with the members `OPEN_MEMBERS`.

    Raises:
        BadInput: the one fault, `where` being the member.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, OPEN_MEMBERS, "a dispute")
    invoice, org_id = members.text_or_none("invoice_id"), members.text_or_none("org_id")
    line = members.integer("line", 1, 1, LINE_MAX) if members.has("line") else None
    request_ids = tuple(dict.fromkeys(members.texts("request_ids", REQUESTS_MAX)))
    if (invoice is None) == (not request_ids):
        members.fault(
            "disputed_unclear",
            "invoice_id",
            "a dispute is about an invoice, or a line of it, or about requests",
            "name one invoice, with a line where you like, or the ids of requests",
        )
    if line is not None and invoice is None:
        members.fault("missing_field", "invoice_id", "a line is one of an invoice's", "send invoice_id")
    if request_ids and org_id is None:
        members.fault("missing_field", "org_id", "requests are an org's", "send org_id")
    request_id = members.text("request_id")
    if org_id is not None and not ids_fit(org_id, request_id):
        members.fault("text_too_long", "request_id", "it and org_id have too many bytes together", "send a shorter id")
    asked = AskedDispute(
        request_id=request_id,
        org_id=org_id,
        invoice=invoice,
        line=line,
        request_ids=request_ids,
        cents=_cents(members) if members.has("amount_usd") else None,
        author=members.text("author"),
        reason=members.text("reason"),
    )
    members.raise_faults()
    return asked


def asked_review(raw: object) -> AskedDecision:
    """Who begins to look at a dispute; a reason may be given.

    Raises:
        BadInput, Problems: as `asked_dispute`.
    """
    members = Members(raw, REVIEW_MEMBERS, "a review")
    asked = AskedDecision(members.text("author"), members.text_or_none("reason") or "the review has begun")
    members.raise_faults()
    return asked


def asked_decision(raw: object, what: str, *, with_award: bool = False) -> AskedDecision:
    """A decision, which has a reason.

    Args:
        raw: the decoded JSON value, with the members `DECIDE_MEMBERS`, or `UPHOLD_MEMBERS` where something is
            given back.
        what: what it is, for the errors.

    Raises:
        BadInput, Problems: as `asked_dispute`.
    """
    members = Members(raw, UPHOLD_MEMBERS if with_award else DECIDE_MEMBERS, what)
    asked = AskedDecision(
        author=members.text("author"),
        reason=members.text("reason"),
        cents=_cents(members, smallest=0) if with_award and members.has("amount_usd") else None,
        credits_pico=members.amount_pico("credits", "credits", smallest=0)
        if with_award and members.has("credits")
        else None,
    )
    members.raise_faults()
    return asked


def _cents(members: Members, *, smallest: int = 1) -> int:
    known = len(members.faults)
    cents, rest = divmod(members.amount_pico("amount_usd", "USD", smallest=smallest), CENT_PICO)
    if len(members.faults) == known:
        if rest:
            members.fault("amount_too_fine", "amount_usd", "money has cents, and nothing smaller", "send whole cents")
        elif cents > CENTS_MAX:
            members.fault("invalid_amount", "amount_usd", "it is too much", "check its unit")
    return cents
