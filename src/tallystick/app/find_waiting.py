"""What of a request is not in the ledger: settlements and events that wait on this machine's disk, or were refused."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from contextlib import closing
from typing import Any, NamedTuple

import msgspec

from tallystick.app.settings import Settings
from tallystick.app.settlement_view import refused_members, waiting_members
from tallystick.core.instants import format_instant
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.spool import Spool
from tallystick.journal.waiting_queue import RefusedRow, WaitingRow
from tallystick.usage.event import UsageEvent

Members = dict[str, Any]

_SUFFIX = re.compile(r"(~[0-9]+)?(/[0-9]+)?$")
"""What the gateway adds to a request's id: the attempt, and the part of an answer."""
_event = msgspec.json.Decoder(UsageEvent).decode


class Waiting(NamedTuple):
    """What waits or was refused, as a step of a story; `hold_id` of the ends of holds."""

    org_id: str
    hold_id: str | None
    step: Members


def waiting_for(settings: Settings, text: str, org_id: str | None) -> list[Waiting]:
    """What waits under that id: a request's, the provider's, or a hold's (of `org_id`).

    Raises:
        Unavailable: `spool_unusable`.
    """
    content = msgspec.json.encode(text)[1:-1]
    with closing(SettlementFile(settings.data_dir)) as file:
        rows: list[WaitingRow | RefusedRow] = [*file.waiting_with(text, content), *file.refused_with(text, content)]
    found = [one for one in map(_end, rows) if _is_meant(one, text, org_id)]
    with closing(Spool(settings.data_dir, events_max=settings.spool_events_max)) as spool:
        rows = [*spool.waiting_with(text, content), *spool.refused_with(text, content)]
    return found + [one for one in map(_spooled, rows) if _is_meant(one, text, org_id)]


def waiting_of(settings: Settings, org_id: str, hold_ids: Collection[str]) -> list[Waiting]:
    """The ends of these holds that wait, or were refused.

    Raises:
        Unavailable: `spool_unusable`.
    """
    with closing(SettlementFile(settings.data_dir)) as file:
        rows: Iterable[WaitingRow | RefusedRow] = [*file.waiting_rows(), *file.refused_rows()] if hold_ids else ()
    return [_end(one) for one in rows if one.org_id == org_id and one.name in hold_ids]


def _end(row: WaitingRow | RefusedRow) -> Waiting:
    members = refused_members(row) if isinstance(row, RefusedRow) else waiting_members(row)
    return Waiting(row.org_id, row.name, _step(row) | {"where": "settlement queue", **members})


def _spooled(row: WaitingRow | RefusedRow) -> Waiting:
    event = _event(row.content)
    usage = {
        "request_id": event.request_id,
        "time": format_instant(event.time),
        "provider": event.provider,
        "model": event.model,
        "meters": dict(event.meters),
        "latency_ms": event.latency_ms,
        "usage_status": event.usage_status,
        "provider_request_id": event.attributes.get("provider_request_id"),
    }
    members: Members = {"org_id": row.org_id, "kind": "usage", "queued_at": row.queued_at, "usage": [usage]}
    if isinstance(row, RefusedRow):
        members |= {"refused_at": row.refused_at, "code": row.code, "reason": row.reason}
    return Waiting(row.org_id, None, _step(row) | {"where": "spool", **members})


def _step(row: WaitingRow | RefusedRow) -> Members:
    refused = isinstance(row, RefusedRow)
    return {"step": "refused" if refused else "queued", "at": row.queued_at, "seq": None}


def _is_meant(one: Waiting, text: str, org_id: str | None) -> bool:
    """Whether it is known by that id, and does not only have it somewhere in it."""
    if org_id is not None and one.org_id != org_id:
        return False
    if org_id is not None and one.hold_id == text:
        return True
    return any(
        text in (each["request_id"], _SUFFIX.sub("", each["request_id"]), each["provider_request_id"])
        for each in one.step["usage"]
    )
