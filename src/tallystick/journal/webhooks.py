"""Events for webhooks, added in the transaction of what they report: told if that is committed, and only then.

Whoever has something to tell calls `enqueue_event`, as the writer or the operator. It adds the event, and a delivery of
it for each enabled endpoint that chose its type: those of its org, and operators'. Nothing is sent here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tallystick.core.webhook_events import TYPE, NewEvent, event_id_of
from tallystick.core.webhook_schedule import ATTEMPTS_MAX
from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.encoding import canonical_json

__all__ = ["DATA_BYTES_MAX", "KEY_CHARS_MAX", "NewEvent", "enqueue_event", "enqueue_events"]

DATA_BYTES_MAX = 64 * 1024
"""The longest data of an event, as JSON."""
KEY_CHARS_MAX = 512
_SQL = load_queries("webhooks")


def enqueue_event(
    connection: Connection, *, org_id: str | None, type: str, key: str, data: Mapping[str, Any], at: datetime
) -> str:
    """Tell of something that has happened, once: the same org, type and key again is the same event.

    Args:
        connection: a writer's or an operator's transaction: that of what is told.
        org_id: whose endpoints get it, besides operators'; None: operators' alone.
        type: of `core.webhook_events.EVENT_TYPES`, or another of that form.
        key: what the event is known by within org and type, such as an entry's sequence.
        data: what has happened: objects, arrays, text, integers below 2**53, booleans and null; amounts are text.
        at: when it happened, by the org's clock.

    Returns:
        The event's id, which receivers see as `webhook-id`; of one that was there, the same.

    Raises:
        ValueError: the type, the key or the data cannot be an event's.
    """
    return enqueue_events(connection, [NewEvent(org_id, type, key, data, at)])[0]


def enqueue_events(connection: Connection, events: Sequence[NewEvent]) -> list[str]:
    """As `enqueue_event`, for several; they are told in this order."""
    if not events:
        return []
    for event in events:
        if not TYPE.fullmatch(event.type) or not 0 < len(event.key) <= KEY_CHARS_MAX:
            raise ValueError(f"no event can be called {event.type} {event.key}")
    datas = [canonical_json(event.data).decode() for event in events]
    if any(len(data) > DATA_BYTES_MAX for data in datas):
        raise ValueError(f"an event tells of more than {DATA_BYTES_MAX} bytes")
    ids = [event_id_of(event.org_id, event.type, event.key) for event in events]
    connection.execute(
        _SQL["enqueue"],
        {
            "events": ids,
            "orgs": [event.org_id for event in events],
            "types": [event.type for event in events],
            "keys": [event.key for event in events],
            "ats": [event.at for event in events],
            "datas": datas,
            "attempts_max": ATTEMPTS_MAX,
        },
    )
    return ids
