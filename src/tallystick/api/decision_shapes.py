"""The shapes in which decisions, settlements, releases and refunds are answered; amounts are decimal strings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tallystick.api.account_shapes import EntryPlace, RateVersion, WalletChange
from tallystick.api.shapes import Answer, Instant
from tallystick.contract.decision import ReasonCode, StepKind
from tallystick.usage.event import Outcome


class NextStep(Answer):
    """The safe thing to do now: a sentence, and what a program needs of it, where there is anything."""

    kind: StepKind
    text: str
    plan: Annotated[str | None, Field(description="Of `upgrade`.")] = None
    model: Annotated[str | None, Field(description="Of `use_model`.")] = None
    until: Annotated[Instant | None, Field(description="Of `wait`, and of `upgrade` where waiting helps too.")] = None
    credits: Annotated[str | None, Field(description="Of `top_up`: how many at least.")] = None


class LimitLooked(Answer):
    """A limit of the plan that was looked at, in the meters' units; `max` is null where an override has lifted it."""

    name: str
    kind: Literal["hard", "soft"]
    per: str
    used: int
    held: int
    requested: int
    max: int | None
    exceeded: bool
    resets_at: Instant
    warned_at: Annotated[str | None, Field(description="The largest share to warn at that is reached with it.")]


class BudgetLooked(Answer):
    """A budget that the request falls under."""

    name: str
    kind: Literal["hard", "soft"]
    per: str
    used_usd: str
    held_usd: str
    requested_usd: str
    max_usd: str | None
    exceeded: bool
    resets_at: Instant
    warned_at: str | None


class DecisionQuote(Answer):
    """What it would be charged: when it succeeds, and what is held for it."""

    credits: str
    reserve_credits: str
    worst_cost_usd: Annotated[str | None, Field(description="What it costs us at most; null when that is not known.")]
    repeat: Annotated[bool, Field(description="Whether it is the same finished work again.")]
    shows: Annotated[str | None, Field(description="The contract's sentence about the action.")]


class Verdict(Answer):
    """What enforcement would have answered."""

    allow: bool
    code: ReasonCode
    message: str
    next_step: NextStep


class Decision(Answer):
    """May it be done, and why; docs/decisions.md has the closed list of codes."""

    allow: bool
    code: ReasonCode
    message: str
    next_step: NextStep
    limits: list[LimitLooked]
    budgets: list[BudgetLooked]
    quote: DecisionQuote
    shadow: Annotated[bool, Field(description="Whether denials are only recorded.")]
    enforced: Annotated[Verdict | None, Field(description="In shadow mode, what enforcement would have answered.")]
    overrides: Annotated[list[str], Field(description="The exceptions without which it would be denied.")]
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str


class HoldPlace(Answer):
    """What was held."""

    hold_id: str
    expires_at: Annotated[Instant, Field(description="From when on it may be ended by its expiry.")]
    credits: str


class DecisionVersions(Answer):
    """Under which terms and rate card it was decided."""

    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    rate_version: str


class AuthorizeAnswer(Answer):
    """A request that is allowed, and its hold."""

    org_id: str
    request_id: str
    decision: Decision
    hold: HoldPlace
    wallet: WalletChange
    versions: DecisionVersions
    entry: EntryPlace


class LotCredits(Answer):
    """Credits of one grant."""

    grant_id: str
    credits: str


class EventReceipt(Answer):
    """A usage event of a settlement as it stands in the ledger."""

    request_id: str
    status: Annotated[
        Literal["accepted", "duplicate"],
        Field(description="Whether the settlement has brought it, or it was stored before."),
    ]
    seq: int | None
    recorded_at: Instant | None
    cost_usd: Annotated[str | None, Field(description="What it cost, exact; null when it is unpriced.")]
    cost_status: str | None
    rate_version: str | None
    fingerprint: str
    leaf: str | None


class SettleAnswer(Answer):
    """What was charged and why, and what went back."""

    org_id: str
    settlement_id: str
    hold_id: str
    outcome: Outcome
    charged_credits: Annotated[str, Field(description="All that is charged: of the hold, beyond it, and owed.")]
    overage_credits: Annotated[str, Field(description="Of it, beyond the hold, where the contract allows that.")]
    owed_credits: Annotated[str, Field(description="Of it, beyond what the wallet had.")]
    rounding_credits: Annotated[str, Field(description="Of it, only the rounding up to whole credits.")]
    returned_credits: str
    why: str
    cost_usd: Annotated[str, Field(description="What the usage cost us.")]
    priced: Annotated[bool, Field(description="Whether all of the usage had a price.")]
    charged_from: list[LotCredits]
    wallet: WalletChange
    events: list[EventReceipt]
    versions: DecisionVersions
    entry: EntryPlace


class ReleaseAnswer(Answer):
    """What went back."""

    org_id: str
    hold_id: str | None
    returned_credits: str
    reason: str | None
    wallet: WalletChange
    versions: RateVersion
    entry: EntryPlace


class RefundAnswer(Answer):
    """What went back, and to which grants."""

    org_id: str
    request_id: str
    refund_id: str
    settlement_id: str
    refunded_credits: str
    no_longer_owed_credits: str
    returned_to: list[LotCredits]
    author: str
    reason: str
    wallet: WalletChange
    versions: RateVersion
    entry: EntryPlace
