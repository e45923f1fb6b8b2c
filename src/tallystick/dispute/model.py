"""A dispute as it stands."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

import msgspec

from tallystick.ledger.dispute_operations import DisputedCharge, DisputedWhat, DisputeState, DisputeStep

UNDECIDED: Final[tuple[DisputeState, ...]] = ("open", "under_review")
"""States in which the seller still has to answer."""
COUNTING: Final[tuple[DisputeState, ...]] = ("open", "under_review", "upheld")
"""States in which what is disputed cannot be disputed once more."""


class DisputeAccount(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute: what it is about, and what became of it.

    Attributes:
        seq: the entry that opened it.
        request_id: under which it was opened.
        invoice_id, line, entries, charges: what is disputed; see `DisputeScope`.
        disputed_cents: what is disputed in money.
        reason: the customer's.
        closes_at: until when it could be opened; None where that was not billed yet.
        answer_due_at: until when the seller is to decide.
        evidence_seq: the entry that attached the evidence; None while there is none.
        evidence_sha256: of the document.
        differences, proposed_cents: what a replay has found.
        decided_at: when it was upheld, rejected or withdrawn; `explanation` is the reason that was given then.
        upheld_cents, upheld: what was given back, in money, and in credits by settlement.
    """

    seq: int
    request_id: str
    what: DisputedWhat
    state: DisputeState
    invoice_id: str | None
    line: int | None
    entries: tuple[int, ...]
    charges: tuple[DisputedCharge, ...]
    disputed_cents: int
    author: str
    reason: str
    opened_at: datetime
    answer_due_at: datetime
    evidence_seq: int | None = None
    evidence_sha256: str | None = None
    differences: int = 0
    proposed_cents: int = 0
    decided_at: datetime | None = None
    explanation: str | None = None
    upheld_cents: int = 0
    upheld: tuple[DisputedCharge, ...] = ()

    @property
    def credits_pico(self) -> int:
        """What is disputed in credits, in pico-credits."""
        return sum(one.amount_pico for one in self.charges)

    @property
    def is_undecided(self) -> bool:
        """Whether the seller still has to answer."""
        return self.state in UNDECIDED

    @property
    def counted_cents(self) -> int:
        """What of its money nobody else may dispute: all while it is undecided; what was taken back counts on the
        invoice itself from then on.
        """
        return self.disputed_cents if self.is_undecided else 0

    def is_overdue(self, now: datetime) -> bool:
        """Whether the seller should have answered by now."""
        return self.is_undecided and now >= self.answer_due_at


class InvoiceLeft(NamedTuple):
    """Of an issued invoice, what can be taken back of it, in cents.

    Attributes:
        line_credits: by line, what credit notes on it have taken back.
    """

    total_cents: int
    credited_cents: int
    voided: bool
    line_credits: dict[int, int]

    @property
    def left_cents(self) -> int:
        """What no credit note has taken back."""
        return max(0, self.total_cents - self.credited_cents)


class DisputeEvent(NamedTuple):
    """One step of a dispute: its entry, who took it, when, and why."""

    dispute_seq: int
    seq: int
    step: DisputeStep
    at: datetime
    author: str
    reason: str
