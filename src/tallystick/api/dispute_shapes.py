"""What is asked and answered about disputes. Amounts are decimal strings: of USD, and of credits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tallystick.api.shapes import Answer, Asked, Instant

State = Literal["open", "under_review", "upheld", "rejected", "withdrawn"]
What = Literal["invoice", "line", "requests"]
Usd = Annotated[str, Field(description="A decimal string of USD, in whole cents.", examples=["12.50"])]
Author = Annotated[str, Field(description="Who says so.")]
Reason = Annotated[str, Field(description="Why.")]


class DisputeRequest(Asked):
    """What is disputed: an invoice, a line of it, or requests."""

    request_id: Annotated[str, Field(description="Your id of this request: sent again, it is the same dispute.")]
    org_id: Annotated[str | None, Field(description="Whose it is; a key of an org needs none.")] = None
    invoice_id: Annotated[str | None, Field(description="An invoice's id, its number, or ORG/MONTH.")] = None
    line: Annotated[int | None, Field(description="Only this line of it.", ge=1, le=10_000)] = None
    request_ids: Annotated[
        list[str] | None, Field(description="Instead of an invoice: requests of the org.", max_length=1000)
    ] = None
    amount_usd: Annotated[str | None, Field(description="Only so much of it; all when left out.")] = None
    author: Author
    reason: Reason


class ReviewRequest(Asked):
    """Who looks at a dispute from now on."""

    author: Author
    reason: Annotated[str | None, Field(description="What there is to say.")] = None


class DecisionRequest(Asked):
    """Who rejects or withdraws a dispute, and why."""

    author: Author
    reason: Reason


class UpholdRequest(Asked):
    """How much is given back. Without both amounts: what the evidence proposes, or else all that is disputed."""

    author: Author
    reason: Reason
    amount_usd: Annotated[Usd | None, Field(description="Of the money.")] = None
    credits: Annotated[str | None, Field(description="Of the credits.")] = None


class Dispute(Answer):
    """A dispute. `requests` counts the disputed ones; what evidence says is null until it is attached."""

    dispute_id: str
    org_id: str
    request_id: str
    state: State
    overdue: bool
    what: What
    invoice_id: str | None
    line: int | None
    requests: int
    disputed_usd: str
    disputed_credits: str
    author: str
    reason: str
    opened_at: Instant
    answer_due_at: Instant
    evidence_sha256: str | None
    differences: int | None
    proposed_usd: str | None
    decided_at: Instant | None
    explanation: str | None
    upheld_usd: str
    upheld_credits: str


class DisputedSettlement(Answer):
    """What a settlement charged for disputed requests, and nobody had given back."""

    settlement_id: str
    disputed_credits: str


class DisputeStepAnswer(Answer):
    """A step that was taken, by which entry of the ledger."""

    seq: int
    step: Literal["opened", "evidence", "review_begun", "upheld", "rejected", "withdrawn"]
    at: Instant
    author: str
    reason: str


class DisputeAnswer(Dispute):
    """A dispute with all that has happened to it."""

    invoice_number: str | None
    request_ids: list[str]
    credit_note_number: str | None
    settlements: list[DisputedSettlement]
    history: list[DisputeStepAnswer]


class DoneAnswer(DisputeAnswer):
    """What was done about a dispute; `is_new` is false where it was done before.

    `evidence_pending` says why no evidence is attached yet; null where it is.
    """

    is_new: bool
    evidence_pending: str | None


class DisputePage(Answer):
    """Disputes, those first that were opened last; `next_cursor` is null on the last page."""

    disputes: list[Dispute]
    next_cursor: str | None
