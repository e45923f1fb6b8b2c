"""What the server answers, as typed values. Credits and USD are `Decimal`, never floats; instants are in UTC.

Members that this release does not know are left out, so that a newer server breaks nothing; `raw` of an answer has all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, kw_only=True)
class NextStep:
    """The safe thing to do now.

    Attributes:
        kind: `none`, `upgrade`, `top_up`, `wait`, `use_model`, `use_action`, `fix_request` or `contact`.
        text: the same as a sentence.
        plan: of `upgrade`.
        model: of `use_model`.
        until: of `wait`, and of `upgrade` where waiting helps too.
        credits: of `top_up`: how many at least.
    """

    kind: str
    text: str
    plan: str | None = None
    model: str | None = None
    until: datetime | None = None
    credits: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class LimitLooked:
    """A limit that was looked at, in its meters' units; `max` None where an exception has lifted it."""

    name: str
    kind: str
    per: str
    used: int
    held: int
    requested: int
    max: int | None
    exceeded: bool
    resets_at: datetime
    warned_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class BudgetLooked:
    """A budget that was looked at, in USD; `max_usd` None where an exception has lifted it."""

    name: str
    kind: str
    per: str
    used_usd: Decimal
    held_usd: Decimal
    requested_usd: Decimal
    max_usd: Decimal | None
    exceeded: bool
    resets_at: datetime
    warned_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What it would be charged when it succeeds, what is held for it, and what it costs us at most."""

    credits: Decimal
    reserve_credits: Decimal
    worst_cost_usd: Decimal | None = None
    repeat: bool = False
    shows: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """In shadow mode: what enforcement would have answered."""

    allow: bool
    code: str
    message: str
    next_step: NextStep


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether it may be done, and why; `code` is one of the closed list of the server's documentation."""

    allow: bool
    code: str
    message: str
    next_step: NextStep
    limits: tuple[LimitLooked, ...] = ()
    budgets: tuple[BudgetLooked, ...] = ()
    quote: Quote | None = None
    shadow: bool = False
    enforced: Verdict | None = None
    overrides: tuple[str, ...] = ()
    contract: str = ""
    contract_version: str = ""
    plan: str = ""


@dataclass(frozen=True, kw_only=True)
class Hold:
    """What was held, and from when on it may be ended."""

    hold_id: str
    expires_at: datetime
    credits: Decimal


@dataclass(frozen=True, kw_only=True)
class WalletState:
    """Credits that may be spent, and credits that open holds have reserved."""

    available: Decimal
    held: Decimal


@dataclass(frozen=True, kw_only=True)
class WalletChange:
    """The wallet before and after."""

    before: WalletState
    after: WalletState


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where it stands in the org's ledger, and the hashes that prove it."""

    seq: int
    kind: str
    recorded_at: datetime
    fingerprint: str
    leaf: str


@dataclass(frozen=True, kw_only=True)
class Authorization:
    """A request that is allowed, and its hold."""

    org_id: str
    request_id: str
    decision: Decision
    hold: Hold
    wallet: WalletChange
    versions: Mapping[str, Any]
    entry: Entry
    raw: Mapping[str, Any]

    @property
    def hold_id(self) -> str:
        """The hold's id."""
        return self.hold.hold_id


@dataclass(frozen=True, kw_only=True)
class LotCredits:
    """Credits of one grant."""

    grant_id: str
    credits: Decimal


@dataclass(frozen=True, kw_only=True)
class EventReceipt:
    """A usage event as it stands in the ledger; `cost_usd` None while it is unpriced."""

    request_id: str
    seq: int | None = None
    cost_usd: Decimal | None = None
    cost_status: str | None = None
    rate_version: str | None = None
    fingerprint: str = ""
    leaf: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """What was charged and why, and what went back."""

    org_id: str
    settlement_id: str
    hold_id: str
    outcome: str
    charged_credits: Decimal
    returned_credits: Decimal
    why: str
    cost_usd: Decimal
    priced: bool
    overage_credits: Decimal
    owed_credits: Decimal
    rounding_credits: Decimal
    charged_from: tuple[LotCredits, ...]
    events: tuple[EventReceipt, ...]
    wallet: WalletChange
    versions: Mapping[str, Any]
    entry: Entry
    raw: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Release:
    """What went back."""

    org_id: str
    hold_id: str | None
    returned_credits: Decimal
    wallet: WalletChange
    entry: Entry
    raw: Mapping[str, Any]
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Grant:
    """A grant with something left, in the order in which grants burn."""

    grant_id: str
    source: str
    priority: int
    granted_at: datetime
    expires_at: datetime | None
    granted: Decimal
    available: Decimal


@dataclass(frozen=True, kw_only=True)
class Expiring:
    """The grant that comes to its end next."""

    grant_id: str
    expires_at: datetime
    available: Decimal


@dataclass(frozen=True, kw_only=True)
class Wallet:
    """What an org has, at one moment."""

    org_id: str
    available: Decimal
    held: Decimal
    grants: tuple[Grant, ...]
    next_to_expire: Expiring | None
    at: datetime
    raw: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LimitState:
    """A limit of the plan as it stands, in its meters' units; `max` None where an exception has lifted it."""

    limit: int
    name: str
    meters: tuple[str, ...]
    kind: str
    per: str
    used: int
    held: int
    max: int | None
    remaining: int | None
    starts_at: datetime
    resets_at: datetime
    warned_at: str | None = None


@dataclass(frozen=True, kw_only=True)
class BudgetState:
    """How far a budget is spent, in USD."""

    name: str
    scope: str
    subject: str | None
    of: str
    per: str
    kind: str
    used_usd: Decimal
    held_usd: Decimal
    max_usd: Decimal
    remaining_usd: Decimal
    resets_at: datetime
    exceeded: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every limit and budget of an org as it stands, and its standing."""

    org_id: str
    plan: str | None
    contract: str | None
    limits: tuple[LimitState, ...]
    budgets: tuple[BudgetState, ...]
    suspended: str | None
    enforcement: str
    at: datetime
    raw: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Action:
    """An action as the plan's customer sees it; `credits` None where the price follows the cost of the work."""

    action: str
    title: str
    price: str
    credits: Decimal | None
    max_credits: Decimal
    charge_on: tuple[str, ...]
    in_plan: bool
    upgrade_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Actions:
    """The price list of an org's plan."""

    org_id: str
    plan: str
    plan_title: str
    actions: tuple[Action, ...]
    raw: Mapping[str, Any]
