"""Statements that go to the server together: literals mean what they were made of, and what fails leaves nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples import examples
from tallystick.app.runtime import Runtime
from tallystick.journal.round_trips import ask, give_rows, instants, numbers, texts
from tallystick.ledger.entry import instant_json

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@settings(max_examples=examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT | st.sampled_from(["NULL", "", "a'; drop table x; --", '"', "\\", "{}", ",", "%s", "\\'"])))
def test_texts_come_to_the_server_as_they_are(runtime: Runtime, values: list[str]) -> None:
    with runtime.database.writer() as connection:
        (result,) = ask(connection, b"select unnest(%b::text[])" % texts(values))
    assert [result.get_value(row, 0) for row in range(result.ntuples)] == [value.encode() for value in values]


def test_numbers_and_instants_come_to_the_server_as_they_are(runtime: Runtime) -> None:
    instant = datetime(2026, 10, 25, 0, 59, 59, 999_999, tzinfo=UTC)
    with runtime.database.writer() as connection:
        script = b"select %b::numeric[], %b::timestamptz[], %b::bigint[]"
        results = ask(connection, script % (numbers([0, -(10**30)]), instants([instant_json(instant)]), numbers([])))
    assert [results[0].get_value(0, column) for column in range(3)] == [
        b"{0,-1000000000000000000000000000000}",
        b'{"2026-10-25 00:59:59.999999+00"}',
        b"{}",
    ]


def test_a_statement_that_fails_keeps_those_behind_it_from_being_run(runtime: Runtime) -> None:
    connection = runtime.database.connect_writer()
    try:
        with pytest.raises(psycopg.errors.DivisionByZero):
            ask(connection, b"begin; select 1/0; commit")
        connection.rollback()
        assert ask(connection, b"select 1")[0].get_value(0, 0) == b"1"
    finally:
        connection.close()


def test_when_rows_cannot_be_made_the_copy_ends_without_any_and_the_session_can_go_on(runtime: Runtime) -> None:
    connection = psycopg.connect(runtime.database.url)
    try:
        connection.execute("create temporary table given (value integer)")
        connection.commit()

        def parts() -> list[bytes]:
            raise RuntimeError("made wrong")

        ask(connection, b"begin; copy given from stdin; commit")
        with pytest.raises(RuntimeError, match="made wrong"):
            give_rows(connection, (part for _ in range(1) for part in parts()))
        connection.rollback()
        ask(connection, b"begin; copy given from stdin; insert into given values (3); commit")
        give_rows(connection, [b"1\n", b"2\n"])
        assert [row for (row,) in connection.execute("select value from given order by value")] == [1, 2, 3]
    finally:
        connection.close()
