"""What alerts are decided from, read over all orgs at once: a few looks, however many orgs there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from tallystick.alerts.balance import PACE_DAYS
from tallystick.alerts.spend import HISTORY_DAYS
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("alert_evidence")
_METRICS = load_queries("metrics")
_CLOCKS = load_queries("billing")["clocks"]


class View(NamedTuple):
    """What is looked at, and when.

    Attributes:
        now: the machine's clock.
        clocks: of test orgs, where their own clocks stand.
        org_id: only this org; None for all.
    """

    now: datetime
    clocks: Mapping[str, datetime]
    org_id: str | None = None

    def at(self, org_id: str | None) -> datetime:
        """The present instant of an org, or of the operator."""
        return self.now if org_id is None else self.clocks.get(org_id, self.now)

    def given(self, **more: Any) -> dict[str, Any]:
        """The parameters that the queries have in common, and others."""
        common = {"now": self.now, "tests": list(self.clocks), "clocks": list(self.clocks.values()), "org": self.org_id}
        return {**common, **more}


class TermsRow(NamedTuple):
    """An org on a plan: the terms in force at its `now`, what was said about it, how far its usage is counted."""

    org_id: str
    contract: str
    plan: str
    time_zone: str
    now: datetime
    state: str
    progress: str
    counted_through_seq: int
    last_seq: int


class OverdueRow(NamedTuple):
    """An issued invoice that is due and not paid."""

    org_id: str
    invoice_id: str
    number: str
    due_at: datetime
    left_cents: int
    is_test: bool


class UnpricedRow(NamedTuple):
    """Requests of a provider's model that have no price: how many, since when, of how many orgs."""

    provider: str | None
    model: str
    requests: int
    since: datetime
    orgs: int


class DisputeRow(NamedTuple):
    """A dispute that nobody has answered in time."""

    org_id: str
    seq: int
    what: str
    due_at: datetime
    disputed_cents: int


class EndpointRow(NamedTuple):
    """A webhook endpoint that was disabled after nothing but failures."""

    endpoint_id: str
    org_id: str | None
    reason: str
    failures: int
    since: datetime


OrgDay = tuple[str, date]


def test_clocks(connection: Connection) -> dict[str, datetime]:
    """Every test org, and where its clock stands."""
    return dict(connection.execute(_CLOCKS).fetchall())


def spend_days(connection: Connection, view: View, least_pico: int) -> dict[OrgDay, int]:
    """What requests cost on days that are not over for six hours, where it is as much as that."""
    found = connection.execute(_SQL["spend_days"], view.given(least_pico=least_pico))
    return {(org_id, day): int(cost) for org_id, day, cost in found}


def spend_history(connection: Connection, wanted: Sequence[OrgDay]) -> dict[OrgDay, tuple[date, dict[date, int]]]:
    """The org's first day with usage, and by day what requests cost before the day that is named."""
    found = connection.execute(_SQL["spend_history"], _org_days(wanted))
    return {
        (org_id, day): (first or day, dict(zip(days or (), map(int, costs or ()), strict=True)))
        for org_id, day, first, days, costs in found
    }


def spend_drivers(connection: Connection, wanted: Sequence[OrgDay]) -> dict[OrgDay, list[tuple[date, str, str, int]]]:
    """The same by feature and model, the day itself included."""
    drivers = defaultdict[OrgDay, list[tuple[date, str, str, int]]](list)
    for org_id, day, when, feature, model, cost in connection.execute(_SQL["spend_drivers"], _org_days(wanted)):
        drivers[org_id, day].append((when, feature, model, int(cost)))
    return drivers


def charged_days(connection: Connection, view: View) -> dict[str, dict[date, int]]:
    """Pico-credits that settlements charged, by org and day, of those who were charged lately."""
    charged = defaultdict[str, dict[date, int]](dict)
    for org_id, day, amount in connection.execute(_SQL["charged"], view.given(pace_days=PACE_DAYS)):
        charged[org_id][day] = int(amount)
    return charged


def lots_of(connection: Connection, orgs: Iterable[str]) -> dict[str, list[tuple[int, datetime | None]]]:
    """What is available of each lot of these orgs, and when it ends."""
    lots = defaultdict[str, list[tuple[int, datetime | None]]](list)
    for org_id, amount, ends in connection.execute(_SQL["lots"], {"orgs": list(orgs)}):
        lots[org_id].append((int(amount), ends))
    return lots


def held_of(connection: Connection, orgs: Iterable[str]) -> dict[str, int]:
    """Pico-credits that open holds of these orgs keep, where there are any."""
    return {org_id: int(held) for org_id, held in connection.execute(_SQL["held"], {"orgs": list(orgs)})}


def terms_in_force(connection: Connection, view: View) -> list[TermsRow]:
    """Every org on a plan."""
    return [TermsRow(*row) for row in connection.execute(_SQL["terms"], view.given())]


def counters_used(
    connection: Connection, wanted: Iterable[tuple[str, str, datetime]]
) -> dict[tuple[str, str, datetime], int]:
    """What counters have, by org, name and start of the window; nothing of those that are not there."""
    listed = list(wanted)
    orgs, names, starts = zip(*listed, strict=True) if listed else ((), (), ())
    given = {"orgs": list(orgs), "counters": list(names), "starts": list(starts)}
    found = connection.execute(_SQL["counters"], given)
    return {(org_id, counter, start): int(used) for org_id, counter, start, used in found}


def most_spent(connection: Connection, wanted: Iterable[tuple[str, str, datetime]]) -> dict[tuple[str, str], int]:
    """What the one who spent most has spent, by org and the beginning of the counters' names, which ends with ':'."""
    listed = list(dict.fromkeys(wanted))
    orgs, prefixes, starts = zip(*listed, strict=True) if listed else ((), (), ())
    ends = [f"{prefix[:-1]};" for prefix in prefixes]  # the character after ':'
    given = {"orgs": list(orgs), "prefixes": list(prefixes), "ends": ends, "starts": list(starts)}
    return {(org_id, prefix): int(used) for org_id, prefix, used in connection.execute(_SQL["most_spent"], given)}


def overdue_invoices(connection: Connection, view: View) -> list[OverdueRow]:
    """Issued invoices that are due and not paid."""
    return [OverdueRow(*row) for row in connection.execute(_SQL["overdue"], view.given())]


def unpriced_models(connection: Connection, limit: int) -> list[UnpricedRow]:
    """What has no price, that first which most requests were made of."""
    return [UnpricedRow(*row) for row in connection.execute(_SQL["unpriced"], {"limit": limit})]


def overdue_disputes(connection: Connection, now: datetime, limit: int) -> list[DisputeRow]:
    """Disputes that nobody has answered in time, those first that have waited longest."""
    return [DisputeRow(*row) for row in connection.execute(_SQL["disputes"], {"now": now, "limit": limit})]


def disabled_endpoints(connection: Connection, view: View) -> list[EndpointRow]:
    """Webhook endpoints that are switched off after nothing but failures."""
    return [EndpointRow(*row) for row in connection.execute(_SQL["endpoints"], view.given())]


def unsealed(connection: Connection) -> tuple[int, datetime | None]:
    """Entries that no block holds, and when the oldest of them was recorded."""
    ((entries, oldest),) = connection.execute(_METRICS["unsealed"]).fetchall()
    return int(entries), oldest


def _org_days(wanted: Sequence[OrgDay]) -> dict[str, Any]:
    return {"orgs": [one[0] for one in wanted], "days": [one[1] for one in wanted], "history": HISTORY_DAYS}
