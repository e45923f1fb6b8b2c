"""Any row of any table, and any byte of any file, changed behind the application's back: a check finds it and names it.

Hypothesis chooses what to change, in one small ledger that is put right again after each change.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from conftest import NOW
from examples import examples
from invoicing import event
from sealed_ledger import behind_its_back, copied, copyable, furnish
from tallystick.app.keys import create_key, rotate_key
from tallystick.app.runtime import Runtime
from tallystick.app.verify import OpenLedger, verify_ledger
from tallystick.journal.keys import erase_person_of_keys
from workshop import held, one_of_each, open_account, settled

QUICK = settings(max_examples=examples(4), deadline=None, suppress_health_check=list(HealthCheck))
NOT_HISTORY = {"alembic_version"}  # it says what the schema is
FORGETFUL = {("org_states", "progress"), ("org_states", "counted_through_seq")}
"""What is changed of these may come to nothing: counting begins anew, or again from where it had come to."""
NEVER = datetime.datetime.min.replace(tzinfo=datetime.UTC)
"""What stands for PostgreSQL's -infinity, which Python does not know."""
Row = tuple[Any, ...]
Change = Callable[[list[Row]], list[Row]]


class Hand:
    """A superuser who rewrites tables, and can put them right again."""

    def __init__(self, ledger: OpenLedger, connection: psycopg.Connection[Any]) -> None:
        self.ledger = ledger
        self._connection = connection
        found = connection.execute(
            "select table_name, column_name from information_schema.columns join pg_tables on tablename = table_name"
            " where schemaname = 'public' and table_schema = 'public' and is_generated = 'NEVER'"
            " order by table_name, ordinal_position"
        ).fetchall()
        columns: dict[str, list[str]] = {}
        for table, column in found:
            if table in NOT_HISTORY:
                continue
            columns.setdefault(table, []).append(column)
        rows = {table: self._read(table, names) for table, names in columns.items()}
        self.rows: dict[str, list[Row]] = {table: found for table, found in rows.items() if found}
        self.columns = {table: columns[table] for table in self.rows}

    def _read(self, table: str, columns: list[str]) -> list[Row]:
        if table != "counters":
            query = f"select {_names(columns)} from {table} order by 1, 2"
            return self._connection.execute(query.encode()).fetchall()
        counters = (  # one that has come to nothing may as well not be there
            "select org_id, counter, nullif(window_start, '-infinity'), used from counters where used <> 0"
        )
        found = self._connection.execute(counters.encode()).fetchall()
        return [(org, counter, NEVER if start is None else start, used) for org, counter, start, used in found]

    def write(self, table: str, rows: list[Row]) -> None:
        """Make these the rows of the table.

        Raises:
            psycopg.errors.IntegrityError: not even a superuser can have two rows with one key.
        """
        places = ", ".join(["%s"] * len(self.columns[table]))
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute(f"truncate {table}".encode())
            values = [
                [Jsonb(value) if isinstance(value, dict) else "-infinity" if value == NEVER else value for value in row]
                for row in rows
            ]
            into = f"insert into {table} ({_names(self.columns[table])}) overriding system value values ({places})"
            cursor.executemany(into.encode(), values)

    def _without_forgetful(self, table: str, rows: list[Row]) -> list[Row]:
        kept = [place for place, name in enumerate(self.columns[table]) if (table, name) not in FORGETFUL]
        return [tuple(row[place] for place in kept) for row in rows]

    def expect_found(self, table: str, change: Change) -> None:
        """Change the table's rows: a check finds it, and names the org, the place or the table. Then put them right."""
        before = self.rows[table]
        after = change(list(before))
        assume(self._without_forgetful(table, after) != self._without_forgetful(table, before))
        try:
            self.write(table, after)
        except psycopg.errors.IntegrityError:
            assume(False)
        try:
            report = verify_ledger(self.ledger)
        finally:
            self.write(table, before)
        differing = [row for row in (*before, *after) if (row in before) != (row in after)]
        assert not report.sound, f"nobody noticed: {table} {differing}"
        told = " ".join(one.sentence() for one in report.findings.kept)
        names = [row[place] for row in differing for place, name in enumerate(self.columns[table]) if name in NAMES]
        assert any(str(name) in told for name in names) or table in told, told


def _names(columns: list[str]) -> str:
    return ", ".join([f'"{name}"' for name in columns])


NAMES = ("org_id", "block", "size", "version", "key_id", "invoice_id", "n")


def furnish_with_account(runtime: Runtime) -> None:
    """A ledger with something of everything, and an org of whose account half is sealed."""
    open_account(runtime, "depot")
    one_of_each(runtime, "depot")
    furnish(runtime)
    furnish_with_keys(runtime)
    first = held(runtime, org_id="depot")
    runtime.append([event("depot-sent", "depot", time=runtime.clock())])
    settled(runtime, held(runtime, org_id="depot"), "depot-last")
    settled(runtime, first, "depot-sent")


def furnish_with_keys(runtime: Runtime) -> None:
    """Keys of an org and of an operator, one that stands for a person, one whose person was erased, one replaced."""
    for user_id in ("keeper", "gone", None):
        defaults = {"feature": "desk"} | ({} if user_id is None else {"user_id": user_id, "session_id": "s"})
        made = create_key(runtime, org_id="depot", scopes=["gateway", "read"], author="ann", defaults=defaults)
    rotate_key(runtime, made.key.key_id, overlap=datetime.timedelta(hours=1), author="bob")
    create_key(runtime, org_id=None, scopes=["admin"], author="ann", expires_at=NOW + datetime.timedelta(days=9))
    with runtime.database.operator() as connection:
        erase_person_of_keys(connection, "depot", "gone", NOW)


