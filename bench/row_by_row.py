"""The usual way to record usage, to be measured against: one INSERT and commit for each event, as it comes.

    python -m bench.row_by_row DATABASE_URL PORT PROCESSES CONNECTIONS

It is the same HTTP server, with its short way for single events, its tuning, its reading and its pricing; only then
each event is inserted by a thread with a connection of its own, in a transaction of its own and by a prepared
statement, into `bare_entries` (the same columns and keys, no triggers): no probe for duplicates, no dense numbers, no
hashes, no transfers. `direct` does the same without HTTP, rows made beforehand.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec
import psycopg
import uvicorn
from psycopg.types.json import Jsonb

from bench.traffic import raw_events
from tallystick.api.event_answers import answer_one
from tallystick.api.event_schema import EVENTS_PATH
from tallystick.api.http_protocol import TallyHttpProtocol
from tallystick.api.logs import LineBuffer
from tallystick.api.short_ways import Reply, ShortWays
from tallystick.app.cards import load_card_history
from tallystick.app.loop_inbox import LoopInbox
from tallystick.cli.http_server import tune_process
from tallystick.ledger.receipt import Receipt
from tallystick.rates.pricing import RateCard
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS

COLUMNS = (
    "org_id", "seq", "kind", "request_id", "time", "time_max", "recorded_at", "feature", "environment", "provider",
    "model", "latency_ms", "outcome", "usage_status", "meter_names", "meter_quantities", "price_context", "user_id",
    "session_id", "attributes", "salt", "fingerprint", "rate_version", "status", "cost_pico", "line_meters",
    "line_quantities", "line_price_pico", "line_per", "line_amount_pico", "leaf",
)  # fmt: skip
INSERT = f"insert into bare_entries ({', '.join(COLUMNS)}) values ({', '.join(['%b'] * len(COLUMNS))})"
TABLE = "create table if not exists bare_entries (like ledger_entries including all)"
KNOWN_METERS = frozenset(METERS)


def row(event: UsageEvent, card: RateCard, seq: int) -> tuple[Any, ...]:
    cost = card.price_event(event)
    lines = cost.lines
    now = datetime.now(UTC)
    return (
        event.org_id, seq, "usage", event.request_id, event.time, event.time, now, event.feature, event.environment,
        event.provider, event.model, event.latency_ms, event.outcome, event.usage_status, list(event.meters),
        list(event.meters.values()), Jsonb(event.price_context), event.user_id, event.session_id,
        Jsonb(event.attributes), bytes(16), bytes(32), cost.rate_version, cost.status, cost.total_pico,
        [line.meter for line in lines], [line.quantity for line in lines], [line.price_pico for line in lines],
        [line.per for line in lines], [line.amount_pico for line in lines], bytes(32),
    )  # fmt: skip


def connect(url: str) -> psycopg.Connection[Any]:
    return psycopg.connect(url, autocommit=True, prepare_threshold=0)


class RowByRow:
    """Takes single events as `SingleEvents` does, and inserts each by itself."""

    path = EVENTS_PATH
    scope = "events"
    events: int | None = 1

    def __init__(self, url: str, connections: int) -> None:
        self._inbox = LoopInbox(asyncio.get_running_loop())
        self._card = load_card_history().latest
        self._seqs = itertools.count(os.getpid() << 32)
        self._own = threading.local()
        self._url = url
        self._threads = ThreadPoolExecutor(connections)

    def take(self, body: bytes, request_id: str, reply: Reply, _org_id: str | None = None) -> bool:
        raw = msgspec.json.decode(body)
        event = msgspec.convert(raw, UsageEvent)
        self._threads.submit(self._insert, event, request_id, reply)
        return True

    def _insert(self, event: UsageEvent, request_id: str, reply: Reply) -> None:
        if not hasattr(self._own, "connection"):
            self._own.connection = connect(self._url)
        values = row(event, self._card, next(self._seqs))
        self._own.connection.execute(INSERT, values)
        receipt = Receipt(
            status="accepted", org_id=event.org_id, request_id=event.request_id, fingerprint="", seq=values[1],
            recorded_at=values[6], cost_pico=values[24], cost_status=values[23], rate_version=values[22],
        )  # fmt: skip
        self._inbox.leave(partial(reply, answer_one(receipt, request_id)))


def direct(url: str, connections: int, events: int, processes: int) -> float:
    """Events a second without HTTP: `connections` threads over `processes`, each inserting rows made beforehand."""
    with connect(url) as connection:
        connection.execute(TABLE)
    pids, pipes = [], []
    for number in range(processes):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            seconds = _insert_all(url, connections // processes, events // processes, number)
            os.write(writer, str(seconds).encode())
            os._exit(0)
        os.close(writer)
        pids.append(pid)
        pipes.append(reader)
    seconds = max(float(os.read(reader, 64)) for reader in pipes)
    for pid in pids:
        os.waitpid(pid, 0)
    return events / seconds


def _insert_all(url: str, connections: int, events: int, number: int) -> float:
    card = load_card_history().latest
    raws = list(raw_events(f"d{number}", events))
    rows = [
        row(event, card, number * events + seq) for seq, event in enumerate(msgspec.convert(raws, list[UsageEvent]), 1)
    ]
    opened = [connect(url) for _ in range(connections)]
    for connection in opened:
        connection.execute("select 1")
    supply = iter(rows)
    lock = threading.Lock()

    def work(connection: psycopg.Connection[Any]) -> None:
        while (values := _next(supply, lock)) is not None:
            connection.execute(INSERT, values)

    begun = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, opened))
    return time.perf_counter() - begun


def _next(supply: Iterator[Sequence[Any]], lock: threading.Lock) -> Sequence[Any] | None:
    with lock:
        return next(supply, None)


def main() -> None:
    url, port, processes, connections = sys.argv[1], *map(int, sys.argv[2:5])
    with connect(url) as connection:
        connection.execute(TABLE)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(2048)
    print(listener.getsockname()[1], flush=True)
    for _ in range(processes - 1):
        if os.fork() == 0:
            break

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        tune_process()
        log = LineBuffer(asyncio.get_running_loop(), open(os.devnull, "w"))  # noqa: SIM115
        scope["state"]["short_ways"] = ShortWays([RowByRow(url, connections // processes)], log)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    config = uvicorn.Config(app, http=TallyHttpProtocol, loop="uvloop", log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
