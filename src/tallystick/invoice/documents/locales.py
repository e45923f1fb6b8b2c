"""Dates, numbers and amounts as the reader of a document writes them. Every digit is kept: nothing here rounds."""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal, localcontext
from functools import cache
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal

from tallystick.invoice.wording import cut

STAND_IN = "en-US"
_DIGITS_MAX = 200
_FRACTION_PLACES = 6
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
"""Control characters, halves of characters, and what turns the direction of writing."""


_SPACE = re.compile("[ \t\n]+")


class Writer:
    """Writes dates and numbers by one locale; `STAND_IN` where the language is none that is known."""

    def __init__(self, language: str | None) -> None:
        self.locale = _locale(language or STAND_IN)
        self.tag = str(self.locale).replace("_", "-")

    def number(self, value: str | int, *, least_decimals: int = 0) -> str:
        """A decimal with all its digits; of a fraction such as "170/31" its first six decimals, with ≈ before them."""
        text = str(value)
        if "/" in text:
            return f"≈ {self.number(cut(text, _FRACTION_PLACES), least_decimals=least_decimals)}"
        decimals = max(len(text.partition(".")[2]), least_decimals)
        pattern = f"#,##0{'.' + '0' * decimals if decimals else ''}"
        with localcontext(prec=_DIGITS_MAX):
            return format_decimal(
                Decimal(text), _grouping(self.locale, pattern), self.locale, decimal_quantization=False
            )

    def amount(self, value: str) -> str:
        """An amount without its currency, with two decimals at least."""
        return self.number(value, least_decimals=2)

    def usd(self, value: str) -> str:
        """An amount to the cent, with its currency: "$1,234.50", "1.234,50 $"."""
        with localcontext(prec=_DIGITS_MAX):
            return format_currency(Decimal(value), "USD", locale=self.locale)

    def day(self, value: date) -> str:
        """A day: "November 2, 2026"."""
        return format_date(value, "long", self.locale)

    def month(self, label: str) -> str:
        """A calendar month: "October 2026" of "2026-10"."""
        year, month = map(int, label.split("-"))
        return format_date(date(year, month, 1), "LLLL y", self.locale)

    def instant(self, value: datetime, zone: str) -> str:
        """A date and a time on the clocks of a zone."""
        return format_datetime(value, "d MMM y, HH:mm", ZoneInfo(zone), self.locale)


def plain(text: str) -> str:
    """Text from outside as one line, without what steers a terminal or a page."""
    return _SPACE.sub(" ", _STEERING.sub("", unicodedata.normalize("NFC", text))).strip(" ")


@cache
def _locale(language: str) -> Locale:
    for tag in (language, language.split("-", maxsplit=1)[0]):
        try:
            return Locale.parse(tag, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    return Locale.parse(STAND_IN, sep="-")


def _grouping(locale: Locale, pattern: str) -> str:
    """The pattern with the locale's own grouping: "12,34,567" where lakhs are counted."""
    own = str(locale.decimal_formats[None].pattern).partition(";")[0].partition(".")[0]
    return pattern.replace("#,##0", own) if re.fullmatch(r"[#,0]+", own) else pattern
