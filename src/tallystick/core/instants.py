"""Instants are aware UTC datetimes inside and RFC 3339 strings outside; the clock comes in from outside."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from tallystick.core.errors import BadInput

Clock = Callable[[], datetime]
"""Gives the present instant, aware and in UTC. The shell passes one in; the core never asks the machine."""


def parse_instant(text: str, *, where: str | None = None) -> datetime:
    """An instant from RFC 3339 text; a bare date means midnight UTC, a time without a zone is refused.

    Raises:
        BadInput: `invalid_time`.
    """
    try:
        value = datetime.fromisoformat(text)
        if len(text) == 10:
            value = value.replace(tzinfo=UTC)
        if value.tzinfo is None:
            raise ValueError("no time zone")
        return value.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            "invalid_time",
            f"{text!r:.80} is not an instant",
            next_step="write it as RFC 3339 with a zone, such as 2026-10-01T00:00:00Z",
            where=where,
        ) from None


def format_instant(value: datetime) -> str:
    """RFC 3339 in UTC with `Z`, microseconds only when there are any."""
    return _utc_text(value if value.tzinfo is UTC else value.astimezone(UTC))


@lru_cache(maxsize=4096)
def _utc_text(instant: datetime) -> str:
    """Of an instant in UTC, where equal ones are the same: a limit's end is told many times."""
    return f"{instant.isoformat()[:-6]}Z"  # in the place of +00:00


_DURATION = re.compile(r"(0|[1-9][0-9]{0,5})([smhdw])")
_CENTURY_SECONDS = 36_525 * 86_400
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str, *, where: str | None = None) -> timedelta:
    """A length of time of at most a century, from a whole number and s, m, h, d or w, such as 24h.

    Raises:
        BadInput: `invalid_duration`.
    """
    match = _DURATION.fullmatch(text)
    seconds = 0 if match is None else int(match[1]) * _UNIT_SECONDS[match[2]]
    if match is None or seconds > _CENTURY_SECONDS:
        raise BadInput(
            "invalid_duration",
            f"{text[:80]!r} is not a duration, or longer than a century",
            next_step="write a whole number and s, m, h, d or w, such as 24h or 30d",
            where=where,
        )
    return timedelta(seconds=seconds)
