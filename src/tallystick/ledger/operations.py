"""Operations: what happens to an org's account besides usage, each a ledger entry with a body.

    body = {"request": R, "result": S}     RFC 8785 JSON; integers of amounts and sequences are strings of digits

R is what was asked for, without the personal data (user, session, attributes), which the entry's fingerprint covers
with a salt, as that of usage does; the same request id with the same R and personal data is the same operation. S is
what became of it: enough to move the wallet again, and to give the same answer again. Amounts are pico-credits unless a
name says USD.

    kind         refers to    what it is
    grant                     credits come in: a lot with a source, a priority and an expiry
    hold                      an allowed request: credits reserved from lots, meters and cost reserved from limits
    denial                    a request that was refused; it claims no request id, so that it may be asked again
    settlement   hold         the work is done: what is charged, what goes back
    release      hold         the work was not done: all goes back
    expiry       hold, grant  a hold or a grant came to its end
    refund       settlement   charged credits go back
    override                  a signed-off exception, until it expires
    budget                    a cost guard is set or taken away
    standing                  the org is suspended or taken up again, or its enforcement changes
    adjustment   usage        what was recorded of usage is not what the provider counted (`ledger.adjustment`)

What becomes of stored invoices is in `ledger.invoice_operations`: `invoice`, `payment`, `credit_note`, `void`. What is
given for them in money is in `ledger.credit_operations`: `invoice_credit`, `promo`.

What customers dispute is in `ledger.dispute_operations`: `dispute`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tallystick.contract.decision import Budget, Decision, Override
from tallystick.ledger.acts import Actor
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.credit_operations import CreditRequest, CreditResult
from tallystick.ledger.dispute_operations import StepDispute, Stepped
from tallystick.ledger.invoice_operations import InvoiceRequest, InvoiceResult
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import Outcome, Payer, UsageEvent

OperationKind = Literal[
    "grant",
    "hold",
    "denial",
    "settlement",
    "release",
    "expiry",
    "refund",
    "override",
    "budget",
    "standing",
    "adjustment",
    "invoice",
    "payment",
    "credit_note",
    "void",
    "invoice_credit",
    "promo",
    "dispute",
]

GrantSource = Literal["top_up", "included", "promo", "sla", "dispute", "goodwill", "refund"]

CREDIT = 10**12
"""One credit in pico-credits."""
CREDITS_PICO_MAX = 10**30
"""The most that one grant or refund may move: 10**18 credits. A credit may be worth as little as a token."""


class Lot(msgspec.Struct, frozen=True):
    """Credits of one grant."""

    grant_seq: int
    amount_pico: int


class WalletState(msgspec.Struct, frozen=True, kw_only=True):
    """What a wallet holds: available and held."""

    available_pico: int
    held_pico: int


# ── what is asked for ───────────────────────────────────────────────────────────────────────────────────────────────


class Authorize(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of a hold and a denial; see `contract.decision.Request`.

    `payer` None is the plan's: the customer on a byok plan, else we.
    """

    feature: str
    environment: str
    action: str | None = None
    model: str | None = None
    provider: str | None = None
    api_key_id: str | None = None
    work_key: str | None = None
    meters: dict[str, int] = {}
    payer: Payer | None = None


