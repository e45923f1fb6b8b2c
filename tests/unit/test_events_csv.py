"""Rows become events by a recipe; the same file gives the same events."""

from __future__ import annotations

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest

from tallystick.app.events_csv import CsvEvent, Recipe, events_of_csv
from tallystick.core.errors import BadInput, Problems
from tallystick.usage.event import UsageEvent

NOW = datetime(2026, 11, 2, tzinfo=UTC)
COLUMNS = {"time": "TIMESTAMP", "tokens_in": "ContextTokens", "tokens_out": "GeneratedTokens"}
CONSTANTS = {
    "org_id": "acme",
    "user_id": "user-{row%3}",
    "session_id": "session-{row}",
    "feature": "code",
    "environment": "production",
    "provider": "openai",
    "model": "gpt-4o",
    "attributes.seen": "{ContextTokens}!",
    "tool_calls": "1",
}
FILE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16T18:17:04+01:00,3180,8\n"
)


BAD = b"\xff".decode(errors="surrogateescape")
"""A byte that is not UTF-8, as the file is opened."""


def read(text: str, columns: dict[str, str] = COLUMNS, constants: dict[str, str] = CONSTANTS) -> list[CsvEvent]:
    return list(events_of_csv(StringIO(text), Recipe(columns, constants), file_sha256="ab" * 32, now=NOW))


def test_columns_are_mapped_and_constants_are_filled_in() -> None:
    first, second = (row.event for row in read(FILE))
    assert isinstance(first, UsageEvent)
    assert isinstance(second, UsageEvent)
    assert first.time == datetime(2023, 11, 16, 18, 17, 3, 979960, tzinfo=UTC)
    assert second.time == datetime(2023, 11, 16, 17, 17, 4, tzinfo=UTC)
    assert first.meters == {"tokens_in": 4808, "tokens_out": 10, "tool_calls": 1}
    assert (first.user_id, second.user_id) == ("user-1", "user-2")
    assert (first.session_id, first.attributes) == ("session-1", {"seen": "4808!"})
    assert (first.request_id, second.request_id) == ("csv-abababababababab-1", "csv-abababababababab-2")


def test_a_column_says_who_paid_and_an_empty_cell_says_that_we_did() -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens,Key\n"
    text += "".join(f"2023-11-16 18:00:0{n},1,1,{key}\n" for n, key in enumerate(("customer", "", "seller", "them")))
    rows = read(text, {**COLUMNS, "payer": "Key"})
    paid = [row.event.payer if isinstance(row.event, UsageEvent) else row.event.code for row in rows]
    assert paid == ["customer", "seller", "seller", "not_a_choice"]


def test_a_bad_row_is_named_and_its_neighbours_are_read() -> None:
    text = FILE + "2023-11-16 18:00:00,many,1\n2023-11-16 18:00:00,1\n\n2023-11-16 18:00:00,1,1\n"
    rows = read(text)
    assert [row.event.code if isinstance(row.event, BadInput) else "sound" for row in rows] == [
        "sound", "sound", "wrong_type", "wrong_column_count", "sound",
    ]  # fmt: skip
    assert [row.line for row in rows] == [2, 3, 4, 5, 7]
    last = rows[-1].event
    assert isinstance(last, UsageEvent)
    assert last.request_id.endswith("-5")  # rows are counted, sound or not, so that mending one moves no other


def test_bytes_that_are_not_utf8_cost_their_own_row_and_no_other() -> None:
    rows = read(FILE + f"2023-11-16 18:00:00,1{BAD},1\n2023-11-16 18:00:00,1,1\n")
    assert [row.event.code if isinstance(row.event, BadInput) else "sound" for row in rows] == [
        "sound", "sound", "invalid_utf8", "sound",
    ]  # fmt: skip
    assert isinstance(rows[2].event, BadInput)
    assert (rows[2].line, rows[2].event.where) == (4, "ContextTokens")


@pytest.mark.parametrize(
    ("cell", "code"),
    [("-5", "quantity_negative"), ("1" + "0" * 30, "quantity_too_large"), ("1" + "0" * 50, "quantity_too_large")],
)
def test_a_number_out_of_range_is_called_that(cell: str, code: str) -> None:
    (row,) = read(f"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,{cell},1\n")
    assert isinstance(row.event, BadInput)
    assert (row.event.code, row.event.where) == (code, "meters.tokens_in")


def test_a_column_that_two_columns_could_be_is_refused() -> None:
    with pytest.raises(Problems) as caught:
        read("TIMESTAMP,ContextTokens,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,1,2,3\n")
    assert {(one.code, one.where) for one in caught.value.problems} == {("ambiguous_column", "ContextTokens")}


def test_a_recipe_is_told_everything_that_is_wrong_with_it() -> None:
    with pytest.raises(Problems) as caught:
        read(FILE, {"time": "WHEN", "Tokens": "ContextTokens"}, {"time": "x", "org_id": "{nothing}"})
    assert {(one.code, one.where) for one in caught.value.problems} == {
        ("unknown_column", "WHEN"), ("unknown_column", "nothing"), ("unknown_target", "Tokens"),
        ("target_given_twice", "time"), ("missing_field", "user_id"), ("missing_field", "session_id"),
        ("missing_field", "feature"), ("missing_field", "environment"), ("missing_field", "model"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty_file"),
        (FILE + '"open quote', "invalid_csv"),
        (FILE + "x" * 100_000, "invalid_csv"),
        (BAD + FILE, "invalid_utf8"),
    ],
)
def test_a_file_that_is_no_csv_names_the_line(text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        read(text)
    assert caught.value.code == code


def test_the_recorded_traces_become_events_without_loss() -> None:
    data = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "azure_llm_2023_code.csv"
    if not data.exists():
        pytest.skip("the recorded traces are not beside the repository")
    rows = read(data.read_text())
    assert len(rows) == sum(1 for _ in data.open()) - 1
    assert all(isinstance(row.event, UsageEvent) for row in rows)
