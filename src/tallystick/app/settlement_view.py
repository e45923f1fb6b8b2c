"""What an operator sees of the queue of settlements, and does with those that the ledger refused."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import Any, NamedTuple

from tallystick.app.audit import Act, record_act
from tallystick.app.release import checked_release
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.app.settlement_queue import decode_end, drain_settlements
from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import Clock, format_instant
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.waiting_queue import GivenUp, QueueState, RefusedRow, WaitingRow
from tallystick.ledger.operation_ids import parse_operation_id
from tallystick.usage.event_problems import TEXT_CHARS_MAX, check_text

Members = dict[str, Any]

_log = logging.getLogger("tallystick.settlements")


class Contents(NamedTuple):
    """What is in the queue: how much waits, what was refused, and what was given up."""

    state: QueueState
    refused: list[Members]
    given_up: list[GivenUp]


def settlement_contents(settings: Settings) -> Contents:
    """How much waits, what the ledger refused, and what was left at that; no database is asked.

    Raises:
        Unavailable: `spool_unusable`.
    """
    with closing(SettlementFile(settings.data_dir)) as file:
        return Contents(file.state(), [refused_members(one) for one in file.refused_rows()], file.given_up())


def drain_queue(runtime: Runtime) -> tuple[int, int]:
    """Write what waits into the ledger now: how many were written, and how many were refused.

    Raises:
        Unavailable: the ledger cannot be reached, or a disk is full; what was not written still waits.
    """
    with closing(SettlementFile(runtime.settings.data_dir)) as file:
        return drain_settlements(runtime, file)


def retry_settlements(settings: Settings, clock: Clock, org_id: str | None = None, hold_id: str | None = None) -> int:
    """Let what was refused wait once more, all of it or the end of one hold; how many that are.

    Raises:
        BadInput: `invalid_id`.
        NotFound: `not_refused`: that hold's end is not among them.
        Unavailable: `storage_full` or `spool_unusable`; then nothing has changed.
    """
    if hold_id is not None:
        parse_operation_id("hold", hold_id, where="HOLD")

    def wanted(one: RefusedRow) -> bool:
        return (org_id is None or one.org_id == org_id) and (hold_id is None or one.name == hold_id)

    with closing(SettlementFile(settings.data_dir)) as file:
        count = file.retry_rows(bytes, format_instant(clock()), wanted)
    if not count and hold_id is not None:
        raise _not_refused(org_id or "", hold_id)
    return count


def give_up_settlement(runtime: Runtime, org_id: str, hold_id: str, *, author: str, reason: str) -> Members:
    """Leave the end of a hold that the ledger refused at that: its usage is never recorded, and nothing is charged.

    Where the hold is still open it is released, so that the ledger says it too. Who says so and why is kept in the
    queue's file; what was to be written is not.

    Raises:
        BadInput: `invalid_id`, or what is wrong with the author or the reason.
        NotFound: `not_refused`.
        Unavailable: the ledger cannot be reached; `storage_full`, `spool_unusable`. Nothing is given up then.
    """
    parse_operation_id("hold", hold_id, where="HOLD")
    check_text("--author", author)
    check_text("--reason", reason)
    said = f"its settlement was given up by {author}: {reason}"
    now = format_instant(runtime.clock())
    ended: list[tuple[str | None, str]] = []
    with closing(SettlementFile(runtime.settings.data_dir)) as file:
        # Nobody tries it again while its hold is released: it would be charged nothing, and recorded all the same.
        count = file.give_up(
            org_id,
            hold_id,
            author=author,
            why=reason,
            now=now,
            first=lambda: ended.append(_release(runtime, org_id, hold_id, said, author=author, said=reason)),
        )
    if not count:
        raise _not_refused(org_id, hold_id)
    ((released, left),) = ended
    _log.warning("the end of hold %s of %s was given up by %s: %s", hold_id, org_id, author, reason)
    return {
        "org_id": org_id,
        "hold_id": hold_id,
        "given_up": count,
        "release_id": released,
        "hold_is": left,
        "author": author,
        "reason": reason,
        "given_up_at": now,
    }


def _release(
    runtime: Runtime, org_id: str, hold_id: str, reason: str, *, author: str, said: str
) -> tuple[str | None, str]:
    """The id of the hold's release, when it was open; and how the hold stands."""
    raw = {"org_id": org_id, "hold_id": hold_id, "reason": reason[:TEXT_CHARS_MAX]}
    operation = checked_release(runtime, raw)
    release_id, left = None, "released"
    try:
        release_id = f"r{runtime.operations.submit(operation).result().seq}"
    except (Conflict, NotFound) as error:
        left = error.code
    with runtime.database.operator() as connection:
        after = {"release": release_id, "hold_is": left}
        record_act(connection, Act("settlement.give_up", hold_id, runtime.clock(), org_id, author, said, after=after))
    return release_id, left


def refused_members(one: RefusedRow) -> Members:
    """What was refused, and why."""
    return waiting_members(one) | {"refused_at": one.refused_at, "code": one.code, "reason": one.reason}


def waiting_members(one: WaitingRow | RefusedRow) -> Members:
    """The end of a hold as it stands in the queue: whose, of which requests, and what was used."""
    end = decode_end(one.content)
    settle = end.settle
    return {
        "org_id": one.org_id,
        "hold_id": one.name,
        "kind": "settlement" if settle is not None else "release",
        "outcome": None if settle is None else settle.outcome,
        "queued_at": one.queued_at,
        "feature": end.of_hold.feature,
        "environment": end.of_hold.environment,
        "api_key_id": end.of_hold.api_key_id,
        "usage": [
            {
                "request_id": each.event.request_id,
                "time": format_instant(each.event.time),
                "provider": each.event.provider,
                "model": each.event.model,
                "meters": dict(each.event.meters),
                "latency_ms": each.event.latency_ms,
                "usage_status": each.event.usage_status,
                "provider_request_id": each.event.attributes.get("provider_request_id"),
            }
            for each in end.events
        ],
    }


def _not_refused(org_id: str, hold_id: str) -> NotFound:
    return NotFound(
        "not_refused",
        f"no settlement of hold {hold_id} of {org_id!r} is among the refused",
        next_step="see `tally settlements` for those that are",
    )