class Settle(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a hold's work.

    Attributes:
        hold_seq: the hold.
        outcome: what became of the work.
        events: the request ids of its usage events, in the order given; each is an entry of its own.
        charge_pico: the most that the caller lets be charged, which is at most what is held; None leaves it to the
            contract.
    """

    hold_seq: int
    outcome: Outcome
    events: tuple[str, ...] = ()
    charge_pico: int | None = None


class ReleaseHold(msgspec.Struct, frozen=True, kw_only=True):
    hold_seq: int
    reason: str | None = None


class Expire(msgspec.Struct, frozen=True, kw_only=True):
    """Of what: the entry of a hold or a grant."""

    what: Literal["hold", "grant"]
    seq: int


class Refund(msgspec.Struct, frozen=True, kw_only=True):
    """Charged credits to be given back.

    Attributes:
        settlement_seq: what charged them.
        amount_pico: how much; None for all that is not given back yet.
        author, reason: who says so, and why.
    """

    settlement_seq: int
    amount_pico: int | None
    author: str
    reason: str


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Credits to come in.

    Attributes:
        source: where they come from.
        priority: lower ones burn first among those that expire together.
        expires_at: from when on they are gone; None for never.
        period: of included ones, the month.
        of_seq: of refunded ones, the expired grant that they were of.
        author, reason: who says so, and why.
    """

    source: GrantSource
    amount_pico: int
    priority: int = 0
    expires_at: datetime | None = None
    period: str | None = None
    of_seq: int | None = None
    author: str
    reason: str


class SetOverride(msgspec.Struct, frozen=True, kw_only=True):
    """`override.seq` is 0 here: it is the entry's own.

    `credits_pico` come with it, by a grant of their own that follows; None for none.
    """

    override: Override
    approved_by: str
    credits_pico: int | None = None


class SetBudget(msgspec.Struct, frozen=True, kw_only=True):
    """`budget` None takes the one of that name away."""

    name: str
    budget: Budget | None
    author: str


class SetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """The org's standing is set.

    Attributes:
        suspended: why it is suspended; None to take it up again.
        enforcement: its own mode; None for its plan's.
        keep: the names of those of the two that stay as they are, whatever is said of them here.
    """

    suspended: str | None
    enforcement: Literal["enforce", "shadow"] | None
    author: str
    keep: tuple[Literal["suspended", "enforcement"], ...] = ()


# ── what became of it ───────────────────────────────────────────────────────────────────────────────────────────────


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Of a hold.

    Attributes:
        decision: the whole answer.
        lots: where the reserved credits come from.
        cost_pico: the worst case in pico-USD that budgets have reserved.
        charge_pico: the same of what the customer is charged, in pico-USD.
        billed: whether it is of an environment that is billed; else it counts towards no limit and costs no credits.
        expires_at: from when on the hold may be ended by its expiry.
    """

    decision: Decision
    lots: tuple[Lot, ...]
    cost_pico: int
    charge_pico: int
    billed: bool
    expires_at: datetime
    before: WalletState
    after: WalletState


class Denied(msgspec.Struct, frozen=True, kw_only=True):
    """Of a denial: nothing moves."""

    decision: Decision
    wallet: WalletState


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Of a settlement.

    Attributes:
        charged: by lot, what is charged out of the hold.
        overage: by lot, what is charged beyond it, where the contract allows that.
        receivable_pico: what is charged beyond that, and owed.
        rounding_pico: how much of all that is only the rounding up to whole credits.
        returned: by lot, what goes back; to lots that have expired meanwhile too: a grant of source refund follows.
        expired_pico: how much of `returned` is of such lots.
        finished: whether the work is now done and charged, so that the same again may be a repeat.
        cost_pico: what the usage cost us, in pico-USD, as far as it counts (`settlement_charge.free_environments`).
        priced: whether all of what counts had a price by then.
        charge_pico: the credits charged, in pico-USD, for budgets of charges.
        why: a sentence: why that was charged.
        contract, contract_version, contract_sha256, plan: the terms that say so: those of the hold.
    """

    charged: tuple[Lot, ...]
    overage: tuple[Lot, ...]
    receivable_pico: int
    rounding_pico: int
    returned: tuple[Lot, ...]
    expired_pico: int
    finished: bool
    cost_pico: int
    priced: bool
    charge_pico: int
    why: str
    before: WalletState
    after: WalletState
    contract: str = ""
    contract_version: str = ""
    contract_sha256: str = ""
    plan: str = ""


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """Of a release, of a hold's expiry and of a refund: what goes back.

    Attributes:
        returned: by lot; to lots that have expired meanwhile too: a grant of source refund follows.
        expired_pico: how much of `returned` is of such lots.
        receivable_pico: of a refund: what is no longer owed, besides `returned`.
        rounding_pico: of a refund: how much of all that had only been rounding up.
    """

    returned: tuple[Lot, ...]
    expired_pico: int
    receivable_pico: int = 0
    rounding_pico: int = 0
    before: WalletState
    after: WalletState


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Of a grant's expiry: what was left of it is gone."""

    lots: tuple[Lot, ...]
    before: WalletState
    after: WalletState


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    before: WalletState
    after: WalletState


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """Of an override, a budget, a standing and an adjustment: no credits move."""

    effective_at: datetime


# ── on its way to the writer, and back ──────────────────────────────────────────────────────────────────────────────

OperationRequest = (
    Authorize
    | Settle
    | ReleaseHold
    | Expire
    | Refund
    | Grant
    | SetOverride
    | SetBudget
    | SetStanding
    | Adjust
    | InvoiceRequest
    | StepDispute
    | CreditRequest
)
OperationResult = Held | Denied | Settled | Returned | Ended | Granted | Noted | Stepped | InvoiceResult | CreditResult


class SettleEvent(msgspec.Struct, frozen=True, gc=False):
    """A usage event of a settlement; the members that `from_hold` names were left out, and are to be the hold's."""

    event: UsageEvent
    from_hold: tuple[str, ...] = ()


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for, checked, as it is handed to the writer.

    Attributes:
        kind: of an `Authorize`, `hold`; what it becomes (`denial`) is decided by the policy.
        request_id: of settlements, releases and expiries the id of what they end, such as `h1042`.
        user_id, session_id, attributes: who asks; personal, kept beside the body. None where a program of ours asks.
        salt: random, for the fingerprint.
        worst_cost_pico: of an `Authorize`: what its meters cost us at most; None when there is no price.
        events: of a `Settle`.
        settled: of a `Refund` whose settlement has left the database: what that charged, as it stands in its block.
        charges: the same of a dispute that is upheld, by settlement.
        by: who asks for it, where its entry is to be on the audit trail; no part of the entry.
    """

    org_id: str
    kind: OperationKind
    request_id: str
    request: OperationRequest
    salt: bytes
    user_id: str | None = None
    session_id: str | None = None
    attributes: dict[str, str] = {}
    worst_cost_pico: int | None = 0
    events: tuple[SettleEvent, ...] = ()
    settled: Settled | None = None
    charges: dict[int, Settled] = {}
    by: Actor | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The entry that an operation became, now or when it was sent first: the same answer each time.

    Attributes:
        is_new: whether it was written now.
        fingerprint, leaf: in hex.
        usage: of a settlement: its events as entries, in the order given.
    """

    org_id: str
    kind: OperationKind
    seq: int
    request_id: str
    recorded_at: datetime
    request: OperationRequest
    result: OperationResult
    fingerprint: str
    leaf: str
    rate_version: str
    refers_to_seq: int | None = None
    usage: tuple[Receipt, ...] = ()
    is_new: bool = True
