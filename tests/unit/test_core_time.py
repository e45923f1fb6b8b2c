"""Periods are half-open instants that tile time in every zone; instants are read strictly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.periods import month_period

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Asia/Beirut",
]


@given(st.integers(1970, 2100), st.integers(1, 12), st.sampled_from(ZONES))
def test_one_month_ends_where_the_next_begins(year: int, month: int, zone: str) -> None:
    following = (year + 1, 1) if month == 12 else (year, month + 1)
    this = month_period(f"{year}-{month:02d}", zone)
    after = month_period(f"{following[0]}-{following[1]:02d}", zone)
    assert this.end == after.start
    assert this.start in this
    assert this.end not in this
    assert timedelta(days=27, hours=22) < this.end - this.start < timedelta(days=31, hours=2)


def test_a_month_with_a_daylight_saving_change_is_an_hour_longer_or_shorter() -> None:
    march, october = month_period("2026-03", "Europe/Berlin"), month_period("2026-10", "Europe/Berlin")
    assert march.end - march.start == timedelta(days=31) - timedelta(hours=1)
    assert october.end - october.start == timedelta(days=31) + timedelta(hours=1)
    assert october.start == datetime(2026, 9, 30, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    "label", ["2026-13", "2026-00", "2026-1", "26-01", "2026-10-01", "", "9999-12", "0001-01", "２０２６-10", "2026-1٠"]
)
def test_what_is_not_a_month_is_refused(label: str) -> None:
    with pytest.raises(BadInput) as caught:
        month_period(label)
    assert caught.value.code == "invalid_month"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_what_is_not_a_time_zone_is_refused(zone: str) -> None:
    with pytest.raises(BadInput) as caught:
        month_period("2026-10", zone)
    assert caught.value.code == "unknown_time_zone"


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)))
def test_every_instant_survives_the_way_through_text(naive: datetime) -> None:
    instant = naive.replace(tzinfo=UTC)
    assert parse_instant(format_instant(instant)) == instant


def test_offsets_are_read_and_a_bare_date_is_midnight_in_utc() -> None:
    assert parse_instant("2026-10-01T02:00:00+02:00") == datetime(2026, 10, 1, tzinfo=UTC)
    assert parse_instant("2026-10-01") == datetime(2026, 10, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-10-01T00:00:00", "yesterday", "", "2026-02-30", "0001-01-01T00:00:00+14:00"])
def test_a_time_without_a_zone_or_out_of_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_instant(text, where="time")
    assert (caught.value.code, caught.value.where) == ("invalid_time", "time")
