"""What comes with a request to change an account: grants, refunds, budgets, overrides, standing, as operations.

None of it happens by itself: each has an author, and what is given away a reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, get_args

from tallystick.contract.decision import Budget, BudgetMeasure, BudgetScope, Override
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.ledger.members import Members, did_you_mean, short
from tallystick.ledger.operation_ids import parse_operation_id
from tallystick.ledger.operations import Grant, Operation, OperationKind, Refund, SetBudget, SetOverride, SetStanding
from tallystick.usage.event_problems import check_text, ids_fit

GRANT_SOURCES: Final = ("top_up", "promo", "sla", "dispute", "goodwill")
"""What credits may be granted for by request; included and refunded ones come by themselves."""
OVERRIDE_DAYS_MAX: Final = 90
"""How long an override may hold: what is to hold longer belongs into the contract."""

GRANT_MEMBERS: Final = ("request_id", "source", "credits", "priority", "expires_at", "author", "reason")
REFUND_MEMBERS: Final = ("org_id", "request_id", "settlement_id", "credits", "author", "reason")
BUDGET_MEMBERS: Final = ("request_id", "scope", "subject", "of", "per", "kind", "max_usd", "author")
STANDING_MEMBERS: Final = ("request_id", "suspended", "enforcement", "author", "keep")
OVERRIDE_MEMBERS: Final = (
    "request_id", "author", "approved_by", "reason", "expires_at", "limits", "allow_actions", "allow_models",
    "allow_overspend", "credits",
)  # fmt: skip

BUDGET_NAME_CHARS_MAX: Final = 64
_RESERVED: Final = re.compile(r"included:.*|[a-z][0-9]+\.(g[0-9]+|credits)", re.DOTALL)
"""The ids of grants that come by themselves: a month's, what is granted again, what comes with an override."""
_PRIORITY_MAX = 1_000_000
_LIST_MAX = 100
_QUANTITY_MAX = 10**18

LimitIndex = Callable[[str], int]
"""The place in the plan of the limit of that name; raises `BadInput` when there is none."""


def grant_operation(org_id: str, raw: object, *, salt: bytes) -> Operation:
    """Credits to come in. Whether its end is over already is asked when it is written: sent again, it may be by then.

    Raises:
        BadInput: the one fault, `where` being the member; those of `members.Members`.
        Problems: `invalid_request`, several of them.
    """
    members = Members(raw, GRANT_MEMBERS, "a grant")
    grant = Grant(
        source=members.choice("source", GRANT_SOURCES),  # type: ignore[arg-type]
        amount_pico=members.amount_pico("credits", "credits"),
        priority=members.integer("priority", 0, -_PRIORITY_MAX, _PRIORITY_MAX),
        expires_at=members.instant_or_none("expires_at"),
        author=members.text("author"),
        reason=members.text("reason"),
    )
    if members.has("request_id") and _RESERVED.fullmatch(str(members.value("request_id"))):
        members.fault(
            "reserved_id",
            "request_id",
            f"{short(members.value('request_id'))!r} is the id of a grant that comes by itself",
            "send an id of your own",
        )
    return _operation(members, org_id, "grant", grant, salt)


def refund_operation(raw: object, *, salt: bytes) -> Operation:
    """Charged credits to be given back.

    Raises:
        BadInput, Problems: as `grant_operation`; `invalid_id`.
    """
    members = Members(raw, REFUND_MEMBERS, "a refund")
    org_id = members.text("org_id")
    text, seq = members.text("settlement_id"), 0
    try:
        seq = parse_operation_id("settlement", text, where="settlement_id") if text else 0
    except BadInput as error:
        members.faults.append(error.with_traceback(None))
    refund = Refund(
        settlement_seq=seq,
        amount_pico=members.amount_pico_or_none("credits", "credits"),
        author=members.text("author"),
        reason=members.text("reason"),
    )
    return _operation(members, org_id, "refund", refund, salt)


