"""The usual way to charge credits, to be measured against: one transaction for each step, with the wallet's row locked.

A thread with a connection of its own for each caller; statements are prepared. To authorize: lock the wallet, look
whether it has enough, move the credits from available to held, insert the hold. To settle: lock hold and wallet, insert
the usage, move the credits, mark the hold. There is no HTTP, no limit, no pricing, no lot, no hash and no double entry.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg

PRICE = 5
TABLES = """
create table naive_wallets (org_id text primary key, available bigint not null check (available >= 0),
    held bigint not null) with (fillfactor = 50);
create table naive_holds (org_id text, request_id text, credits bigint not null, state text not null,
    primary key (org_id, request_id)) with (fillfactor = 80);
create table naive_usage (org_id text, request_id text, at timestamptz not null, model text not null,
    tokens_in bigint not null, tokens_out bigint not null, primary key (org_id, request_id));
"""
AUTHORIZE = (
    "select available from naive_wallets where org_id = %s for update",
    "update naive_wallets set available = available - %s, held = held + %s where org_id = %s",
    "insert into naive_holds values (%s, %s, %s, 'open')",
)
SETTLE = (
    "select state, credits from naive_holds where org_id = %s and request_id = %s for update",
    "select 1 from naive_wallets where org_id = %s for update",
    "insert into naive_usage values (%s, %s, now(), 'gpt-4o-mini', 1200, 340)",
    "update naive_wallets set held = held - %s where org_id = %s",
    "update naive_holds set state = 'settled' where org_id = %s and request_id = %s",
)


def make(url: str, orgs: int) -> None:
    """The tables, and a wallet for each org."""
    with psycopg.connect(url) as connection:
        connection.execute(TABLES)
        connection.execute(
            "insert into naive_wallets select 'org-' || number, 1000000000, 0 from generate_series(0, %s) as number",
            [orgs - 1],
        )


def pairs_per_second(url: str, connections: int, pairs: int, orgs: int, processes: int, *, prefix: str) -> float:
    """Pairs a second, by `connections` threads in several processes."""
    pids, pipes = [], []
    for number in range(processes):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            seconds = _all(url, connections // processes, pairs // processes, orgs, f"{prefix}-{number}")
            os.write(writer, str(seconds).encode())
            os._exit(0)
        os.close(writer)
        pids.append(pid)
        pipes.append(reader)
    seconds = max(float(os.read(reader, 64)) for reader in pipes)
    for pid, pipe in zip(pids, pipes, strict=True):
        os.waitpid(pid, 0)
        os.close(pipe)
    return pairs / seconds


def _all(url: str, connections: int, pairs: int, orgs: int, prefix: str) -> float:
    opened = [psycopg.connect(url, prepare_threshold=0) for _ in range(connections)]
    supply, lock = iter(range(pairs)), threading.Lock()

    def work(connection: psycopg.Connection[Any]) -> None:
        for number in _taken(supply, lock):
            mixed = number * 2654435761 % 2**32
            _pair(connection, f"org-{mixed % orgs}", f"{prefix}-{mixed:08x}")

    begun = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, opened))
    return time.perf_counter() - begun


def _taken(supply: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    for _ in itertools.repeat(None):
        with lock:
            number = next(supply, None)
        if number is None:
            return
        yield number


def _pair(connection: psycopg.Connection[Any], org_id: str, request_id: str) -> None:
    look, move, insert = AUTHORIZE
    row = connection.execute(look, [org_id]).fetchone()
    assert row is not None
    assert row[0] >= PRICE
    connection.execute(move, [PRICE, PRICE, org_id])
    connection.execute(insert, [org_id, request_id, PRICE])
    connection.commit()
    find, lock, record, charge, close = SETTLE
    hold = connection.execute(find, [org_id, request_id]).fetchone()
    assert hold is not None
    assert hold[0] == "open"
    connection.execute(lock, [org_id])
    connection.execute(record, [org_id, request_id])
    connection.execute(charge, [hold[1], org_id])
    connection.execute(close, [org_id, request_id])
    connection.commit()
