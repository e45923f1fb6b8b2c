"""Raw events and questions to the database, for tests of the journal and what is built on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import psycopg

from tallystick.app.runtime import Runtime
from tallystick.journal.prepare import prepare
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent


def raw_event(request_id: str = "r1", **more: Any) -> dict[str, Any]:
    """A sound raw event of October 2026, with whatever differs."""
    event: dict[str, Any] = {
        "org_id": "acme",
        "request_id": request_id,
        "time": "2026-10-15T12:00:00Z",
        "user_id": "u1",
        "session_id": "s1",
        "feature": "chat",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 10},
    }
    return {**event, **more}


def query(runtime: Runtime, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """All rows of a query, as one who sees every org and may change nothing of theirs."""
    with runtime.database.operator() as connection:
        return connection.execute(sql, parameters).fetchall()


def count(runtime: Runtime, table: str) -> int:
    """How many rows a table has."""
    return int(query(runtime, f"select count(*) from {table}")[0][0])


def tamper(database_url: str, *statements: str) -> None:
    """Change what is stored as no application can: as its owner, with every trigger off, and on again after."""
    with psycopg.connect(database_url) as connection:
        triggers = connection.execute(_TRIGGERS).fetchall()
        for table, name in triggers:
            connection.execute(f"alter table {table} disable trigger {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0, f"nothing was changed by {statement}"
        for table, name in triggers:
            connection.execute(f"alter table {table} enable always trigger {name}")


_TRIGGERS = (
    "select tgrelid::regclass::text, quote_ident(tgname) from pg_trigger where not tgisinternal and tgenabled = 'A'"
)


def append_in_the_past(runtime: Runtime, events: Sequence[UsageEvent]) -> list[Receipt]:
    """Store events priced as when no rate-card version but the first was known."""
    card = runtime.cards.at(runtime.cards.versions[0].name)
    salts = os.urandom(SALT_BYTES * len(events))
    return runtime.writer.submit(prepare(events, runtime.clock(), card, salts)).result()


def publish_price(runtime: Runtime) -> None:
    """A new version of the rate card knows what openai's model `newest` costs: 7 pico-USD a token that goes in."""
    cards = runtime.settings.data_dir / "cards"
    cards.mkdir()
    (cards / "new.jsonl").write_text(
        '{"row":"card","format":1,"version":"new","known_at":"2026-11-30T00:00:00Z","source":"x","source_sha256":null,'
        f'"previous":"{runtime.cards.versions[-1].sha256}"}}\n'
        '{"row":"model","provider":"openai","model":"newest","match":{"equals":"newest"}}\n'
        '{"row":"rate","provider":"openai","model":"newest","meter":"tokens_in","per":1,"price_pico":7}\n'
    )
    runtime.reload_cards()