def budget_operation(org_id: str, name: str, raw: object, *, salt: bytes, new_id: str) -> Operation:
    """A cost guard to be set; `new_id` is the request's id where it brings none.

    Raises:
        BadInput, Problems: as `grant_operation`; `budget_subject`.
    """
    members = Members(raw, BUDGET_MEMBERS, "a budget")
    _check_name(members, name)
    scope = members.choice("scope", get_args(BudgetScope), "org")
    subject = members.text_or_none("subject")
    if scope == "org" and subject is not None:
        members.fault(
            "budget_subject", "subject", "a budget of the whole org has no subject", "leave it out, or name a scope"
        )
    budget = Budget(
        name=name,
        scope=scope,  # type: ignore[arg-type]
        subject=subject,
        of=members.choice("of", get_args(BudgetMeasure), "cost"),  # type: ignore[arg-type]
        per=members.choice("per", ("day", "month")),  # type: ignore[arg-type]
        kind=members.choice("kind", ("hard", "soft")),  # type: ignore[arg-type]
        max_pico=members.amount_pico("max_usd", "USD", smallest=0),
    )
    return _operation(
        members, org_id, "budget", SetBudget(name=name, budget=budget, author=members.text("author")), salt, new_id
    )


def no_budget_operation(org_id: str, name: str, author: str, *, salt: bytes, request_id: str) -> Operation:
    """A cost guard to be taken away.

    Raises:
        BadInput, Problems: as `grant_operation`.
    """
    members = Members({"author": author, "request_id": request_id}, ("author", "request_id"), "a budget")
    _check_name(members, name)
    request = SetBudget(name=name, budget=None, author=members.text("author"))
    return _operation(members, org_id, "budget", request, salt)


def _check_name(members: Members, name: str) -> None:
    try:
        check_text("name", name)
    except BadInput as error:
        members.faults.append(error.with_traceback(None))
    if "/" in name or name in (".", ".."):
        members.fault(
            "invalid_name", "name", f"{short(name)!r} cannot stand in an address", "leave slashes out, and dots alone"
        )
    if len(name) > BUDGET_NAME_CHARS_MAX:
        most = BUDGET_NAME_CHARS_MAX
        members.fault("text_too_long", "name", f"it has {len(name):,} characters; {most} are the most", "shorten it")


def standing_operation(org_id: str, raw: object, *, salt: bytes, new_id: str) -> Operation:
    """An org to be suspended or taken up again, or its mode of enforcement to be changed.

    Raises:
        BadInput, Problems: as `grant_operation`.
    """
    members = Members(raw, STANDING_MEMBERS, "a standing")
    mode = members.choice("enforcement", ("enforce", "shadow")) if members.has("enforcement") else None
    keep = members.texts("keep", 2)
    for place, name in enumerate(keep):
        if name not in ("suspended", "enforcement"):
            members.fault("not_a_choice", f"keep.{place}", f"{short(name)!r} is neither of the two", "name what stays")
    standing = SetStanding(
        suspended=members.text_or_none("suspended"),
        enforcement=mode,  # type: ignore[arg-type]
        author=members.text("author"),
        keep=keep,  # type: ignore[arg-type]
    )
    return _operation(members, org_id, "standing", standing, salt, new_id)


