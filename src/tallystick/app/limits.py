"""How far an org's limits and budgets are used, as the next decision would see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from tallystick.app.account_terms import AccountTerms, account_terms
from tallystick.app.answer_parts import budget_members
from tallystick.app.org_terms import own_terms
from tallystick.app.overrides import list_overrides
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Budget, LimitLooked, OrgState, Override, Request
from tallystick.contract.policy_limits import look_at_limits, raised_to
from tallystick.contract.policy_terms import limit_called, terms_of
from tallystick.contract.windows import Window, window_at
from tallystick.core.instants import format_instant
from tallystick.core.money import format_decimal, pico_to_usd
from tallystick.journal.accounts import counted_windows, counters_of, largest_spenders, one_moment
from tallystick.journal.database import Connection
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.org_account import OrgAccount, OrgTerms
from tallystick.ledger.org_state import limit_uses
from tallystick.ledger.reservations import meter_counter, spending_counter, windowed

SPENDERS_MAX = 100
"""How many users, keys or features a budget that is for each by itself is shown for: those that spent most."""
_ATTEMPTS = 3  # a window may end between counting and reading


def show_limits(runtime: Runtime, org_id: str) -> dict[str, Any]:
    """Each limit of the org's plan and each budget: used, held, the most, when it begins anew, warnings reached.

    What is over by now is ended first, and what was recorded since the last decision is counted, as before a decision.

    Raises:
        BadInput: the id cannot be one.
        NotFound: `unknown_org`, `no_plan_in_force`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    terms = account_terms(runtime, org_id)
    read = _read(runtime, terms)
    for _ in range(_ATTEMPTS - 1):
        if read.is_counted:
            break
        read = _read(runtime, terms)
    said, now, contract, plan = read.said, read.now, terms.contract, terms.plan
    return {
        "org_id": org_id,
        "plan": plan.name,
        "contract": contract.name,
        "contract_version": contract.version,
        "time_zone": terms.subscription.time_zone,
        "limits": _limit_lines(terms, read),
        "budgets": read.budgets,
        "overrides": list_overrides(runtime, org_id),
        "suspended": said.suspended,
        "enforcement": said.enforcement or plan.enforcement or contract.enforcement,
        "at": format_instant(now),
    }


class _Read(NamedTuple):
    """What was read at one moment; `is_counted`: the counters are of the windows that `now` falls in."""

    now: datetime
    said: OrgTerms
    windows: dict[str, Window]
    account: OrgAccount
    budgets: list[dict[str, Any]]
    is_counted: bool


def _read(runtime: Runtime, terms: AccountTerms) -> _Read:
    runtime.operations.keep_up(terms.org_id).result()
    now = runtime.now(terms.org_id)
    with runtime.database.org(terms.org_id) as connection:
        one_moment(connection)
        said = own_terms(connection, terms.org_id)
        windows = _windows(terms, said, now)
        counted = counted_windows(connection, terms.org_id)
        account = _account(connection, terms, said, windows)
        budgets = _budget_lines(connection, terms, said, windows)
    is_counted = all(counted.get(per) == window.starts_at for per, window in windows.items())
    return _Read(now, said, windows, account, budgets, is_counted)


def _windows(terms: AccountTerms, said: OrgTerms, now: datetime) -> dict[str, Window]:
    pers = {limit.per for limit in terms.plan.limits} | {budget.per for budget in said.budgets.values()}
    return {per: window_at(per, terms.subscription.time_zone, now) for per in pers}


def _account(connection: Connection, terms: AccountTerms, said: OrgTerms, windows: dict[str, Window]) -> OrgAccount:
    """The account as far as the plan's limits need it: what is used and reserved of each meter."""
    names: set[tuple[str, datetime | None]] = set()
    for limit in terms.plan.limits:
        for meter in limit.meters:
            counter = meter_counter(meter)
            names |= {(counter, None), (windowed(limit.per, counter), windows[limit.per].starts_at)}
    found = counters_of(connection, terms.org_id, names) if names else {}
    return OrgAccount(
        terms=said,
        used={(name, start): used for (name, start), used in found.items() if start is not None},
        reserved={name: used for (name, start), used in found.items() if start is None},
    )


