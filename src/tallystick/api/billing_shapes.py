"""What is answered about the life of invoices, billing profiles and test clocks. Amounts are decimal strings of USD."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tallystick.api.shapes import Answer, Instant


class Life(Answer):
    """How an invoice stands; what it has only once it is issued is null until then."""

    org_id: str
    invoice_id: str
    month: str
    state: Literal["draft", "final", "open", "partly_paid", "paid", "overdue", "void"]
    number: str | None
    total_usd: str
    applied_usd: str
    carried_usd: str
    paid_usd: str
    credited_usd: str
    due_usd: str | None
    closed_at: Instant | None
    issued_at: Instant | None
    due_at: Instant | None
    test: bool
    digest: str


class LifeList(Answer):
    """Invoices, newest month first; `next_cursor` is null on the last page."""

    invoices: list[Life]
    next_cursor: str | None


class LifeEvent(Answer):
    """One thing that has happened to an invoice; `seq` is its entry."""

    seq: int
    kind: Literal["invoice", "payment", "credit_note", "void"]
    at: Instant
    amount_usd: str
    number: str | None


class Seller(Answer):
    """Who sells, by the contract that the invoice names."""

    name: str
    address: list[str] = Field(default_factory=list)
    tax_id: str | None = None
    registration: str | None = None
    email: str | None = None
    website: str | None = None
    how_to_pay: list[str] = Field(default_factory=list)
    number_prefix: str | None = None


class Profile(Answer):
    """Who is billed."""

    name: str
    address: list[str] = Field(default_factory=list)
    tax_id: str | None = None
    email: str | None = None
    language: str | None = None
    purchase_order: str | None = None
    user_id: str | None = None


class ProfileAnswer(Answer):
    """A version of an org's billing profile; `profile` is null once it is erased. `sha256` is salted."""

    org_id: str
    version: int
    sha256: str
    author: str
    recorded_at: Instant
    erased: bool
    profile: Profile | None


class ProfileHistory(Answer):
    """Every version, the first one first."""

    org_id: str
    profiles: list[ProfileAnswer]


class AppliedCredit(Answer):
    """What an invoice used of one credit as it was issued; `carried`: of what was too much on the invoice `label`."""

    entry_id: str
    source: Literal["promo", "sla", "dispute", "goodwill", "carried"]
    amount_usd: str
    percent: str | None
    label: str | None


class CarriedMoney(Answer):
    """What is paid by what was too much on the invoice that the entry issued; below nothing: of that one by this."""

    entry_id: str
    amount_usd: str


class LifeAnswer(Life):
    """How an invoice stands, what it used of credits, all that has happened to it, who sells, and who is billed."""

    applied: list[AppliedCredit]
    carried: list[CarriedMoney]
    history: list[LifeEvent]
    seller: Seller | None
    bill_to: ProfileAnswer | None


class FinalizeResult(Answer):
    """What became of one org's month; `error` says why it `failed`."""

    org_id: str
    month: str
    status: Literal["issued", "already_issued", "failed"]
    invoice_id: str | None = None
    state: str | None = None
    number: str | None = None
    total_usd: str | None = None
    applied_usd: str | None = None
    carried_usd: str | None = None
    paid_usd: str | None = None
    credited_usd: str | None = None
    due_usd: str | None = None
    closed_at: Instant | None = None
    issued_at: Instant | None = None
    due_at: Instant | None = None
    test: bool | None = None
    digest: str | None = None
    error: dict[str, str] | None = None


class FinalizeAnswer(Answer):
    """One result for each org and month. One that cannot be done harms no other."""

    results: list[FinalizeResult]


class ActionEntry(Answer):
    """The entry of the ledger that it is."""

    seq: int
    recorded_at: Instant
    fingerprint: str
    leaf: str


class ActionAnswer(Answer):
    """What was done about an invoice, and how that stands; `is_new` is false when it was done before."""

    payment_id: str | None = None
    credit_note_id: str | None = None
    void_id: str | None = None
    request_id: str
    note_number: str | None
    is_new: bool
    entry: ActionEntry
    invoice: Life


class Due(Answer):
    """What is still to be paid for one invoice."""

    number: str
    org_id: str
    bill_to: str | None
    invoice_id: str
    month: str
    issued_at: Instant
    due_at: Instant
    state: str
    total_usd: str
    applied_usd: str
    carried_usd: str
    paid_usd: str
    credited_usd: str
    due_usd: str
    currency: Literal["USD"]


class DueAnswer(Answer):
    """What is due first comes first."""

    due: list[Due]


class ClockPlace(Answer):
    """Where a clock was put, by whom, and when that was on the machine's clock."""

    at: Instant
    author: str
    recorded_at: Instant


class ClockAnswer(Answer):
    """Where the clock of a test org stands, and where it was put before."""

    org_id: str
    at: Instant
    history: list[ClockPlace]


class AdvanceAnswer(Answer):
    """Where a clock stands now, how many entries followed by themselves, and what was invoiced on the way."""

    org_id: str
    before: Instant
    at: Instant
    entries: int
    invoiced: list[FinalizeResult]
