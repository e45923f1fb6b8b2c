"""Reading how a case finds the org (`given`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, cast, get_args

from tallystick.contract.decision import Budget, BudgetMeasure, BudgetScope, Override
from tallystick.contract.document import Table
from tallystick.contract.fields import Place, did_you_mean, one_of
from tallystick.contract.model import Contract, LimitWindow, Plan
from tallystick.contract.policy_terms import limit_name
from tallystick.core.errors import BadInput
from tallystick.core.periods import load_zone
from tallystick.ledger.operations import Grant, GrantSource
from tallystick.simulate.case_amounts import read_credits, read_pico
from tallystick.simulate.case_model import FinishedBefore, Given, Granting, SpentBefore
from tallystick.usage.meters import METERS

WINDOWS: Final[tuple[LimitWindow, ...]] = get_args(LimitWindow)
AUTHOR: Final = "a case"
KEYS: Final = (
    "plan", "at", "time_zone", "wallet", "used", "budgets", "overrides", "suspended", "enforcement", "finished",
)  # fmt: skip
_SOURCES: Final = tuple(source for source in get_args(GrantSource) if source != "refund")
_OVERRIDE_LIFE: Final = timedelta(days=30)
_INSIDE: Final[tuple[tuple[LimitWindow, LimitWindow], ...]] = (
    ("minute", "hour"),
    ("hour", "day"),
    ("day", "week"),
    ("day", "month"),
)
"""Windows that lie wholly within another one."""
_Used = dict[tuple[LimitWindow, str], int]
_YEARS: Final = (1970, 9000)
"""What calendars, and the windows of limits in them, have room for."""


def read_given(place: Place, contract: Contract, usual: Mapping[str, Place]) -> Given:
    """The org of a case; what it does not say is as in `usual`, which holds for every case of the file.

    A plan that the contract does not have is kept as it is: a case may be about that.
    """
    fields = place.fields(*KEYS)
    own: dict[str, Place] = {name: place.child(name) for name in KEYS if name in fields.given}
    at = {**usual, **own}
    values: dict[str, Any] = {}

    def read(name: str, reader: Any) -> None:
        if name in at:
            try:
                values[name] = reader(at[name])
            except BadInput as error:
                place.problems.append(error)

    read("plan", lambda one: None if one.is_null else one.scalar("a plan").text)
    read("at", _read_instant)
    read("time_zone", _read_zone)
    now: datetime = values.get("at", contract.effective_from)
    plan = contract.plans.get(values.get("plan") or "")
    read("wallet", lambda one: one.sequence(lambda grant: read_grant(grant, now)))
    read("used", lambda one: _read_used(one, contract, plan))
    read("budgets", lambda one: one.sequence(_read_budget))
    read("overrides", lambda one: one.sequence(lambda each: _read_override(each, now, plan)))
    read("suspended", Place.text)
    read("enforcement", lambda one: one.choice(("enforce", "shadow")))
    read("finished", lambda one: one.sequence(lambda each: _read_finished(each, contract)))
    _check_names(at.get("budgets"), [one.budget.name for one in values.get("budgets", ())])
    return Given(**values)


def _check_names(place: Place | None, names: list[str]) -> None:
    if place is not None and len(set(names)) < len(names):
        place.note("duplicate_value", "two budgets have the same name")


def _read_instant(place: Place) -> datetime:
    at = place.instant()
    if not _YEARS[0] <= at.year < _YEARS[1]:
        raise place.refusal("invalid_time", f"a case begins between the years {_YEARS[0]} and {_YEARS[1]}")
    return at


def _read_zone(place: Place) -> str:
    zone = place.scalar("an IANA time zone such as Europe/Berlin").text
    try:
        load_zone(zone)
    except BadInput as error:
        raise place.refusal(error.code, error.detail) from None
    return zone


def read_grant(place: Place, now: datetime | None) -> Granting:
    """Credits that come in. `now`: when they do, as far as that is known."""
    fields = place.fields("credits", "source", "priority", "expires_at", "expires_in")
    expires_at = fields.get("expires_at", Place.instant, None)
    lasts = fields.get("expires_in", Place.duration, None)
    if expires_at is not None and lasts is not None:
        place.note("case_contradiction", "expires_at and expires_in both say when the credits end")
    if now is not None and expires_at is not None and expires_at <= now:
        fields.at("expires_at").note("case_contradiction", "the credits have ended before the case begins")
    grant = Grant(
        source=cast(GrantSource, fields.get("source", lambda at: at.choice(_SOURCES), "top_up")),
        amount_pico=fields.need("credits", read_credits, 1),
        priority=fields.get("priority", Place.integer, 0),
        expires_at=expires_at,
        author=AUTHOR,
        reason="given",
    )
    return Granting(grant=grant, lasts=lasts)


def _read_used(place: Place, contract: Contract, plan: Plan | None) -> _Used:
    """By meter (of every window, or by window), or by the name of a limit of the plan."""
    found: _Used = {}
    limits = {limit_name(limit): limit for limit in (() if plan is None else plan.limits)}

    def note(name: str, entry: Place) -> None:
        if name in limits:
            limit = limits[name]
            _count(entry, found, limit.per, limit.meters[0], entry.integer())
        elif contract.knows_meter(name):
            for per, quantity in _read_windows(entry).items():
                _count(entry, found, per, name, quantity)
        else:
            known = [*limits, *contract.meters, *METERS]
            raise entry.refusal(
                "unknown_value", f"{name[:80]!r} is no meter and no limit of the plan{did_you_mean(name, known)}"
            )

    place.table(note)
    for inner, outer in _INSIDE:
        for (per, meter), quantity in found.items():
            if per == inner and quantity > found.get((outer, meter), quantity):
                less = found[outer, meter]
                what = f"{quantity:,} {meter} in the {inner} are more than the {less:,} of the {outer} that it lies in"
                place.note("case_contradiction", what)
    return found


def _read_windows(place: Place) -> dict[LimitWindow, int]:
    if not isinstance(place.node, Table):
        return dict.fromkeys(WINDOWS, place.integer())
    fields = place.fields(*WINDOWS)
    return {per: fields.get(per, Place.integer, 0) for per in WINDOWS if per in fields.given}


def _count(place: Place, found: _Used, per: LimitWindow, meter: str, quantity: int) -> None:
    if found.get((per, meter), quantity) != quantity:
        place.note("case_contradiction", f"{meter} per {per} are said twice, as {found[per, meter]:,} and {quantity:,}")
    found[per, meter] = quantity


def _read_budget(place: Place) -> SpentBefore:
    fields = place.fields("name", "scope", "subject", "of", "per", "kind", "max_usd", "spent_usd")
    scope = cast(BudgetScope, fields.get("scope", lambda at: at.choice(get_args(BudgetScope)), "org"))
    subject = fields.get("subject", Place.text, None)
    if subject is not None and scope == "org":
        fields.at("subject").note("case_contradiction", "a budget of the whole org has no subject")
    spent_pico = fields.get("spent_usd", read_pico, 0)
    if spent_pico and scope != "org" and subject is None:
        fields.at("spent_usd").note("case_contradiction", f"a budget for each {scope} by itself is spent by a subject")
    budget = Budget(
        name=fields.need("name", Place.name, ""),
        scope=scope,
        subject=subject,
        of=cast(BudgetMeasure, fields.get("of", lambda at: at.choice(get_args(BudgetMeasure)), "cost")),
        per=cast(Any, fields.get("per", lambda at: at.choice(("day", "month")), "month")),
        kind=cast(Any, fields.get("kind", lambda at: at.choice(("hard", "soft")), "hard")),
        max_pico=fields.need("max_usd", read_pico, 0),
    )
    return SpentBefore(budget=budget, spent_pico=spent_pico)


def _read_override(place: Place, now: datetime, plan: Plan | None) -> Override:
    fields = place.fields("limits", "allow_actions", "allow_models", "allow_overspend", "expires_at", "reason")
    expires_at = fields.get("expires_at", Place.instant, now + _OVERRIDE_LIFE)
    if expires_at <= now:
        fields.at("expires_at").note("case_contradiction", "the override has ended before the case begins")
    none: dict[int, int] = {}
    limits = fields.get("limits", lambda at: _read_raised(at, plan), none)
    override = Override(
        seq=0,
        author=AUTHOR,
        reason=fields.get("reason", Place.text, "given"),
        expires_at=expires_at,
        limits=limits,
        plan=plan.name if plan is not None and limits else None,
        allow_actions=fields.get("allow_actions", _texts, ()),
        allow_models=fields.get("allow_models", _texts, ()),
        allow_overspend=fields.get("allow_overspend", Place.flag, False),
    )
    if not (limits or override.allow_actions or override.allow_models or override.allow_overspend):
        place.note("case_contradiction", "the override allows nothing")
    return override


def _texts(place: Place) -> tuple[str, ...]:
    return place.sequence(Place.text)


def _read_raised(place: Place, plan: Plan | None) -> dict[int, int]:
    """By the place of the limit: what holds instead; `lifted` for no limit. Limits go by name or by number from 1."""
    names = [limit_name(limit) for limit in (() if plan is None else plan.limits)]
    numbers = [str(number) for number in range(1, len(names) + 1)]

    def raised(_: str, entry: Place) -> int:
        is_lifted = entry.scalar("a number, or lifted").text == "lifted"
        return -1 if is_lifted else entry.integer()

    found = {}
    for name, most in place.table(raised).items():
        if name in numbers:
            found[int(name) - 1] = most
        elif names.count(name) == 1:
            found[names.index(name)] = most
        else:
            hint = did_you_mean(name, names) or f"; there are: {one_of(names)}"
            place.child(name).note("unknown_value", f"the plan has no limit {name[:80]!r} of its own{hint}")
    return found


def _read_finished(place: Place, contract: Contract) -> FinishedBefore:
    fields = place.fields("action", "work_key", "ago")
    return FinishedBefore(
        action=fields.need("action", lambda at: read_known(at, contract.actions), ""),
        work_key=fields.need("work_key", Place.text, ""),
        ago=fields.need("ago", Place.duration, timedelta(0)),
    )


def read_known(place: Place, names: Iterable[str]) -> str:
    """One of the names that the contract has."""
    return place.choice(tuple(names))
