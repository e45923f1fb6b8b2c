"""The windows of limits: half-open, on the clocks of a zone, and right where those clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.contract.windows import Window, window_at
from tallystick.core.errors import BadInput
from tallystick.core.periods import month_period

ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham")
MOMENT = timedelta(microseconds=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def bounds(per, zone: str, instant: str) -> tuple[str, str]:
    window = window_at(per, zone, at(instant))
    return tuple(f"{bound:%m-%dT%H:%M}" for bound in (window.starts_at, window.ends_at))


@pytest.mark.parametrize(
    ("zone", "noon", "start", "end"),
    [
        # The clocks go forward: a day of 23 hours (of 23½ on Lord Howe, which moves by half an hour).
        ("Europe/Paris", "2026-03-29T12:00+02:00", "03-28T23:00", "03-29T22:00"),
        ("America/New_York", "2026-03-08T12:00-04:00", "03-08T05:00", "03-09T04:00"),
        ("Australia/Lord_Howe", "2026-10-04T12:00+11:00", "10-03T13:30", "10-04T13:00"),
        # They go back: a day of 25 hours (24½).
        ("Europe/Paris", "2026-10-25T12:00+01:00", "10-24T22:00", "10-25T23:00"),
        ("America/New_York", "2026-11-01T12:00-05:00", "11-01T04:00", "11-02T05:00"),
        ("Australia/Lord_Howe", "2026-04-05T12:00+10:30", "04-04T13:00", "04-05T13:30"),
        # And a day like any other.
        ("Europe/Paris", "2026-07-14T12:00+02:00", "07-13T22:00", "07-14T22:00"),
    ],
)
def test_a_day_lasts_from_midnight_to_midnight_on_the_zones_clocks(zone, noon, start, end):
    assert bounds("day", zone, noon) == (start, end)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("month", range(1, 13))
def test_a_month_of_limits_is_a_month_of_bills(zone, month):
    period = month_period(f"2026-{month:02d}", zone)
    for instant in (period.start, period.start + timedelta(days=14), period.end - MOMENT):
        assert window_at("month", zone, instant) == Window(period.start, period.end)
    assert window_at("month", zone, period.end).starts_at == period.end
    assert window_at("month", zone, period.start - MOMENT).ends_at == period.start


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("day", ["2026-01-01", "2026-03-01", "2026-03-29", "2026-10-25", "2026-11-01", "2028-02-29"])
def test_midnight_belongs_to_the_day_that_it_begins(zone, day):
    midnight = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert window_at("day", zone, midnight).starts_at == midnight
    assert window_at("day", zone, midnight - MOMENT).ends_at == midnight


@pytest.mark.parametrize(
    ("zone", "instant", "start", "end"),
    [
        ("Europe/Paris", "2026-03-29T23:59:59+02:00", "03-22T23:00", "03-29T22:00"),  # a Sunday, an hour short
        ("Europe/Paris", "2026-03-30T00:00:00+02:00", "03-29T22:00", "04-05T22:00"),  # Monday
        ("America/New_York", "2026-11-01T12:00-05:00", "10-26T04:00", "11-02T05:00"),
        ("Australia/Lord_Howe", "2026-04-05T12:00+10:30", "03-29T13:00", "04-05T13:30"),
        ("Europe/Paris", "2027-01-01T12:00+01:00", "12-27T23:00", "01-03T23:00"),  # week 53 of 2026
    ],
)
def test_a_week_begins_with_monday(zone, instant, start, end):
    assert bounds("week", zone, instant) == (start, end)


@pytest.mark.parametrize(
    ("zone", "instant", "start", "end"),
    [
        ("Asia/Kolkata", "2026-07-01T00:10+00:00", "06-30T23:30", "07-01T00:30"),  # five and a half hours ahead
        # The hour from two to three comes twice in Paris, and is two hours.
        ("Europe/Paris", "2026-10-25T00:30+00:00", "10-25T00:00", "10-25T01:00"),
        ("Europe/Paris", "2026-10-25T01:30+00:00", "10-25T01:00", "10-25T02:00"),
        # Half of one comes twice on Lord Howe: it is cut where the clocks go back.
        ("Australia/Lord_Howe", "2026-04-04T14:59+00:00", "04-04T14:00", "04-04T15:00"),
        ("Australia/Lord_Howe", "2026-04-04T15:00+00:00", "04-04T15:00", "04-04T15:30"),
        ("Australia/Lord_Howe", "2026-04-04T15:30+00:00", "04-04T15:30", "04-04T16:30"),
        # Newfoundland once changed its clocks at one minute past midnight: an hour of one minute.
        ("America/St_Johns", "2006-10-29T02:30:30+00:00", "10-29T02:30", "10-29T02:31"),
        ("America/St_Johns", "2006-10-29T02:31:00+00:00", "10-29T02:31", "10-29T03:30"),
        # And half of one is left out when they go forward.
        ("Australia/Lord_Howe", "2026-10-03T15:29+00:00", "10-03T14:30", "10-03T15:30"),
        ("Australia/Lord_Howe", "2026-10-03T15:30+00:00", "10-03T15:30", "10-03T16:00"),
    ],
)
def test_an_hour_begins_when_the_clock_shows_a_full_one_and_is_never_longer(zone, instant, start, end):
    assert bounds("hour", zone, instant) == (start, end)


def test_dates_that_a_zone_left_out_or_had_twice_have_windows_too():
    # Samoa went from the 29th of December 2011 to the 31st.
    assert bounds("day", "Pacific/Apia", "2011-12-30T09:59+00:00") == ("12-29T10:00", "12-30T10:00")
    assert bounds("day", "Pacific/Apia", "2011-12-30T10:00+00:00") == ("12-30T10:00", "12-31T10:00")
    # At one minute past midnight, Newfoundland's clocks went back into the day before.
    midnight = at("2006-10-29T00:00-02:30")
    for minutes in (0, 1, 30, 61):
        assert window_at("day", "America/St_Johns", midnight + timedelta(minutes=minutes)).starts_at == midnight
    assert window_at("day", "America/St_Johns", midnight - MOMENT).ends_at == midnight


KINDS = st.sampled_from(("minute", "hour", "day", "week", "month"))
ANY_ZONE = st.sampled_from((*ZONES, "UTC", "Asia/Kathmandu", "America/St_Johns", "Pacific/Apia", "Africa/Cairo"))
INSTANTS = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(KINDS, ANY_ZONE, INSTANTS)
@example("day", "America/St_Johns", datetime(2006, 10, 29, 2, 31, tzinfo=UTC))
@example("day", "America/Toronto", datetime(1919, 3, 31, 4, 45, tzinfo=UTC))
@example("hour", "Australia/Lord_Howe", datetime(2026, 4, 4, 15, 15, tzinfo=UTC))
@example("hour", "Pacific/Chatham", datetime(2026, 9, 26, 13, 21, 33, 999_999, tzinfo=UTC))
@example("hour", "Antarctica/Troll", datetime(2026, 3, 29, 0, 59, 59, 1, tzinfo=UTC))
def test_windows_hold_their_instant_and_follow_each_other_without_a_gap(per, zone, instant):
    window = window_at(per, zone, instant)
    assert window.starts_at <= instant < window.ends_at
    assert window_at(per, zone, window.starts_at) == window
    assert window_at(per, zone, window.ends_at - MOMENT) == window
    assert window_at(per, zone, window.ends_at).starts_at == window.ends_at
    assert window_at(per, zone, window.starts_at - MOMENT).ends_at == window.starts_at
    longest = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(hours=48)}
    assert window.ends_at - window.starts_at <= longest.get(per, timedelta(days=32))


def test_a_zone_that_does_not_exist_is_refused():
    with pytest.raises(BadInput) as caught:
        window_at("day", "Europe/Pariss", at("2026-10-25T12:00+01:00"))
    assert caught.value.code == "unknown_time_zone"
