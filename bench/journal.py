"""The journal alone, without HTTP: a bare COPY of the rows, and the same events priced, hashed and stored exactly once.

The bare COPY goes into a table made `like ledger_entries including all` (the same keys, indexes and checks, no
triggers), in the same server, from one connection, in transactions of 4,000 rows that were encoded beforehand. Ours
takes checked events through `Runtime.submit`, from 4 threads in batches of 500, each thread two batches ahead of its
answers: over 50 orgs, then over one. The three take turns, and the best turn of each counts.

`python -m bench growth` is not part of a run of all: it fills a ledger with 20 million entries, which takes some
minutes and 30 GB, and measures the rate of the half million events after 1 million and after 20 million stored.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import psycopg

from bench.report import Row
from bench.traffic import raw_events
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.journal.copy_rows import COLUMNS, END, SIGNATURE, row_head
from tallystick.journal.prepare import prepare
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.entry import ENTRY_COLUMNS
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

EVENTS = 100_000
TURNS = 3
RAW_TRANSACTION = 4000
BATCH, THREADS, UNDER_WAY = 500, 4, 2
HOT_SHARE_MIN = 0.7
GROWTH_EVENTS = 20_000_000
GROWTH_SHARE_MIN = 0.85


def run() -> list[Row]:
    """Rows a second of the bare COPY; events a second of the journal, spread over 50 orgs and all of one."""
    raw = spread = hot = 0.0
    with bench_runtime() as runtime:
        stored(runtime, checked("warm", 5_000))
        for turn in range(TURNS):
            raw = max(raw, raw_rows_per_second(runtime, checked(f"raw{turn}", EVENTS)))
            spread = max(spread, stored(runtime, checked(f"spread{turn}", EVENTS)))
            hot = max(hot, stored(runtime, checked(f"hot{turn}", EVENTS, orgs=1)))
    bare = f"bare COPY, same keys: {raw:,.0f} rows/s, of which ours is {spread / raw:.2f}"
    return [
        Row("journal, 4 threads, batches of 500, 50 orgs", f"{spread:,.0f} events/s", bare),
        Row(
            "journal, the same for one hot org",
            f"{hot:,.0f} events/s",
            f"spread over 50 orgs: {spread:,.0f} events/s",
            f"{HOT_SHARE_MIN} of the spread rate",
            hot >= HOT_SHARE_MIN * spread,
        ),
    ]


def growth(events: int = GROWTH_EVENTS) -> list[Row]:
    """The rate at 1 million and at `events` stored, random request ids; each over the half million that follows."""
    with bench_runtime() as runtime:
        stored(runtime, checked("warm", 50_000))
        early = _grow(runtime, "early", 1_000_000)
        late = _grow(runtime, "late", events)
    share = f"{GROWTH_SHARE_MIN} of the rate at 1,000,000 stored"
    return [
        Row(
            f"journal at {events:,} stored",
            f"{late:,.0f} events/s",
            f"at 1,000,000 stored: {early:,.0f} events/s",
            share,
            late >= GROWTH_SHARE_MIN * early,
        )
    ]


def _grow(runtime: Runtime, prefix: str, to: int) -> float:
    """Fill up to `to` entries, then the rate of the 500,000 events that follow."""
    _fill(runtime, to)
    step = 50_000
    rates = [stored(runtime, checked(prefix, step, first=start)) for start in range(0, 500_000, step)]
    return len(rates) / sum(1 / rate for rate in rates)


_NEW_VALUES = {
    "org_id": "head.org_id",
    "seq": "head.last_seq + number",
    "time_max": "greatest(head.time_max, model.time_max)",
    "request_id": "md5(head.org_id || (head.last_seq + number)::text)",
}
_FILL = f"""
with model as materialized (select * from ledger_entries where kind = 'usage' order by org_id, seq limit 1)
insert into ledger_entries ({", ".join(ENTRY_COLUMNS)})
select {", ".join(_NEW_VALUES.get(column, f"model.{column}") for column in ENTRY_COLUMNS)}
from org_heads as head cross join generate_series(1, %(each)s) as number cross join model
""".encode()


def _fill(runtime: Runtime, to: int) -> None:
    """Entries put there by the database itself, in all orgs alike, with random request ids: their number matters."""
    with psycopg.connect(runtime.database.url) as connection:
        while True:
            have, orgs = connection.execute("select sum(last_seq)::bigint, count(*) from org_heads").fetchone() or (
                0,
                1,
            )
            each = min(to - have, 1_000_000) // orgs
            if each <= 0:
                return
            connection.execute(_FILL, {"each": each})
            connection.execute("update org_heads set last_seq = last_seq + %s", [each])
            connection.commit()


@contextmanager
def bench_runtime() -> Iterator[Runtime]:
    """A fresh ledger in an embedded server of its own."""
    with tempfile.TemporaryDirectory(prefix="tally-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        with open_runtime(Settings(data_dir=folder / "data")) as runtime:
            yield runtime


def checked(prefix: str, count: int, *, orgs: int = 50, first: int = 0) -> list[UsageEvent]:
    """Sound events, as the checks give them."""
    return msgspec.convert(list(raw_events(prefix, count, orgs=orgs, first=first)), list[UsageEvent])


def stored(runtime: Runtime, events: Sequence[UsageEvent]) -> float:
    """Store the events from several threads: events a second. Each must be new."""
    batches = iter([events[start : start + BATCH] for start in range(0, len(events), BATCH)])
    taking = threading.Lock()

    def work(_: int) -> int:
        accepted = 0
        under_way: deque[Future[list[Receipt]]] = deque()
        while True:
            with taking:
                batch = next(batches, None)
            if batch is not None:
                under_way.append(runtime.submit(batch))
            while under_way and (batch is None or len(under_way) > UNDER_WAY):
                accepted += sum(receipt.status == "accepted" for receipt in under_way.popleft().result())
            if batch is None:
                return accepted

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        accepted = sum(pool.map(work, range(THREADS)))
    seconds = time.perf_counter() - begun
    assert accepted == len(events), f"{accepted} of {len(events)} accepted"
    return len(events) / seconds


def raw_rows_per_second(runtime: Runtime, events: Sequence[UsageEvent]) -> float:
    """What a bare COPY of these events' rows reaches on the runtime's server; nothing else should run beside it."""
    transactions = [b"".join((SIGNATURE, *rows, END)) for rows in _transactions(runtime, events)]
    with psycopg.connect(runtime.database.url) as connection:
        connection.execute("create table bare_entries (like ledger_entries including all)")
        connection.commit()
        copy = f"copy bare_entries ({', '.join(COLUMNS)}) from stdin (format binary)"
        begun = time.perf_counter()
        for data in transactions:
            with connection.cursor() as cursor, cursor.copy(copy.encode()) as stream:
                stream.write(data)
            connection.commit()
        seconds = time.perf_counter() - begun
        connection.execute("drop table bare_entries")
    return len(events) / seconds


def _transactions(runtime: Runtime, events: Sequence[UsageEvent]) -> Iterator[list[bytes]]:
    """The events' rows, numbered org by org and encoded, as many as go into one transaction."""
    seqs: dict[str, int] = {}
    latest: dict[str, int] = {}
    rows = iter(prepare(events, runtime.clock(), runtime.card, os.urandom(SALT_BYTES * len(events))).rows)
    remaining = iter(events)
    while part := list(islice(remaining, RAW_TRANSACTION)):
        encoded = []
        for event, row in sorted(zip(part, rows, strict=False), key=lambda one: one[0].org_id):
            seqs[event.org_id] = seq = seqs.get(event.org_id, 0) + 1
            latest[event.org_id] = max(latest.get(event.org_id, row.time_us), row.time_us)
            encoded += (row_head(seq, latest[event.org_id], row.fingerprint), row.tail)
        yield encoded
