"""From a month's sum to a day's to the requests behind it: each adds up to the one above, wherever entries are."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest

from conftest import NOW
from invoicing import event, record
from journal_helpers import publish_price
from rollup_tools import due, some, stored
from tallystick.app.reprice import reprice
from tallystick.app.retention import run_retention
from tallystick.app.rollup import rebuild, roll_up
from tallystick.app.rollup_usage import UsageQuestion, list_day_requests, show_usage, usage_csv, usage_dict
from tallystick.app.runtime import Runtime
from tallystick.app.seal import seal_once
from tallystick.core.errors import BadInput, NotFound

OCTOBER = UsageQuestion("globex", date(2026, 10, 1), date(2026, 10, 31))


def pages(runtime: Runtime, day: date, limit: int, **filters: str) -> list[dict[str, Any]]:
    """All requests of a day, so many at a time."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = list_day_requests(runtime, "globex", day, filters=filters, cursor=cursor, limit=limit)
        assert len(page["requests"]) <= limit
        found += page["requests"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_a_month_is_its_days_and_a_day_is_its_requests(runtime: Runtime) -> None:
    record(runtime, some(120))
    month = usage_dict(show_usage(runtime, replace(OCTOBER, period="month", by=("model",))))
    days = usage_dict(show_usage(runtime, replace(OCTOBER, period="day", by=("model",))))
    assert month["complete"]
    for row in month["rows"]:
        of_model = [one for one in days["rows"] if one["model"] == row["model"]]
        assert sum(one["requests"] for one in of_model) == row["requests"]
    for row in days["rows"]:
        listed = pages(runtime, date.fromisoformat(row["day"]), 2, model=row["model"])
        assert len(listed) == row["requests"]
        assert sum(one["cost_usd"] is None for one in listed) == row["unpriced"]
        seqs = [one["seq"] for one in listed]
        assert seqs == sorted(set(seqs))


def test_meters_and_what_the_customer_paid_are_told_apart(runtime: Runtime) -> None:
    record(runtime, [event("r1"), event("r2", payer="customer"), event("r3", meters={"tokens_in": 5, "tool_calls": 0})])
    said = usage_dict(show_usage(runtime, replace(OCTOBER, by=("meter",))))
    quantities = {row["meter"]: (row["quantity"], row["requests"]) for row in said["meters"]}
    assert quantities == {"tokens_in": ("2005", 3), "tokens_out": ("200", 2), "tool_calls": ("0", 0)}
    (row,) = said["rows"]
    assert row["customer_cost_usd"] not in ("0", row["cost_usd"])
    only = usage_dict(show_usage(runtime, replace(OCTOBER, by=("meter",), filters={"payer": "customer"})))
    assert {one["meter"]: one["requests"] for one in only["meters"]} == {"tokens_in": 1, "tokens_out": 1}


def test_a_correction_counts_on_the_day_of_its_request(runtime: Runtime) -> None:
    record(runtime, [event("r1", model="newest", time=datetime(2026, 10, 3, tzinfo=UTC), meters={"tokens_in": 1000})])
    before = usage_dict(show_usage(runtime, replace(OCTOBER, period="day")))["rows"]
    publish_price(runtime)
    reprice(runtime)
    (after,) = usage_dict(show_usage(runtime, replace(OCTOBER, period="day")))["rows"]
    assert [(row["day"], row["unpriced"], row["cost_usd"]) for row in before] == [("2026-10-03", 1, "0")]
    assert (after["day"], after["requests"], after["unpriced"]) == ("2026-10-03", 1, 0)
    assert after["cost_usd"] == "0.000000007"
    (listed,) = pages(runtime, date(2026, 10, 3), 10)
    assert (listed["correction_seq"], listed["cost_usd"]) == (2, "0.000000007")
    assert stored(runtime) == due(runtime)


def test_names_that_a_spreadsheet_would_run_stay_text(runtime: Runtime) -> None:
    record(runtime, [event("r1", feature="=cmd|' /C calc'!A0")])
    text = "".join(usage_csv(show_usage(runtime, replace(OCTOBER, by=("feature",)))))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["feature"].startswith("'=")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"by": ("user_id",)}, "invalid_usage_question"),
        ({"by": ("model", "model")}, "invalid_usage_question"),
        ({"filters": {"nothing": "x"}}, "invalid_usage_question"),
        ({"period": "week"}, "invalid_usage_question"),
        ({"last": date(2026, 9, 1)}, "invalid_range"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(runtime: Runtime, changed: dict[str, object], code: str) -> None:
    record(runtime, [event("r1")])
    with pytest.raises(BadInput) as caught:
        show_usage(runtime, replace(OCTOBER, **changed))  # type: ignore[arg-type]
    assert caught.value.code == code


def test_nobody_is_told_of_an_org_that_is_not_there(runtime: Runtime) -> None:
    with pytest.raises(NotFound):
        show_usage(runtime, OCTOBER)
    with pytest.raises(NotFound):
        list_day_requests(runtime, "globex", date(2026, 10, 1))


def test_days_whose_entries_have_left_the_database_are_the_same_from_their_blocks(runtime: Runtime) -> None:
    real = datetime.now(UTC).replace(microsecond=0)
    long_ago = replace(runtime, clock=lambda: real - timedelta(days=60))
    moved = timedelta(days=60) - (real - NOW)
    old = [msgspec.structs.replace(one, time=one.time - moved, meters={"tokens_in": 1000}) for one in some(40)]
    record(long_ago, old)
    roll_up(long_ago)
    seal_once(long_ago, everything=True)
    settings = runtime.settings.model_copy(update={"retention_days": 45})
    now = replace(runtime, clock=lambda: real, settings=settings)
    record(now, [event("new", time=real - timedelta(hours=1))])
    publish_price(now)
    assert reprice(now).corrected == len([one for one in old if one.model == "newest"])
    roll_up(now)
    day = old[3].time.date()
    before, listed = stored(now), pages(now, day, 2)
    assert listed
    assert run_retention(now).entries == len(old)  # corrections stay, and what they are of has left
    assert pages(now, day, 2) == listed
    rebuild(now)
    assert stored(now) == before
    rebuild(now, org_id="globex", first=day, last=day)
    assert stored(now) == before
    with now.database.writer() as connection:
        for table in before:
            connection.execute(f"delete from {table}".encode())
        connection.execute("delete from rollup_states")
    roll_up(now)
    assert stored(now) == before


@pytest.mark.parametrize("day", [date.min, date.max])
def test_the_calendars_ends_are_days_as_any_other(runtime: Runtime, day: date) -> None:
    record(runtime, some(3))
    assert list_day_requests(runtime, "globex", day) == {"requests": [], "next_cursor": None}
    assert show_usage(runtime, UsageQuestion("globex", day, day)).rows == []
    rebuild(runtime, org_id="globex", first=day, last=day)
    rebuild(runtime, first=date.min, last=date.max)
    before = stored(runtime)
    rebuild(runtime, first=date.max, last=date.max)
    assert stored(runtime) == before