def _limit_lines(terms: AccountTerms, read: _Read) -> list[dict[str, Any]]:
    contract, plan, now = terms.contract, terms.plan, read.now
    overrides = tuple(one for one in read.said.overrides.values() if one.expires_at > now)
    uses = limit_uses(read.account, contract, plan.name, terms.subscription.time_zone, now)
    state = OrgState(now=now, limits=uses, overrides=overrides)
    # A request that names no meters has every limit looked at.
    looked = look_at_limits(terms_of(contract, plan.name), state, Request(feature="", environment="", user_id=""))
    return [_limit_line(terms, place, one, overrides, read.windows) for place, one in enumerate(looked.all)]


def _limit_line(
    terms: AccountTerms, place: int, one: LimitLooked, overrides: tuple[Override, ...], windows: dict[str, Window]
) -> dict[str, Any]:
    limit, lifted = terms.plan.limits[place], one.max < 0
    by = None
    if one.max != limit.max:
        name, called = terms.plan.name, limit_called(limit)
        by = next(over.seq for over in overrides if raised_to(over, name, place, called) == one.max)
    return {
        "limit": place + 1,
        "name": one.name,
        "meters": list(limit.meters),
        "kind": one.kind,
        "per": one.per,
        "used": one.used,
        "held": one.held,
        "max": None if lifted else one.max,
        "plan_max": limit.max,
        "remaining": None if lifted else max(0, one.max - one.used - one.held),
        "starts_at": format_instant(windows[limit.per].starts_at),
        "resets_at": format_instant(one.resets_at),
        "warned_at": None if one.warned_at is None else format_decimal(one.warned_at),
        "warn_at": [format_decimal(share) for share in limit.warn_at],
        "override_id": None if by is None else operation_id("override", by),
    }


def _budget_lines(
    connection: Connection, terms: AccountTerms, said: OrgTerms, windows: dict[str, Window]
) -> list[dict[str, Any]]:
    """One line each, or, of a budget that is for each by itself, one for each who has spent or reserved anything."""
    names = {
        name
        for budget in said.budgets.values()
        if budget.scope == "org" or budget.subject is not None
        for name in _spending_names(budget, windows)
    }
    found = counters_of(connection, terms.org_id, names) if names else {}
    each: dict[tuple[str, str, str], dict[str | None, tuple[int, int]]] = {}
    lines = []
    for _, budget in sorted(said.budgets.items()):
        window = windows[budget.per]
        if budget.scope == "org" or budget.subject is not None:
            used, held = _spending_names(budget, windows)
            spent: dict[str | None, tuple[int, int]] = {budget.subject: (found.get(used, 0), found.get(held, 0))}
        else:
            kind = (budget.of, budget.scope, budget.per)
            if kind not in each:
                each[kind] = _spent_by_each(connection, terms.org_id, budget, window)
            spent = each[kind]
        lines += [_budget_line(budget, subject, *amounts, window) for subject, amounts in spent.items()]
    return lines


def _spending_names(
    budget: Budget, windows: dict[str, Window]
) -> tuple[tuple[str, datetime | None], tuple[str, datetime | None]]:
    """The counters of what is spent of a budget in its window, and of what open holds reserve of it."""
    counter = spending_counter(budget.of, budget.scope, budget.subject)
    return (windowed(budget.per, counter), windows[budget.per].starts_at), (counter, None)


def _spent_by_each(
    connection: Connection, org_id: str, budget: Budget, window: Window
) -> dict[str | None, tuple[int, int]]:
    """What each who spent most has spent and reserved; nobody's nothing when nobody has."""
    prefix = spending_counter(budget.of, budget.scope, "")
    per = windowed(budget.per, prefix)
    used = dict(largest_spenders(connection, org_id, per, window.starts_at, SPENDERS_MAX))
    held = dict(largest_spenders(connection, org_id, prefix, None, SPENDERS_MAX))
    names = sorted(used.keys() | held.keys(), key=lambda who: (-used.get(who, 0) - held.get(who, 0), who))
    spent: dict[str | None, tuple[int, int]] = {who: (used.get(who, 0), held.get(who, 0)) for who in names}
    return spent or {None: (0, 0)}


def _budget_line(budget: Budget, subject: str | None, used_pico: int, held_pico: int, window: Window) -> dict[str, Any]:
    taken_pico = used_pico + held_pico
    return {
        **budget_members(budget),
        "subject": subject,
        "used_usd": pico_to_usd(used_pico),
        "held_usd": pico_to_usd(held_pico),
        "remaining_usd": pico_to_usd(max(0, budget.max_pico - taken_pico)),
        "starts_at": format_instant(window.starts_at),
        "resets_at": format_instant(window.ends_at),
        "exceeded": taken_pico >= budget.max_pico,
    }
