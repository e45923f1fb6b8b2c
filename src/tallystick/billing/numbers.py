"""Numbers of invoices and credit notes: a prefix, a year, and a place in that year without gaps.

    INV-2026-000001        the first invoice of the prefix INV in 2026
    INV-CN-2026-000001     the first credit note
    TEST-INV-2026-000001   the first invoice of an org that has a test clock

The year is that of the instant at which the document is issued, in UTC. A series is one prefix and year; whoever
issues takes the next place of it in the transaction that stores the entry, so that a place is never lost nor given
twice.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal

DEFAULT_PREFIX = "INV"
"""What numbers begin with where the contract names no prefix."""
PREFIX = re.compile(r"[A-Z0-9][A-Z0-9-]{0,19}")
_DIGITS = 6


def number_prefix(seller_prefix: str | None, kind: Literal["invoice", "credit_note"], *, is_test: bool) -> str:
    """What the numbers of these documents begin with.

    `number_prefix("ACME", "credit_note", is_test=False) == "ACME-CN"`.
    """
    prefix = seller_prefix or DEFAULT_PREFIX
    return f"{'TEST-' if is_test else ''}{prefix}{'-CN' if kind == 'credit_note' else ''}"


def series_of(prefix: str, now: datetime) -> str:
    """The series that a document issued at `now` is numbered in."""
    return f"{prefix}-{now.astimezone(UTC).year}"


def number_at(series: str, place: int) -> str:
    """The number at a place, from 1, of a series: `number_at("INV-2026", 1) == "INV-2026-000001"`."""
    return f"{series}-{place:0{_DIGITS}d}"


def place_of(number: str) -> tuple[str, int]:
    """The series and the place that a number stands for; the reverse of `number_at`.

    Raises:
        ValueError: it is no number.
    """
    series, dash, digits = number.rpartition("-")
    if not dash or not digits.isascii() or not digits.isdigit() or number_at(series, int(digits)) != number:
        raise ValueError(f"{number!r:.80} is no number of a document")
    return series, int(digits)