def override_operation(
    org_id: str,
    raw: object,
    *,
    salt: bytes,
    now: datetime,
    plan: str,
    limit_index: LimitIndex,
    limit_names: Sequence[str] = (),
    actions: Collection[str] | None = None,
) -> Operation:
    """A signed-off exception, and the credits that come with it.

    Args:
        plan: the org's plan now, whose limits are meant.
        limit_index: the place of a limit in it.
        limit_names: what its limits are called, each in its place (`policy_terms.limit_called`).
        actions: those of the contract, which may be let in; None for any.

    Raises:
        BadInput, Problems: as `grant_operation`; `same_person`, `expires_too_late`,
            `empty_override`, `unknown_action`, or what `limit_index` raises.
    """
    members = Members(raw, OVERRIDE_MEMBERS, "an override")
    author, approved_by = members.text("author"), members.text("approved_by")
    if author and author.strip().casefold() == approved_by.strip().casefold():
        members.fault(
            "same_person",
            "approved_by",
            f"{short(author)} cannot approve what they ask for",
            "have another sign it off",
        )
    credits_pico = members.amount_pico_or_none("credits", "credits")
    limits = _limits(members, limit_index)
    override = Override(
        seq=0,
        author=author,
        reason=members.text("reason"),
        expires_at=_override_end(members, now),
        limits=limits,
        limit_names={place: limit_names[place] for place in limits if place < len(limit_names)},
        plan=plan,
        allow_actions=_actions(members, actions),
        allow_models=members.texts("allow_models", _LIST_MAX),
        allow_overspend=members.flag("allow_overspend"),
    )
    bends = override.limits or override.allow_actions or override.allow_models or override.allow_overspend
    if not bends and credits_pico is None and not members.faults:
        members.fault(
            "empty_override",
            None,
            "it makes no exception",
            "name limits, allow_actions, allow_models, allow_overspend or credits",
        )
    request = SetOverride(override=override, approved_by=approved_by, credits_pico=credits_pico)
    return _operation(members, org_id, "override", request, salt)


def _actions(members: Members, actions: Collection[str] | None) -> tuple[str, ...]:
    named = members.texts("allow_actions", _LIST_MAX)
    for place, name in enumerate(named):
        if name and actions is not None and name not in actions:
            members.fault(
                "unknown_action",
                f"allow_actions.{place}",
                f"the contract has no action {short(name)!r}{did_you_mean(name, actions)}",
                "name actions of the contract",
            )
    return named


def _override_end(members: Members, now: datetime) -> datetime:
    end = members.instant_or_none("expires_at")
    latest = now + timedelta(days=OVERRIDE_DAYS_MAX)
    if end is None:
        if not members.has("expires_at"):
            members.fault(
                "missing_field", "expires_at", "an override ends by itself", "send when, at most 90 days ahead"
            )
        return now
    if end > latest:
        members.fault(
            "expires_too_late",
            "expires_at",
            f"an override holds {OVERRIDE_DAYS_MAX} days at most, now until {format_instant(latest)}",
            "send an earlier end; what is to hold longer belongs into the contract",
        )
    return end


def _limits(members: Members, limit_index: LimitIndex) -> dict[int, int]:
    """What limits are raised to, by their place in the plan; null is no limit at all, -1 inside."""
    raised: dict[int, int] = {}
    for name, value in members.table("limits", _LIST_MAX).items():
        where = f"limits.{short(name)}"
        try:
            index = limit_index(str(name))
        except BadInput as error:
            members.fault(error.code, where, error.detail, error.next_step)
            continue
        if index in raised:
            members.fault("duplicate_value", where, "it is named twice, by name and by number", "name each limit once")
        if value is None:
            raised[index] = -1
        elif isinstance(value, bool) or not isinstance(value, int):
            members.fault("wrong_type", where, "it must be a whole number, or null for no limit", "send either")
        elif not 0 <= value <= _QUANTITY_MAX:
            members.fault("invalid_number", where, f"it is not between 0 and {_QUANTITY_MAX:,}", "send one in between")
        else:
            raised[index] = value
    return raised


def _operation(
    members: Members,
    org_id: str,
    kind: OperationKind,
    request: Grant | Refund | SetBudget | SetStanding | SetOverride,
    salt: bytes,
    new_id: str | None = None,
) -> Operation:
    request_id = new_id if new_id is not None and not members.has("request_id") else members.text("request_id")
    if org_id:
        check_text("org_id", org_id)
    if not ids_fit(org_id, request_id):
        members.fault("text_too_long", "request_id", "it and org_id have too many bytes together", "send shorter ids")
    members.raise_faults()
    return Operation(org_id=org_id, kind=kind, request_id=request_id, request=request, salt=salt)
