"""Billing periods: half-open instants [start, end), computed once from a calendar month and a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallystick.core.errors import BadInput

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Period:
    """One billing period of one org. `label` is the calendar month, such as "2026-10"; the bounds are UTC."""

    label: str
    start: datetime
    end: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end


def load_zone(name: str, *, where: str | None = None) -> ZoneInfo:
    """The IANA time zone of that name.

    Raises:
        BadInput: `unknown_time_zone`.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise BadInput(
            "unknown_time_zone",
            f"{name!r:.80} is not an IANA time zone",
            next_step="use a name such as UTC or Europe/Paris",
            where=where,
        ) from None


def month_period(label: str, zone: str = "UTC") -> Period:
    """The month `label` ("2026-10") as it begins and ends on the clocks of `zone`.

    Midnight may be skipped or repeated by a daylight-saving change; `fold=0` picks the first instant, and
    one month's end is always the next one's start.

    Raises:
        BadInput: `invalid_month` or `unknown_time_zone`.
    """
    match = _MONTH.fullmatch(label)
    if match is None or not 1970 <= int(match[1]) <= 9998:
        raise BadInput(
            "invalid_month", f"{label!r:.80} is not a month", next_step="write it as YYYY-MM, such as 2026-10"
        )
    year, month = int(match[1]), int(match[2])
    tz = load_zone(zone)
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    return Period(
        label,
        datetime(year, month, 1, tzinfo=tz).astimezone(UTC),
        datetime(*following, 1, tzinfo=tz).astimezone(UTC),
    )
