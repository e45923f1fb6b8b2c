"""What the policy is asked and what it answers: requests, the state of an org, decisions.

Amounts of credits are integers of pico-credits, amounts of money integers of pico-USD (10**-12 of either).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Literal

import msgspec

from tallystick.usage.event import Payer

ReasonCode = Literal[
    "allowed",
    "unknown_plan",
    "org_suspended",
    "unknown_action",
    "action_not_in_plan",
    "model_not_in_plan",
    "unpriced_model",
    "hard_limit_reached",
    "budget_exceeded",
    "insufficient_credits",
    "top_up_not_available",
]
"""Why a request is allowed or denied; a closed list, in the order in which reasons are looked for."""

DenialStatus = Literal["payment_required", "forbidden", "limited"]
"""How an edge says no: 402, 403 or 429."""

StepKind = Literal["none", "upgrade", "top_up", "wait", "use_model", "use_action", "contact", "fix_request"]

BudgetScope = Literal["org", "user", "api_key", "feature"]
BudgetMeasure = Literal["cost", "charge"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is about to do.

    Attributes:
        action: the contract's action; None for use that is priced by its quantities alone.
        model: the model that will be called; None when none is.
        meters: the most of each meter that it may take; empty when that is not known.
        work_key: what the action is done to (a document's id), so that doing it again can be told.
        worst_cost_pico: what `meters` cost us at most; None when there is no price for the model.
        payer: who pays the provider: we, or the customer with a key of its own.
    """

    feature: str
    environment: str
    user_id: str
    action: str | None = None
    model: str | None = None
    provider: str | None = None
    api_key_id: str | None = None
    work_key: str | None = None
    meters: Mapping[str, int] = {}
    worst_cost_pico: int | None = 0
    payer: Payer = "seller"


class LimitUse(msgspec.Struct, frozen=True, kw_only=True):
    """How far a limit of the plan is used in the window that the present instant falls in.

    Attributes:
        index: the limit's place in the plan.
        used: what is recorded, in the meters' units.
        held: what open holds may still take.
        starts_at: the window's start.
        resets_at: the window's end, exclusive.
    """

    index: int
    used: int
    held: int
    starts_at: datetime
    resets_at: datetime


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """A cost guard: at most `max_pico` USD in each window.

    Attributes:
        name: unique in the org.
        scope: whose spending it adds up.
        subject: the user, key or feature that it is about; None for each one by itself.
        of: our `cost`, or the `charge` to the customer.
        kind: a hard one denies, a soft one warns.
    """

    name: str
    scope: BudgetScope
    subject: str | None
    of: BudgetMeasure
    per: Literal["day", "month"]
    kind: Literal["hard", "soft"]
    max_pico: int


class BudgetUse(msgspec.Struct, frozen=True, kw_only=True):
    """How far a budget that the request falls under is spent in the present window."""

    budget: Budget
    used_pico: int
    held_pico: int
    starts_at: datetime
    resets_at: datetime


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-off exception for one org, until it expires.

    Attributes:
        seq: its entry.
        limits: by index of the plan's limits, the `max` that holds instead of a lower one; -1 for none.
        plan: the plan whose limits those are, so that they do not bend another's after a change of plans; None for
            whichever plan the org is on.
        limit_names: what each of those limits was called when the override was made (`policy_terms.limit_called`): it
            bends that one, wherever a later version of the contract has it. Where none stands, places alone tell.
        allow_actions, allow_models: what is allowed besides the plan's.
        allow_overspend: whether a hard budget is let pass.
    """

    seq: int
    author: str
    reason: str
    expires_at: datetime
    limits: Mapping[int, int] = {}
    limit_names: Mapping[int, str] = {}
    plan: str | None = None
    allow_actions: tuple[str, ...] = ()
    allow_models: tuple[str, ...] = ()
    allow_overspend: bool = False


class OrgState(msgspec.Struct, frozen=True, kw_only=True):
    """Where an org stands at an instant: all that a decision depends on besides the contract, the plan and the request.

    Attributes:
        now: the instant.
        suspended: why the org is suspended; None while it is not.
        available_pico: credits that are neither spent nor held.
        held_pico: credits that open holds have reserved.
        limits: one for each limit of the plan, in its order.
        budgets: those that the request falls under.
        overrides: those in force.
        next_grant_at: when included credits come next; None when none do, or that is not known.
        finished_at: when the same action was last charged for the same `work_key`; None when never.
        enforcement: the org's own mode; None for the contract's.
    """

    now: datetime
    suspended: str | None = None
    available_pico: int = 0
    held_pico: int = 0
    limits: tuple[LimitUse, ...] = ()
    budgets: tuple[BudgetUse, ...] = ()
    overrides: tuple[Override, ...] = ()
    next_grant_at: datetime | None = None
    finished_at: datetime | None = None
    enforcement: Literal["enforce", "shadow"] | None = None


class NextStep(msgspec.Struct, frozen=True, kw_only=True):
    """The safe thing to do now: a sentence, and what a program needs of it.

    Attributes:
        plan: the plan to upgrade to.
        model: the model to use.
        until: when asking again may do better; set whenever waiting is one of the ways on.
        credits_pico: how much to top up at least, in whole credits.
    """

    kind: StepKind
    text: str
    plan: str | None = None
    model: str | None = None
    until: datetime | None = None
    credits_pico: int | None = None


class LimitLooked(msgspec.Struct, frozen=True, kw_only=True):
    """A limit or budget that was looked at. Amounts of budgets are pico-USD, of limits the meters' units.

    Attributes:
        name: such as `tokens_in+tokens_out per day`, or the budget's name.
        requested: what the request may take of it.
        max: what may be used at most; -1 where an override has lifted the limit.
        exceeded: whether it would be passed.
        warned_at: the largest share of `warn_at` that is reached with it; None for none.
    """

    name: str
    what: Literal["limit", "budget"]
    kind: Literal["hard", "soft"]
    per: str
    used: int
    held: int
    requested: int
    max: int
    exceeded: bool
    resets_at: datetime
    warned_at: Fraction | None = None


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """What the request would be charged.

    Attributes:
        credits_pico: when it succeeds: the price, or for `cost_plus` the price of the worst case.
        reserve_pico: what is held for it.
        worst_cost_pico: what it costs us at most; None when that is not known.
        repeat: whether it is the same finished work again.
        shows: the contract's sentence about the action.
    """

    credits_pico: int
    reserve_pico: int
    worst_cost_pico: int | None
    repeat: bool = False
    shows: str | None = None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the terms say: whether it may be done, and why."""

    allow: bool
    code: ReasonCode
    message: str
    next_step: NextStep


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The policy's answer.

    Attributes:
        allow: whether the request may go on.
        code, message, next_step: why, for a program and for a person, and what to do now.
        limits: every limit and budget that was looked at.
        quote: what it would be charged; nothing when its action or plan is unknown.
        shadow: whether denials are only recorded; `enforced` is then what enforcement would have answered.
        overrides: the sequences of the overrides that made the difference.
        contract, contract_version, contract_sha256, plan: the terms that were asked.
    """

    allow: bool
    code: ReasonCode
    message: str
    next_step: NextStep
    limits: tuple[LimitLooked, ...]
    quote: Quote
    shadow: bool = False
    enforced: Verdict | None = None
    overrides: tuple[int, ...] = ()
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
