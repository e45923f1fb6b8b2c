"""What fires, what has fired, and what happened to each alert."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from tallystick.alerts.model import RULES, customers_figures
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.alerts import AlertRow, events_of, list_alerts, silences_after
from tallystick.journal.database import Connection
from tallystick.ledger.members import did_you_mean, short

PAGE_ALERTS_MAX = 1000


class AlertPage(NamedTuple):
    """Alerts, those first that changed last, and the cursor of those after them, if there are any."""

    alerts: list[dict[str, Any]]
    next_cursor: str | None


class AlertQuestion(NamedTuple):
    """Which alerts.

    Attributes:
        org_id: of this org; None for everybody's but test orgs', and the operator's own.
        own: the operator's own alone.
        rule: of this rule.
        with_resolved: also those that are over.
    """

    org_id: str | None = None
    own: bool = False
    rule: str | None = None
    with_resolved: bool = False


def find_alerts(
    runtime: Runtime, asked: AlertQuestion, *, cursor: str | None = None, limit: int = 100, for_customer: bool = False
) -> AlertPage:
    """A page of alerts.

    Args:
        cursor: `next_cursor` of the page before; None for the first page.
        for_customer: without what only the operator may know.

    Raises:
        BadInput: `invalid_cursor`, `not_a_choice`: there is no such rule.
        Unavailable: `database_unreachable`.
    """
    check_rule(asked.rule)
    with _reading(runtime, asked.org_id if for_customer else None) as connection:
        before = None
        if cursor is not None:
            events = events_of(connection, cursor)
            if not events or (asked.org_id is not None and events[0].org_id != asked.org_id):
                raise BadInput(
                    "invalid_cursor",
                    f"{cursor[:60]!r} is no cursor of this list",
                    next_step="use the next_cursor of the page before, or none for the first page",
                    where="cursor",
                )
            before = events[-1].n
        rows = list_alerts(
            connection,
            org_id=asked.org_id,
            own=asked.own,
            rule=asked.rule,
            with_resolved=asked.with_resolved,
            before=before,
            limit=limit + 1,
        )
        held = _silenced(runtime, connection, rows)
    page = [alert_members(row, for_customer=for_customer, silenced_by=held.get(row.alert_id)) for row in rows[:limit]]
    return AlertPage(page, page[-1]["alert_id"] if len(rows) > limit else None)


def show_alert(
    runtime: Runtime, alert_id: str, *, org_id: str | None = None, for_customer: bool = False
) -> dict[str, Any]:
    """An alert, and everything that happened to it.

    Args:
        org_id: only this org's; others' are none.

    Raises:
        NotFound: `unknown_alert`.
    """
    rows = alert_events(runtime, alert_id, org_id=org_id)
    with _reading(runtime, org_id) as connection:
        held = _silenced(runtime, connection, rows[-1:])
    members = alert_members(rows[-1], for_customer=for_customer, silenced_by=held.get(alert_id))
    return members | {"history": [_event(row) for row in rows]}


def alert_events(runtime: Runtime, alert_id: str, *, org_id: str | None = None) -> list[AlertRow]:
    """What happened to an alert, in order.

    Raises:
        NotFound: `unknown_alert`.
    """
    with _reading(runtime, org_id) as connection:
        rows = events_of(connection, alert_id)
    if not rows or (org_id is not None and rows[0].org_id != org_id):
        raise NotFound(
            "unknown_alert",
            f"there is no alert {alert_id[:60]!r}",
            next_step="`tally alerts list --all` has the ids of alerts",
            where="alert_id",
        )
    return rows


def check_rule(rule: str | None) -> None:
    """Refuse the name of a rule that there is not.

    Raises:
        BadInput: `not_a_choice`.
    """
    if rule is not None and rule not in RULES:
        raise BadInput(
            "not_a_choice",
            f"there is no rule {short(rule)!r}{did_you_mean(rule, RULES)}",
            next_step=f"name one of {', '.join(RULES)}",
            where="rule",
        )


def alert_members(row: AlertRow, *, for_customer: bool = False, silenced_by: str | None = None) -> dict[str, Any]:
    """An alert as it stands, as plain JSON members."""
    return {
        "alert_id": row.alert_id,
        "org_id": row.org_id,
        "rule": row.rule,
        "title": RULES[row.rule].title,
        "subject": row.subject,
        "state": "resolved" if row.change == "resolved" else "firing",
        "severity": row.severity,
        "level": row.level,
        "summary": row.summary,
        "figures": customers_figures(row.figures) if for_customer else dict(row.figures),
        "next_step": row.next_step,
        "fired_at": format_instant(row.fired_at),
        "changed_at": format_instant(row.at),
        "told": row.held_back is None,
        "held_back": row.held_back,
        "silenced_by": silenced_by,
        "test": row.is_test,
    }


def _reading(runtime: Runtime, org_id: str | None) -> AbstractContextManager[Connection]:
    """A transaction that sees one org's rows alone, or all."""
    return runtime.database.operator() if org_id is None else runtime.database.org(org_id)


def _silenced(runtime: Runtime, connection: Connection, rows: list[AlertRow]) -> dict[str, str]:
    """By alert that fires, the silence that covers it now."""
    firing = [row for row in rows if row.change != "resolved"]
    if not firing:
        return {}
    silences = [one.as_silence() for one in silences_after(connection, None, everybodys=True)]
    found = {}
    for row in firing:
        now = runtime.clock() if row.org_id is None else runtime.now(row.org_id)
        covering = (one for one in silences if one.covers((row.org_id, row.rule, row.subject), now))
        silence = next(covering, None)
        if silence is not None:
            found[row.alert_id] = silence.silence_id
    return found


def _event(row: AlertRow) -> dict[str, Any]:
    return {
        "change": row.change,
        "at": format_instant(row.at),
        "severity": row.severity,
        "level": row.level,
        "summary": row.summary,
        "told": row.held_back is None,
        "held_back": row.held_back,
    }
