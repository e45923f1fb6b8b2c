"""When a delivery that failed is tried again: a fixed schedule over three days, with jitter."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
PAUSES: Final = (
    5 * _SECOND, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR,
)  # fmt: skip
"""How long after each attempt that failed the next one comes, at least."""
ATTEMPTS_MAX: Final = len(PAUSES) + 1
JITTER: Final = 0.1
"""By how much of itself a pause is longer at most, so that what failed together does not come again together."""
ASKED_MAX: Final = 24 * _HOUR
"""The longest wait that a receiver may ask for by `Retry-After`."""


def pause_after(attempt: int, random: float, asked_seconds: int | None = None) -> timedelta:
    """How long to wait after that attempt has failed.

    Args:
        attempt: counted from 1; below `ATTEMPTS_MAX`, for after that there is none.
        random: from 0 up to 1, drawn for this pause.
        asked_seconds: what the receiver asked for; a longer wait than ours is granted, up to `ASKED_MAX`.
    """
    pause = PAUSES[attempt - 1] * (1 + JITTER * random)
    return pause if asked_seconds is None else max(pause, min(timedelta(seconds=asked_seconds), ASKED_MAX))
