"""Instants are aware UTC datetimes inside and RFC 3339 strings outside; the clock comes in from outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
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
