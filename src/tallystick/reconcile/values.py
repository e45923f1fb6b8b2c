"""Values in exports, read exactly: whole numbers, decimals, instants, days."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from tallystick.core.errors import BadInput
from tallystick.core.instants import parse_instant
from tallystick.core.money import PICO_PER_USD
from tallystick.reconcile.model import DAY, day_start

QUANTITY_MAX = 10**18
_CHARS_MAX = 64
_EXPONENT_MAX = 40
_INSTANT_MIN, _INSTANT_MAX = 946_684_800, 32_503_680_000
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_PLAIN_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})[ T]([0-9:.]{5,15})\s*(?:UTC|Z|\+00(?::?00)?)?")

Row = Mapping[str, Any]
"""One object of JSON, numbers as integers and Decimals, or one line of CSV, all of it text."""


def bad_value(place: str, name: str, value: object, what: str) -> BadInput:
    """The error for a value that is not what its field holds."""
    return BadInput(
        "invalid_export",
        f"{name} is {value!r:.80}, which is no {what}",
        next_step="export it again, and give the file as the provider made it",
        where=place,
    )


def is_absent(value: object) -> bool:
    """Whether a field says nothing: null, or an empty cell."""
    return value is None or (isinstance(value, str) and not value.strip())


def text(row: Row, *names: str) -> str | None:
    """The first of these fields that says something, as text."""
    for name in names:
        value = row.get(name)
        if not is_absent(value):
            return str(value).strip()
    return None


def whole(row: Row, name: str, place: str) -> int | None:
    """A whole number from 0 on; None where the field is absent."""
    value = row.get(name)
    if is_absent(value):
        return None
    number = _decimal(value, place, name, "whole number")
    if number != number.to_integral_value() or not 0 <= number <= QUANTITY_MAX:
        raise bad_value(place, name, value, "whole number from 0 on")
    return int(number)


def usd(value: object, place: str, name: str) -> tuple[Fraction, Fraction]:
    """An amount of USD in pico-USD, and the smallest difference that its digits can show. It may be below nothing."""
    number = _decimal(value, place, name, "amount")
    exponent = number.as_tuple().exponent
    step = Fraction(10) ** exponent if isinstance(exponent, int) else Fraction(0)
    return Fraction(number) * PICO_PER_USD, step * PICO_PER_USD


def quantity(value: object, place: str, name: str) -> Fraction:
    """An exact number from 0 on."""
    number = Fraction(_decimal(value, place, name, "number"))
    if not 0 <= number <= QUANTITY_MAX:
        raise bad_value(place, name, value, "number from 0 on")
    return number


def _decimal(value: object, place: str, name: str, what: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise bad_value(place, name, value, what)
    written = str(value).strip()
    try:
        number = Decimal(written) if len(written) <= _CHARS_MAX and "_" not in written else Decimal("nan")
    except InvalidOperation:
        raise bad_value(place, name, value, what) from None
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not isinstance(exponent, int) or abs(exponent) > _EXPONENT_MAX:
        raise bad_value(place, name, value, what)
    return number


def instant(value: object, place: str, name: str) -> datetime:
    """Seconds since 1970, RFC 3339, or a date and time without a zone, which is UTC."""
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _of_seconds(Decimal(value), place, name, value)
    written = value.strip() if isinstance(value, str) else ""
    if re.fullmatch(r"[0-9]{9,11}", written):
        return _of_seconds(Decimal(written), place, name, value)
    if _DATE.fullmatch(written):
        return day_start(day(written, place, name))
    plain = _PLAIN_TIME.fullmatch(written)
    try:
        if plain is None:
            return parse_instant(written, where=place)
        clock = plain[2] if plain[2].count(":") == 2 else plain[2] + ":00"
        return parse_instant(f"{plain[1]}T{clock}Z", where=place)
    except BadInput:
        raise bad_value(place, name, value, "instant") from None


def _of_seconds(seconds: Decimal, place: str, name: str, value: object) -> datetime:
    if seconds != seconds.to_integral_value() or not _INSTANT_MIN <= seconds <= _INSTANT_MAX:
        raise bad_value(place, name, value, "instant in seconds since 1970")
    return datetime.fromtimestamp(int(seconds), UTC)


def day(value: object, place: str, name: str) -> date:
    """A date such as 2026-10-09."""
    try:
        if not isinstance(value, str) or not _DATE.fullmatch(value.strip()):
            raise ValueError
        return date.fromisoformat(value.strip())
    except ValueError:
        raise bad_value(place, name, value, "date such as 2026-10-09") from None


def bucket(start: datetime, end: datetime, place: str) -> tuple[datetime, datetime]:
    """A time of one day at most: what is of more cannot be told apart by day.

    Raises:
        BadInput: `bucket_too_long`, `invalid_export`.
    """
    if end <= start:
        raise bad_value(place, "the end of its time", end.isoformat(), f"time after {start.isoformat()}")
    if end > day_start(start.date()) + DAY:
        raise BadInput(
            "bucket_too_long",
            f"it is of the time from {start.isoformat()} to {end.isoformat()}, which is in several days of UTC",
            next_step="export by day (bucket_width=1d) or by hour, in UTC",
            where=place,
        )
    return start, end


def unread(rows: Sequence[Row], known: frozenset[str]) -> list[str]:
    """The fields of these rows that nobody reads and that say something, in order."""
    return sorted(
        {
            name
            for row in rows
            for name, value in row.items()
            if name not in known and not is_absent(value) and value != 0
        }
    )
