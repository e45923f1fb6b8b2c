"""Evidence of orgs' spending: days that cost far more than usual, and credits that run out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from tallystick.alerts.balance import Balance, balance_condition
from tallystick.alerts.bills import OverdueInvoice, unpaid_condition
from tallystick.alerts.model import Condition
from tallystick.alerts.preferences import Preferences
from tallystick.alerts.spend import drivers_of, is_near, spend_condition, usual_of
from tallystick.app.runtime import Runtime
from tallystick.journal.alert_evidence import (
    View,
    charged_days,
    held_of,
    lots_of,
    overdue_invoices,
    spend_days,
    spend_drivers,
    spend_history,
)

Wanted = Callable[[str | None], Preferences]
"""What an org wants to be told of."""


def spend_spikes(runtime: Runtime, view: View, wanted: Wanted, least_usd_pico: int) -> list[Condition]:
    """Days that cost far more than usual, as far as they are added up.

    Args:
        least_usd_pico: the least that anybody wants a day to cost more than usual: what cost less is not looked at.
    """
    with runtime.database.operator() as connection:
        costs = spend_days(connection, view, least_usd_pico * 9 // 10)
        history = spend_history(connection, list(costs)) if costs else {}
        near = {}
        for (org_id, day), cost in costs.items():
            first, before = history[org_id, day]
            usual = usual_of(day, first, before, wanted(org_id))
            if usual is not None and is_near(cost, usual):
                near[org_id, day] = usual
        drivers = spend_drivers(connection, list(near)) if near else {}
    found = []
    for (org_id, day), usual in near.items():
        named = drivers_of(usual.days, day, drivers.get((org_id, day), ()))
        one = spend_condition(org_id, day, costs[org_id, day], usual, named, is_test=org_id in view.clocks)
        if one is not None:
            found.append(one)
    return found


def low_balances(
    runtime: Runtime, view: View, wanted: Wanted, refills: Mapping[str, datetime | None], asked_for: list[str]
) -> list[Condition]:
    """Wallets that run out soon.

    Args:
        refills: by org that is on a plan with a wallet, when the plan's next credits come in.
        asked_for: orgs that want a least balance, whether they spend anything or not.
    """
    with runtime.database.operator() as connection:
        charged = charged_days(connection, view)
        orgs = [org_id for org_id in {*charged, *asked_for} if org_id in refills]
        lots = lots_of(connection, orgs) if orgs else {}
        held = held_of(connection, orgs) if orgs else {}
    found = []
    for org_id in orgs:
        now = view.at(org_id)
        left = tuple((amount, ends) for amount, ends in lots.get(org_id, ()) if ends is None or ends > now)
        balance = Balance(
            org_id, left, charged.get(org_id, {}), refills[org_id], org_id in view.clocks, held.get(org_id, 0)
        )
        one = balance_condition(balance, now, wanted(org_id))
        if one is not None:
            found.append(one)
    return found


def unpaid_invoices(runtime: Runtime, view: View, wanted: Wanted) -> list[Condition]:
    """Invoices that are overdue."""
    with runtime.database.operator() as connection:
        rows = overdue_invoices(connection, view)
    found = (unpaid_condition(OverdueInvoice(*row), view.at(row.org_id), wanted(row.org_id)) for row in rows)
    return [one for one in found if one is not None]
