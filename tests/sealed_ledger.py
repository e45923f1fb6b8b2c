"""A small ledger with something of everything, made once and copied for each test, and a hand that reaches behind."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from invoicing import apply, event, record, subscribe
from quick_start import opened_quickly
from tallystick.app.close_month import close_month
from tallystick.app.erase import erase_person
from tallystick.app.reprice import reprice
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.seal import seal_once
from tallystick.app.settings import Settings
from tallystick.app.verify import OpenLedger
from tallystick.journal.database import Database

NEW_MODEL = "newest"


def publish_price(runtime: Runtime) -> None:
    """A new card version that knows the model `NEW_MODEL`."""
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir(exist_ok=True)
    rates = "".join(
        f'{{"row":"rate","provider":"openai","model":"{NEW_MODEL}","meter":"{meter}","per":1,"price_pico":7}}\n'
        for meter in ("tokens_in", "tokens_out")
    )
    (cards / "new.jsonl").write_text(
        '{"row":"card","format":1,"version":"new","known_at":"2026-11-30T00:00:00Z","source":"x","source_sha256":null,'
        f'"previous":"{runtime.cards.versions[-1].sha256}"}}\n'
        f'{{"row":"model","provider":"openai","model":"{NEW_MODEL}","match":{{"equals":"{NEW_MODEL}"}}}}\n{rates}'
    )
    runtime.reload_cards()


def furnish(runtime: Runtime) -> str:
    """Fill the ledger of globex, acme and zeta, seal three blocks, close globex's October: the invoice's id."""
    apply(runtime)
    for org in ("globex", "acme"):
        subscribe(runtime, org, "resale")
    record(runtime, [event("early", time=datetime(2026, 9, 3, tzinfo=UTC)), event("a1", "acme")])
    seal_once(runtime, everything=True)
    strange = [event("s1", model=NEW_MODEL), event("s2", environment="development", outcome="failure")]
    more = event("r1", attributes={"team": "x"}, price_context={"service_tier": "batch"}, latency_ms=7, action="a")
    record(runtime, [*strange, more, event("a2", "acme"), event("z1", "zeta", user_id="user-2")])
    publish_price(runtime)
    reprice(runtime)
    (closed,) = close_month(runtime, "2026-10", ["globex"])
    assert closed.invoice is not None, closed.error
    record(runtime, [event("late")])
    seal_once(runtime, everything=True)
    record(runtime, [event("a3", "acme")])
    seal_once(runtime, everything=True)
    return closed.invoice.invoice_id


_numbers = itertools.count(1)


@contextmanager
def furnished(server_url: str, folder: Path, now: datetime) -> Iterator[str]:
    """The name of a database with that ledger, two entries not sealed and an erased person; files are in the folder."""

    def fill(runtime: Runtime) -> None:
        furnish(runtime)
        erase_person(runtime, "zeta", "user-2")
        record(runtime, [event("open-1"), event("open-2", "newcomer")])

    with copyable(server_url, folder, now, fill) as name:
        yield name


@contextmanager
def copyable(server_url: str, folder: Path, now: datetime, fill: Callable[[Runtime], object]) -> Iterator[str]:
    """The name of a database that was filled so, and can be copied; files are in the folder."""
    name = f"furnished_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {name} template template strategy file_copy".encode())
        url = make_conninfo(server_url, dbname=name)
        with open_runtime(Settings(database_url=url, data_dir=folder), lambda: now) as runtime:
            fill(runtime)
        yield name
        connection.execute(f"drop database {name} with (force)".encode())


@contextmanager
def copied(server_url: str, name: str, folder: Path, target: Path) -> Iterator[OpenLedger]:
    """A copy of a furnished ledger, to do with it what nobody should."""
    with _copy(server_url, name, folder, target) as url:
        database = Database(url)
        try:
            yield OpenLedger(Settings(database_url=url, data_dir=target), database)
        finally:
            database.close()


@contextmanager
def reopened(server_url: str, name: str, folder: Path, target: Path) -> Iterator[Runtime]:
    """As `copied`, but running, its clock at `NOW`; for a ledger that knows the bundled rate cards alone."""
    with _copy(server_url, name, folder, target) as url, opened_quickly(url, target) as runtime:
        yield runtime


@contextmanager
def _copy(server_url: str, name: str, folder: Path, target: Path) -> Iterator[str]:
    copy = f"copied_{next(_numbers)}"
    shutil.copytree(folder, target, dirs_exist_ok=True)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"create database {copy} template {name} strategy file_copy".encode())
        try:
            yield make_conninfo(server_url, dbname=copy)
        finally:
            connection.execute(f"drop database {copy} with (force)".encode())


@contextmanager
def behind_its_back(ledger: OpenLedger | Runtime) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection on which no trigger, no check and no reference holds."""
    with psycopg.connect(ledger.database.url, autocommit=True) as connection:
        connection.execute(_WALLS_DOWN)  # at once: one by one each is a transaction of its own
        yield connection


_WALLS_DOWN = """
do $$
declare
    wall record;
begin
    for wall in select oid::regclass as place from pg_class
        where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace
    loop
        execute format('alter table %s disable trigger all', wall.place);
    end loop;
    for wall in select conrelid::regclass as place, conname as name from pg_constraint
        where contype in ('c', 'f') and connamespace = 'public'::regnamespace and conrelid <> 0
    loop
        execute format('alter table %s drop constraint %I', wall.place, wall.name);
    end loop;
end $$
"""


@contextmanager
def put_back(connection: psycopg.Connection[Any], *tables: str) -> Iterator[None]:
    """What the block does to these tables is undone when it ends, through a connection of `behind_its_back`."""
    names = {table: _columns(connection, table) for table in tables}
    for table in tables:
        connection.execute(f"create temporary table kept_{table} as select {names[table]} from public.{table}".encode())
    try:
        yield
    finally:
        for table in tables:
            restore = f"insert into public.{table} ({names[table]}) overriding system value table kept_{table}"
            connection.execute(f"delete from public.{table}; {restore}; drop table kept_{table}".encode())


def _columns(connection: psycopg.Connection[Any], table: str) -> str:
    """What can be put into a table: all but what it works out itself."""
    told = (
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
        " where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''"
    )
    return str(connection.execute(told, [table]).fetchall()[0][0])


@contextmanager
def tampered(connection: psycopg.Connection[Any], sql: str) -> Iterator[None]:
    """Something is changed while the block lasts: as `tamper`, for a ledger that many tests share."""
    table = sql.split()[2 if sql.startswith(("insert", "delete")) else 1]
    with put_back(connection, table):
        assert connection.execute(sql.encode()).rowcount != 0, "nothing was changed"
        yield


def tamper(ledger: OpenLedger | Runtime, sql: str) -> None:
    """Change something; it does."""
    with behind_its_back(ledger) as connection:
        assert connection.execute(sql.encode()).rowcount != 0, "nothing was changed"
