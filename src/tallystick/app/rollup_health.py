"""Whether rollups are as far as the ledger: how far behind, since when, and which days are over and not whole yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from tallystick.app.health import Check
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.journal.rollup_read import Backlog, backlog, missing_days, rolled_entries
from tallystick.rollup.model import OPEN_FOR

LATE_AFTER = timedelta(hours=2)
"""How long entries may wait to be added up before somebody is told: two of the hourly runs."""
_DAYS_MAX = 100


@dataclass(frozen=True, slots=True)
class MissingDay:
    """A day that is over, and of which an org has entries that are not added up."""

    org_id: str
    day: date


@dataclass(frozen=True, slots=True)
class RollupHealth:
    """How rollups fare.

    Attributes:
        ok: nothing waits longer than `LATE_AFTER`, and no day that is over lacks entries that long.
        detail: the same in a sentence.
        orgs_behind, entries_behind: what waits to be added up.
        oldest_at: when the entry that has waited longest was recorded; None when none waits.
        lag_seconds: how long that is ago.
        missing: days that are over and lack entries, at most 100 of them; none while nothing is late.
        rolled_at: when a run last added anything up.
    """

    ok: bool
    detail: str
    orgs_behind: int
    entries_behind: int
    oldest_at: datetime | None
    lag_seconds: float
    missing: tuple[MissingDay, ...]
    rolled_at: datetime | None


def rollup_health(runtime: Runtime) -> RollupHealth:
    """How far rollups are behind the ledger.

    Raises:
        Unavailable: `database_unreachable`.
    """
    now = runtime.clock()
    with runtime.database.operator() as connection:
        found = backlog(connection)
        late = found.oldest_at is not None and now - found.oldest_at > LATE_AFTER
        days = missing_days(connection, now - OPEN_FOR, _DAYS_MAX) if late else []
    lag = max(0.0, (now - found.oldest_at).total_seconds()) if found.oldest_at is not None else 0.0
    return RollupHealth(
        ok=not late,
        detail=_sentence(found, late, len(days)),
        orgs_behind=found.orgs,
        entries_behind=found.entries,
        oldest_at=found.oldest_at,
        lag_seconds=lag,
        missing=tuple(MissingDay(org_id, day) for org_id, day in days),
        rolled_at=found.rolled_at,
    )


def check_rollups(runtime: Runtime) -> Check:
    """Rollups as one of the things that readiness tells: they may degrade the service, and never stop it."""
    try:
        health = rollup_health(runtime)
    except TallyError as error:
        return Check("rollups", False, error.detail)
    figures: dict[str, int | float | str | None] = {
        "entries_behind": health.entries_behind,
        "lag_seconds": round(health.lag_seconds, 3),
        "missing_days": len(health.missing),
        "rolled_at": None if health.rolled_at is None else format_instant(health.rolled_at),
    }
    return Check("rollups", health.ok, health.detail, figures)


def entries_behind(runtime: Runtime, org_id: str | None = None) -> int:
    """How many entries are not added up yet."""
    with runtime.database.operator() as connection:
        return backlog(connection, org_id).entries


def entries_rolled(runtime: Runtime, org_id: str | None = None) -> int:
    """How many entries are added up."""
    with runtime.database.operator() as connection:
        return rolled_entries(connection, org_id)


def _sentence(found: Backlog, late: bool, days: int) -> str:
    if not found.entries:
        return "every entry is added up"
    said = f"{found.entries:,} entries of {found.orgs:,} orgs are not added up yet"
    if not late:
        return said
    over = f"; {days:,} days that are over lack some" if days else ""
    return f"{said}, some for longer than {LATE_AFTER.total_seconds() / 3600:g} hours{over}: run `tally rollup run`"
