"""The shapes in which an org's account is answered. Credits and USD are decimal strings."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tallystick.api.shapes import Answer


class WalletState(Answer):
    """Credits that may be spent, and credits that open holds have reserved."""

    available: str
    held: str


class WalletChange(Answer):
    """The wallet before and after an operation."""

    before: WalletState
    after: WalletState


class EntryPlace(Answer):
    """Where an operation stands in the org's ledger, and the hashes that prove it."""

    seq: int
    kind: str
    recorded_at: str
    fingerprint: str
    leaf: str


class RateVersion(Answer):
    """Under which rate card it was recorded."""

    rate_version: str


class GrantLot(Answer):
    """A grant with something left: in the order in which grants burn."""

    grant_id: str
    source: str
    priority: int
    granted_at: str
    expires_at: str | None
    granted: str
    available: str


class NextToExpire(Answer):
    """The grant that comes to its end next, and what would go with it."""

    grant_id: str
    expires_at: str
    available: str


class AccountBalance(Answer):
    """One account of the org's double-entry book of credits."""

    account: str
    debit: str
    credit: str


class OrgWallet(Answer):
    """What an org has, at one moment."""

    org_id: str
    available: str
    held: str
    grants: list[GrantLot]
    next_to_expire: NextToExpire | None
    accounts: list[AccountBalance]
    at: str


class OpenHold(Answer):
    """A request that was allowed, and is neither settled nor released yet."""

    hold_id: str
    request_id: str
    made_at: str
    expires_at: str
    credits: str
    feature: str | None
    environment: str | None
    action: str | None
    model: str | None
    user_id: str | None
    work_key: str | None
    plan: str


class HoldPage(Answer):
    """Open holds, oldest first; `next_cursor` is null on the last page."""

    holds: list[OpenHold]
    next_cursor: str | None


class AccountEntry(Answer):
    """One thing that happened to the account: what it was, by whom, what it moved, and why."""

    entry_id: str
    seq: int
    kind: str
    request_id: str
    recorded_at: str
    refers_to: str | None
    by: str | None
    action: str | None
    available_change: str
    held_change: str
    available: str | None
    held: str | None
    what: str
    why: str | None


class AccountEntryPage(Answer):
    """What happened to the account; `next_cursor` is null on the last page."""

    entries: list[AccountEntry]
    next_cursor: str | None


class Budget(Answer):
    """A cost guard: at most `max_usd` of our cost or of charges, a day or a month, of whom `scope` says."""

    name: str
    scope: str
    subject: str | None
    of: str
    per: str
    kind: str
    max_usd: str


class LimitState(Answer):
    """A limit of the plan, in the meters' units: `max` is null where an override has lifted it."""

    limit: int
    name: str
    meters: list[str]
    kind: str
    per: str
    used: int
    held: int
    max: int | None
    plan_max: int
    remaining: int | None
    starts_at: str
    resets_at: str
    warned_at: str | None
    warn_at: list[str]
    override_id: str | None


class BudgetState(Answer):
    """How far a budget is spent. One that is for each user, key or feature by itself has a line for each who spent."""

    name: str
    scope: str
    subject: str | None
    of: str
    per: str
    kind: str
    used_usd: str
    held_usd: str
    max_usd: str
    remaining_usd: str
    starts_at: str
    resets_at: str
    exceeded: bool


class Override(Answer):
    """A signed-off exception; `limits` by their number in `plan`, null for none at all."""

    override_id: str
    author: str
    approved_by: str
    reason: str
    expires_at: str
    plan: str | None
    limits: dict[str, int | None]
    allow_actions: list[str]
    allow_models: list[str]
    allow_overspend: bool
    credits: Annotated[str | None, Field(description="What it gives besides, by a grant of their own.")]


class OverrideInForce(Override):
    """A signed-off exception, and when it was made."""

    recorded_at: str


class Limits(Answer):
    """Every limit and budget of an org as it stands, its exceptions, and its standing."""

    org_id: str
    plan: str | None
    contract: str | None
    contract_version: str | None
    time_zone: str | None
    limits: list[LimitState]
    budgets: list[BudgetState]
    overrides: list[OverrideInForce]
    suspended: str | None
    enforcement: str
    at: str


class CreditValue(Answer):
    """What a credit is called, and what one is worth."""

    name: str
    usd: str


class ActionView(Answer):
    """An action as the plan's customer sees it; `credits` is null where the price follows the cost of the work."""

    action: str
    title: str
    price: str
    credits: str | None
    max_credits: str
    charge_on: list[str]
    repeat: str | None
    shows: str | None
    in_plan: bool
    upgrade_to: str | None


class Actions(Answer):
    """The price list of an org's plan."""

    org_id: str
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    plan_title: str
    credit: CreditValue | None
    actions: list[ActionView]


class GrantAnswer(Answer):
    """A grant as it was made, and the wallet before and after."""

    org_id: str
    request_id: str
    grant_id: str
    source: str
    credits: str
    priority: int
    expires_at: str | None
    author: str
    reason: str
    wallet: WalletChange
    versions: RateVersion
    entry: EntryPlace


class BudgetAnswer(Answer):
    """A budget as it now is; null once it is taken away."""

    org_id: str
    request_id: str
    name: str
    budget: Budget | None
    author: str
    versions: RateVersion
    entry: EntryPlace


class BudgetList(Answer):
    """The budgets that are set, by name."""

    budgets: list[Budget]


class OverrideAnswer(Answer):
    """An exception as it was made, and the grant of the credits that came with it."""

    org_id: str
    request_id: str
    override: Override
    grant: GrantAnswer | None
    versions: RateVersion
    entry: EntryPlace


class OverrideList(Answer):
    """The exceptions in force, the first to end first."""

    overrides: list[OverrideInForce]


class StandingAnswer(Answer):
    """An org's standing as it was set."""

    org_id: str
    request_id: str
    keep: Annotated[list[str], Field(description="Which of the two stayed as it was, whatever is said of it here.")]
    suspended: Annotated[str | None, Field(description="Why the org is suspended; null while it is not.")]
    enforcement: Annotated[str | None, Field(description="Its own mode; null for its plan's.")]
    author: str
    versions: RateVersion
    entry: EntryPlace
