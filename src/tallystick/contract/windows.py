"""The windows that limits and budgets count in: half-open instants [start, end), on the clocks of the org's time zone.

A day lasts from one local midnight to the next, so that it has 23 or 25 hours when the clocks change; a week begins
with Monday, a month with its first day. Minutes and hours are real ones, that begin when the local clock shows a full
one; where the clocks change within one, it is cut there, and none is ever longer than it is called. The windows of one
kind follow each other without a gap.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from tallystick.contract.model import LimitWindow
from tallystick.core.periods import load_zone

_SECONDS = {"minute": 60, "hour": 3600}
_ONE_DAY = timedelta(days=1)
_TICK = timedelta(seconds=1)


class Window(msgspec.Struct, frozen=True):
    """One window; both bounds are instants in UTC, `ends_at` is outside."""

    starts_at: datetime
    ends_at: datetime


_recent: dict[tuple[LimitWindow, str], Window] = {}
"""The window last found of each kind and zone: nearly always the next one asked for, and right whenever it fits."""


def window_at(per: LimitWindow, zone: str, instant: datetime) -> Window:
    """The window of that kind which the instant falls in, on the clocks of the IANA time zone.

    Raises:
        BadInput: `unknown_time_zone`.
    """
    recent = _recent.get((per, zone))
    if recent is not None and recent.starts_at <= instant < recent.ends_at:
        return recent
    tz = load_zone(zone)
    window = _clock_window(_SECONDS[per], tz, instant) if per in _SECONDS else _date_window(per, tz, instant)
    _recent[per, zone] = window
    return window


def _date_window(per: LimitWindow, tz: ZoneInfo, instant: datetime) -> Window:
    day = instant.astimezone(tz).date()
    first = _first_day(per, day)
    start, end = _midnight(first, tz), _midnight(_following(per, first), tz)
    # Where clocks were set back across midnight, a date comes twice: the window is the one that holds the instant.
    while instant >= end:
        first = _following(per, first)
        start, end = end, _midnight(_following(per, first), tz)
    while instant < start:
        first = _first_day(per, first - _ONE_DAY)
        start, end = _midnight(first, tz), start
    return Window(start, end)


def _first_day(per: LimitWindow, day: date) -> date:
    if per == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if per == "month" else day


def _following(per: LimitWindow, first: date) -> date:
    if per == "month":
        return date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return first + timedelta(days=7 if per == "week" else 1)


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    """The first instant of the day, as `core.periods.month_period` has it: a month of limits is a month of bills."""
    return datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC)


def _clock_window(seconds: int, tz: ZoneInfo, instant: datetime) -> Window:
    offset = _offset(tz, instant)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    elapsed = (instant - epoch) // _TICK + offset
    start = epoch + timedelta(seconds=elapsed - elapsed % seconds - offset)
    end = start + timedelta(seconds=seconds)
    if _offset(tz, start) != offset:
        start = _change(tz, start, instant)
    if _offset(tz, end - _TICK) != offset:
        end = _change(tz, epoch + (instant - epoch) // _TICK * _TICK, end)  # clocks change at full seconds
    return Window(start, end)


def _offset(tz: ZoneInfo, instant: datetime) -> int:
    """Seconds that the zone's clocks are ahead of UTC."""
    ahead = instant.astimezone(tz).utcoffset()
    return 0 if ahead is None else int(ahead.total_seconds())


def _change(tz: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant between the two from which the clocks show the later one's offset."""
    late = _offset(tz, after)
    low, high = before, before + ((after - before) // _TICK + 1) * _TICK
    while high - low > _TICK:
        middle = low + (high - low) // _TICK // 2 * _TICK
        if _offset(tz, middle) == late:
            high = middle
        else:
            low = middle
    return high
