"""Test clocks: an org that only tries things out has a clock of its own, put forward through months in seconds.

Everything that happens to it by time happens by that clock: holds and credits end, included credits come in, months
close and are invoiced. Whoever puts the clock forward has all of that done on the way, in its order. The org's numbers
come from a series of their own (`TEST-…`), and its money is in none of the seller's sums.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tallystick.app.alerts import evaluate
from tallystick.app.audit import Act, record_act
from tallystick.app.ended_months import ended_months, next_final
from tallystick.app.invoice_due import finalize_due
from tallystick.app.invoice_life import FinalResult
from tallystick.app.operate import existing_org
from tallystick.app.runtime import Runtime
from tallystick.contract.windows import window_at
from tallystick.core.errors import BadInput, Conflict
from tallystick.core.instants import format_instant
from tallystick.core.periods import load_zone
from tallystick.journal.test_clocks import ClockRow, clock_history, clock_of, lock_org, next_end, put_clock
from tallystick.usage.event_problems import OLDEST, check_text

ADVANCE_MAX = timedelta(days=366 * 5)
"""How far a clock is put forward at a time."""
CLOCK_MIN, CLOCK_MAX = OLDEST, datetime(9000, 1, 1, tzinfo=UTC)
"""Where a clock may stand: not before the oldest event that there can be, and where every term still has its end."""
_STEP = re.compile(r"([1-9][0-9]{0,3})(h|d|w|mo|y)")
Progress = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class TestClock:
    """Where the clock of a test org stands, and where it was put before."""

    __test__ = False  # pytest takes it for none of its own

    org_id: str
    at: datetime
    history: tuple[ClockRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "org_id": self.org_id,
            "at": format_instant(self.at),
            "history": [
                {"at": format_instant(one.at), "author": one.author, "recorded_at": format_instant(one.recorded_at)}
                for one in self.history
            ],
        }


@dataclass(frozen=True, slots=True)
class Advanced:
    """What putting a clock forward came to: where it stands, how many entries followed by themselves, what was
    invoiced.
    """

    org_id: str
    before: datetime
    at: datetime
    entries: int
    invoiced: tuple[FinalResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "org_id": self.org_id,
            "before": format_instant(self.before),
            "at": format_instant(self.at),
            "entries": self.entries,
            "invoiced": [one.as_dict() for one in self.invoiced],
        }


def make_test_org(runtime: Runtime, org_id: str, at: datetime, *, author: str) -> TestClock:
    """Make an org a test org, whose clock stands at `at`; the same again changes nothing.

    Args:
        org_id: of whom nothing is recorded yet.

    Raises:
        BadInput: `invalid_text`, `invalid_time`.
        Conflict: `not_a_test_org`, when it was there before; `test_clock_exists`, when its clock began otherwise.
        Unavailable: `database_unreachable`.
    """
    check_text("org_id", org_id)
    check_text("author", author)
    if not CLOCK_MIN <= at <= CLOCK_MAX:
        raise BadInput(
            "invalid_time",
            f"no clock stands at {format_instant(at)}",
            next_step=f"begin between {format_instant(CLOCK_MIN)} and {format_instant(CLOCK_MAX)}",
            where="test_clock",
        )
    with runtime.database.writer() as connection:
        is_new = lock_org(connection, org_id)
        history = clock_history(connection, org_id)
        if history:
            if history[0].at != at:
                raise Conflict(
                    "test_clock_exists",
                    f"the clock of {org_id} began at {format_instant(history[0].at)}",
                    next_step=f"put it forward: tally clock advance {org_id} --to TIME",
                    where="test_clock",
                )
        elif not is_new:
            raise _not_a_test_org(org_id, "it was there before, and lives by the machine's clock")
        else:
            put_clock(connection, org_id, at, author, runtime.clock())
            made = Act("clock.make", org_id, runtime.clock(), org_id, author, after={"at": format_instant(at)})
            record_act(connection, made)
    runtime.org_clocks.forget()
    with runtime.database.org(org_id) as connection:
        history = clock_history(connection, org_id)
    return TestClock(org_id, history[-1].at, tuple(history))


def show_clock(runtime: Runtime, org_id: str) -> TestClock:
    """Where the clock of a test org stands.

    Raises:
        BadInput: `invalid_text`.
        NotFound: `unknown_org`.
        Conflict: `not_a_test_org`.
        Unavailable: `database_unreachable`.
    """
    check_text("org_id", org_id)
    with runtime.database.org(org_id) as connection:
        history = clock_history(connection, org_id)
    if not history:
        existing_org(runtime, org_id)
        raise _not_a_test_org(org_id, "it has no clock of its own")
    return TestClock(org_id, history[-1].at, tuple(history))


def advance_clock(
    runtime: Runtime,
    org_id: str,
    *,
    to: datetime | None = None,
    by: str | None = None,
    author: str,
    progress: Progress | None = None,
) -> Advanced:
    """Put the clock of a test org forward, and have done what is due on the way, in order.

    It stops at each instant at which something ends, begins or is final, and has it done by that instant. In the end
    the org's alerts are looked at. Killed on the way, it has come as far as the clock says, and doing it again goes on
    from there.

    Args:
        to, by: one of the two: an instant, or how far, such as `1mo`, `10d`, `36h`, `2w` or `1y`; months and years on
            the org's own calendar.
        progress: called with each instant that it stops at, as text.

    Raises:
        BadInput: `invalid_advance`.
        NotFound: `unknown_org`: it is on no plan yet.
        Conflict: `not_a_test_org`, `clock_goes_forward`.
        Unavailable: `database_unreachable`, `journal_busy`, …; doing it again is safe.
    """
    check_text("author", author)
    clock = show_clock(runtime, org_id)
    zone = _zone(runtime, org_id)
    target = _target(clock, zone, to, by)
    at, entries, invoiced = clock.at, 0, list[FinalResult]()
    while True:
        entries += runtime.operations.keep_up(org_id).result().entries
        invoiced += [one for one in finalize_due(runtime, org_id) if one.status == "issued"]
        if at >= target:
            # What cannot be looked at now is in the log, and is looked at by the job.
            evaluate(runtime, org_id)
            return Advanced(org_id, clock.at, at, entries, tuple(invoiced))
        act = None
        if at == clock.at:  # one act, however often it stops on the way
            stands, to_be = format_instant(at), format_instant(target)
            act = Act("clock.advance", org_id, runtime.clock(), org_id, author, None, {"at": stands}, {"at": to_be})
        at = min(_next_instant(runtime, org_id, at, zone), target)
        _put(runtime, org_id, at, author, act)
        if progress is not None:
            progress(format_instant(at))


def _put(runtime: Runtime, org_id: str, at: datetime, author: str, act: Act | None) -> None:
    with runtime.database.writer() as connection:
        lock_org(connection, org_id)
        stands = clock_of(connection, org_id)
        if stands is None or stands < at:  # another may have put it further
            put_clock(connection, org_id, at, author, runtime.clock())
            if act is not None:
                record_act(connection, act)
    runtime.org_clocks.forget()


def _next_instant(runtime: Runtime, org_id: str, at: datetime, zone: str) -> datetime:
    """When something is due next: a hold or credits end, a month begins, or an invoice is final."""
    with runtime.database.org(org_id) as connection:
        ends = next_end(connection, org_id, at)
    final = next_final(ended_months(runtime, org_id), at)
    return min(one for one in (ends, final, window_at("month", zone, at).ends_at) if one is not None)


def _zone(runtime: Runtime, org_id: str) -> str:
    history = existing_org(runtime, org_id).history
    return history[-1].time_zone if history else "UTC"


def _target(clock: TestClock, zone: str, to: datetime | None, by: str | None) -> datetime:
    if (to is None) == (by is None):
        raise BadInput("invalid_advance", "say until when, or by how much", next_step="give --to or --by", where="to")
    target = to if to is not None else later(clock.at, by or "", zone)
    if target < clock.at:
        raise Conflict(
            "clock_goes_forward",
            f"the clock of {clock.org_id} stands at {format_instant(clock.at)}: it does not go back to "
            f"{format_instant(target)}",
            next_step="name a later instant; begin anew with another test org",
            where="to",
        )
    if target - clock.at > ADVANCE_MAX:
        raise BadInput(
            "invalid_advance", "that is more than five years at once", next_step="go there in several steps", where="to"
        )
    if target > CLOCK_MAX:
        raise _beyond("to")
    return target


def later(at: datetime, by: str, zone: str) -> datetime:
    """An instant so much later: hours as such, the rest on the calendar of the zone.

    A month later is the same day of the next month at the same time of day, or that month's last day.

    Raises:
        BadInput: `invalid_advance`.
    """
    match = _STEP.fullmatch(by)
    if match is None:
        raise BadInput(
            "invalid_advance",
            f"{by!r:.40} is not how far a clock can be put",
            next_step="write a whole number and h, d, w, mo or y, such as 1mo",
            where="by",
        )
    count, unit = int(match[1]), match[2]
    try:
        return _stepped(at, count, unit, zone)
    except (OverflowError, ValueError):
        raise _beyond("by") from None


def _stepped(at: datetime, count: int, unit: str, zone: str) -> datetime:
    if unit == "h":
        return at + timedelta(hours=count)
    tz = load_zone(zone)
    here = at.astimezone(tz).replace(tzinfo=None)
    if unit in ("d", "w"):
        there = here + timedelta(days=count * (7 if unit == "w" else 1))
    else:
        months = here.year * 12 + here.month - 1 + count * (12 if unit == "y" else 1)
        year, month = divmod(months, 12)
        there = here.replace(year=year, month=month + 1, day=min(here.day, calendar.monthrange(year, month + 1)[1]))
    return there.replace(tzinfo=tz).astimezone(UTC)


def _beyond(where: str) -> BadInput:
    return BadInput(
        "invalid_advance",
        f"no clock goes beyond {format_instant(CLOCK_MAX)}",
        next_step="go less far, or begin anew with another test org",
        where=where,
    )


def _not_a_test_org(org_id: str, why: str) -> Conflict:
    return Conflict(
        "not_a_test_org",
        f"{org_id} is no test org: {why}",
        next_step="make a test org: tally orgs set NEW-ORG --test-clock TIME --contract NAME --plan PLAN",
        where="org_id",
    )
