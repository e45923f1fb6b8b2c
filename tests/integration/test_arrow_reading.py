"""Rows are read as Arrow batches from one connection, one query after the other, and from others where that is away."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tallystick.core.errors import Unavailable
from tallystick.journal.arrow_reading import ArrowReading

ME = "select pg_backend_pid() as pid"
MANY = "select number, repeat('x', 100) as filling from generate_series(1, 100000) as number"


@pytest.fixture
def reading(server_url: str) -> Iterator[ArrowReading]:
    opened = ArrowReading(server_url)
    yield opened
    opened.close()


def _pid(reading: ArrowReading) -> int:
    with reading.read(ME, batch_bytes=1000) as batches:
        return batches.read_all()["pid"][0].as_py()


def _is_there(server_url: str, pid: int) -> bool:
    with psycopg.connect(server_url) as connection:
        return connection.execute("select 1 from pg_stat_activity where pid = %s", [pid]).fetchone() is not None


def test_one_query_after_the_other_is_asked_of_one_connection(reading: ArrowReading) -> None:
    assert len({_pid(reading) for _ in range(3)}) == 1


def test_queries_at_once_have_a_connection_each(reading: ArrowReading) -> None:
    with reading.read(ME, batch_bytes=1000) as batches:
        assert _pid(reading) != batches.read_all()["pid"][0].as_py()


def test_what_was_not_read_to_its_end_is_not_in_the_next_answer(reading: ArrowReading) -> None:
    with reading.read(MANY, batch_bytes=1000) as batches:
        first = batches.read_next_batch()
        assert first["number"][0].as_py() == 1
    with reading.read(MANY, batch_bytes=1_000_000) as batches:
        assert batches.read_all()["number"].to_pylist() == list(range(1, 100_001))


def test_a_connection_that_was_ended_meanwhile_is_replaced(reading: ArrowReading, server_url: str) -> None:
    ended = _pid(reading)
    with psycopg.connect(server_url) as connection:
        assert connection.execute("select pg_terminate_backend(%s, 10000)", [ended]).fetchone() == (True,)
    assert _pid(reading) != ended


def test_after_a_query_that_fails_the_next_is_answered(reading: ArrowReading) -> None:
    before = _pid(reading)
    with pytest.raises(Unavailable, match="division by zero"), reading.read("select 1 / 0", batch_bytes=1000) as one:
        one.read_all()
    with (
        pytest.raises(Unavailable, match="division by zero"),
        reading.read("select 1 / (5000 - n) from generate_series(1, 10000) n", batch_bytes=1000) as part,
    ):
        part.read_all()
    assert _pid(reading) != before


def test_a_connection_that_is_lost_in_the_middle_is_told_as_the_database_being_away(
    reading: ArrowReading, server_url: str
) -> None:
    lost = _pid(reading)
    with reading.read(MANY, batch_bytes=1000) as batches:
        batches.read_next_batch()
        with psycopg.connect(server_url) as connection:
            assert connection.execute("select pg_terminate_backend(%s, 10000)", [lost]).fetchone() == (True,)
        with pytest.raises(Unavailable) as refused:
            batches.read_all()
    assert refused.value.code == "database_unreachable"
    assert _pid(reading) != lost


def test_nothing_is_connected_any_more_once_it_is_closed(reading: ArrowReading, server_url: str) -> None:
    pid = _pid(reading)
    reading.close()
    for _ in range(500):
        if not _is_there(server_url, pid):
            return
    pytest.fail("the connection is still there after it was closed")