@pytest.fixture(scope="module")
def hand(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hand]:
    folder = tmp_path_factory.mktemp("furnished")
    with (
        copyable(server_url, folder, NOW, furnish_with_account) as name,
        copied(server_url, name, folder, tmp_path_factory.mktemp("copied")) as ledger,
        behind_its_back(ledger) as connection,
    ):
        found = Hand(ledger, connection)
        assert verify_ledger(ledger).findings.kept == []
        yield found
        assert verify_ledger(ledger).findings.kept == [], "something was not put right again"


def other(value: Any, data: st.DataObject, like: list[Any]) -> Any:
    """Another value that the column can hold; `like` are the values in it."""
    candidates = [one for one in like if one != value]
    if value is not None and data.draw(st.booleans()):
        match value:
            case datetime.datetime() if value == NEVER:
                candidates = [datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)]
            case datetime.datetime():
                step = data.draw(st.sampled_from([-1, 1, 3_600_000_000]))
                candidates = [value + datetime.timedelta(microseconds=step)]
            case bytes():
                place = data.draw(st.integers(0, len(value) - 1)) if value else 0
                candidates = [value[:place] + bytes([value[place] ^ 1]) + value[place + 1 :] if value else b"x"]
            case list():
                candidates = [value[:-1], [*value, *value[-1:]], value[::-1]]
            case dict():
                candidates = [{**value, "more": "x"}, {}]
            case str():
                candidates = [value + "x", value[:-1], value.swapcase()]
            case int() | Decimal():
                candidates = [value + 1, value - 1]
    candidates.append(None)
    return data.draw(st.sampled_from(candidates))


@QUICK
@given(data=st.data())
def test_no_value_can_be_changed(hand: Hand, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(sorted(hand.rows)))
    number = data.draw(st.integers(0, len(hand.rows[table]) - 1))
    column = data.draw(st.integers(0, len(hand.columns[table]) - 1))
    row = hand.rows[table][number]
    value = other(row[column], data, [one[column] for one in hand.rows[table]])
    changed = (*row[:column], value, *row[column + 1 :])
    hand.expect_found(table, lambda rows: [*rows[:number], changed, *rows[number + 1 :]])


@QUICK
@given(data=st.data())
def test_no_row_can_be_taken_away(hand: Hand, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(sorted(hand.rows)))
    number = data.draw(st.integers(0, len(hand.rows[table]) - 1))
    hand.expect_found(table, lambda rows: [*rows[:number], *rows[number + 1 :]])


@QUICK
@given(data=st.data())
def test_no_row_can_be_put_there(hand: Hand, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(sorted(hand.rows)))
    row = list(data.draw(st.sampled_from(hand.rows[table])))
    for _ in range(data.draw(st.integers(1, 3))):
        column = data.draw(st.integers(0, min(3, len(row) - 1)))
        row[column] = other(row[column], data, [one[column] for one in hand.rows[table]])
    hand.expect_found(table, lambda rows: [*rows, tuple(row)])


@QUICK
@given(data=st.data())
def test_no_two_rows_can_exchange_what_they_say(hand: Hand, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(sorted(name for name, rows in hand.rows.items() if len(rows) > 1)))
    first, second = data.draw(st.lists(st.integers(0, len(hand.rows[table]) - 1), min_size=2, max_size=2, unique=True))
    columns = data.draw(st.sets(st.integers(0, len(hand.columns[table]) - 1), min_size=1, max_size=3))

    def exchange(rows: list[Row]) -> list[Row]:
        one, two = rows[first], rows[second]
        places = range(len(one))
        rows[first] = tuple(two[place] if place in columns else one[place] for place in places)
        rows[second] = tuple(one[place] if place in columns else two[place] for place in places)
        return rows

    assume(sorted(map(str, exchange(list(hand.rows[table])))) != sorted(map(str, hand.rows[table])))
    hand.expect_found(table, exchange)


def files(hand: Hand) -> list[Path]:
    return sorted(path for path in (hand.ledger.settings.data_dir / "blocks").rglob("*") if path.is_file())


@settings(QUICK, max_examples=examples(6))
@given(data=st.data())
def test_no_byte_of_any_file_can_be_changed(hand: Hand, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(hand)))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    after = before[:place] + bytes([before[place] ^ data.draw(st.integers(1, 255))]) + before[place + 1 :]
    expect_file_named(hand, path, after, f"byte {place}")


@settings(QUICK, max_examples=examples(3))
@given(data=st.data())
def test_no_file_can_be_cut_lengthened_or_taken_for_another(hand: Hand, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(files(hand)))
    before = path.read_bytes()
    others = [one.read_bytes() for one in files(hand) if one.read_bytes() != before]
    after = data.draw(st.sampled_from([b"", before[:-1], before[: len(before) // 2], before + b"\0", None, *others]))
    expect_file_named(hand, path, after, "the whole")


def expect_file_named(hand: Hand, path: Path, after: bytes | None, what: str) -> None:
    before = path.read_bytes()
    try:
        if after is None:
            path.unlink()
        else:
            path.write_bytes(after)
        report = verify_ledger(hand.ledger)
    finally:
        path.write_bytes(before)
    name = str(path.relative_to(hand.ledger.settings.data_dir / "blocks"))
    assert name in {one.file for one in report.findings.kept}, f"{what} of {name}: {report.findings.kept}"
