"""What customers dispute, and what becomes of it: each step is a ledger entry of kind `dispute`.

    step          refers to       what it is
    opened                        an invoice, a line of one, or requests are disputed; it claims the request id
    evidence      the opening     what a replay has found: the hash of the document that says it
    review_begun  the opening     somebody looks at it
    upheld        the opening     the customer is right, wholly or in part; what is given back follows, see below
    rejected      the opening     what was charged stands; the reason explains why
    withdrawn     the opening     the customer no longer disputes it

A dispute is known as `q` and the place of its opening, such as `q17`. After `upheld` come, in the same transaction and
in this order, what it gives back: the credit note on the invoice, or a credit in money where the usage is on none yet,
and the refunds of what settlements charged. Their request ids are `award_id` and `refund_id`, so that there is one of
each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal, get_args

import msgspec

DISPUTE: Final = "dispute"
"""The kind of such an entry."""

DisputeStep = Literal["opened", "evidence", "review_begun", "upheld", "rejected", "withdrawn"]
DISPUTE_STEPS: tuple[DisputeStep, ...] = get_args(DisputeStep)
DisputeState = Literal["open", "under_review", "upheld", "rejected", "withdrawn"]
DISPUTE_STATES: tuple[DisputeState, ...] = get_args(DisputeState)
DisputedWhat = Literal["invoice", "line", "requests"]
REQUESTS_MAX: Final = 1000
"""How many requests one dispute may be about."""


class DisputedCharge(msgspec.Struct, frozen=True):
    """Credits that a settlement has charged for disputed requests, in pico-credits."""

    settlement_seq: int
    amount_pico: int


class DisputedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A half-open time [start, end) of an open month in which a plan of a contract version priced the org's usage.

    `subscription` is the ordinal of the subscription that chose it.
    """

    start: datetime
    end: datetime
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    subscription: int


class OpenMonth(msgspec.Struct, frozen=True, kw_only=True):
    """A month that was on no invoice when requests of it were disputed: the plans that priced it then, in order.

    Attributes:
        month: such as `2026-10`.
        plans: none where the org was on none.
    """

    month: str
    time_zone: str
    subscriptions_known: int
    plans: tuple[DisputedPlan, ...] = ()


class DisputeScope(msgspec.Struct, frozen=True, kw_only=True):
    """What is disputed.

    Attributes:
        what: an invoice as a whole, one of its lines, or requests.
        invoice_id: the invoice that charges for it; None for requests that are on none yet.
        line, line_cents: of a line: its number and its amount.
        entries: of requests: the places of their entries, in order.
        cents: what the invoice, the line, or the requests come to in money.
        charges: what settlements have charged for the requests in credits, in the order of their places.
        months: of requests: those of their months that no invoice had closed yet, so that what they were charged can be
            computed again whatever plans the org is on later.
        earlier: the disputes of requests that were on no invoice yet when they were opened, and that this invoice bears
            by now: what those come to is not disputed twice. Without those that were upheld before it was issued:
            what they gave it could use itself.
    """

    what: DisputedWhat
    invoice_id: str | None
    line: int | None = None
    line_cents: int | None = None
    entries: tuple[int, ...] = ()
    cents: int
    charges: tuple[DisputedCharge, ...] = ()
    months: tuple[OpenMonth, ...] = ()
    earlier: tuple[int, ...] = ()


class DisputeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Until when it may be disputed, and how long the seller has to answer, by the contract.

    `closes_at` None: what is disputed is not billed yet.
    """

    closes_at: datetime | None
    answer_seconds: int
    contract: str
    contract_version: str
    contract_sha256: str


class DisputeEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay has found.

    Attributes:
        sha256: of the evidence document.
        differences: how many differences it names.
        proposed_cents: what it proposes to take back: by how much what was billed is above what facts and versions
            come to.
    """

    sha256: str
    differences: int
    proposed_cents: int = 0


class Award(msgspec.Struct, frozen=True, kw_only=True):
    """What is given back: cents of USD, and credits by the settlement that charged them.

    Attributes:
        cents: taken back of the invoice by a credit note; without an invoice, a credit for those to come.
        charges: in the order of their settlements.
        invoice_id, line, line_cents: those of the dispute.
        prefix: of the credit note's number.
    """

    cents: int = 0
    charges: tuple[DisputedCharge, ...] = ()
    invoice_id: str | None = None
    line: int | None = None
    line_cents: int | None = None
    prefix: str | None = None

    @property
    def credits_pico(self) -> int:
        """The credits that go back."""
        return sum(one.amount_pico for one in self.charges)


class StepDispute(msgspec.Struct, frozen=True, kw_only=True):
    """A step that is asked for.

    Attributes:
        dispute_seq: the opening; None of the opening itself.
        author, reason: who says so, and why.
        scope, terms, asked_cents: of the opening; `asked_cents` is what the customer disputes of it, None for all.
        evidence: of `evidence`.
        award: of `upheld`.
    """

    step: DisputeStep
    dispute_seq: int | None = None
    author: str
    reason: str
    scope: DisputeScope | None = None
    terms: DisputeTerms | None = None
    asked_cents: int | None = None
    evidence: DisputeEvidence | None = None
    award: Award | None = None


class Stepped(msgspec.Struct, frozen=True, kw_only=True):
    """How the dispute stands after a step.

    Attributes:
        disputed_cents: what is disputed in money.
        credits_pico: what is disputed in credits.
        answer_due_at: until when the seller is to decide.
    """

    state: DisputeState
    disputed_cents: int
    credits_pico: int
    answer_due_at: datetime


def award_id(dispute_seq: int) -> str:
    """The request id of the credit note, or of the credit in money, that a dispute gives."""
    return f"dispute:q{dispute_seq}"


def refund_id(dispute_seq: int, settlement_seq: int) -> str:
    """The request id of the refund of a settlement that a dispute gives."""
    return f"dispute:q{dispute_seq}:s{settlement_seq}"
