"""Sending what waits: usage events together, settlements and releases one by one, and what became of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick_sdk import wire
from tallystick_sdk.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    TallyError,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from tallystick_sdk.http import Http
from tallystick_sdk.spool import Row

EVENTS_MAX: Final = 500
"""How many events one request brings."""
BYTES_MAX: Final = 4_000_000
_TIMEOUT_SECONDS: Final = 30.0
_TAKEN: Final = frozenset({"accepted", "duplicate", "spooled"})


@dataclass
class Delivered:
    """What became of the rows that were given to `deliver`; a row that is in none of these is to be sent again.

    Attributes:
        done: places of those that the server has.
        refused: those that it will never take, with the code and the reason.
        settled: settlements that are written, with their usage.
        freed: settlements that will never be: their usage is now to be sent by itself.
        foreign: orgs that the key is not of.
        error: what kept the rest from being sent.
    """

    done: list[int] = field(default_factory=list)
    refused: list[tuple[Row, str, str]] = field(default_factory=list)
    settled: list[Row] = field(default_factory=list)
    freed: list[Row] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    error: TallyError | None = None


def deliver(http: Http, rows: Sequence[Row]) -> Delivered:
    """Send them, each once; it stops at the first that keeps all from being sent."""
    told = Delivered()
    events = [row for row in rows if row.kind == "event"]
    for part in _parts(events):
        _send_events(http, part, told)
        if told.error:
            return told
    for row in rows:
        if row.kind != "event" and row.org_id not in told.foreign:
            _send_operation(http, row, told)
            if told.error:
                return told
    return told


def is_lasting(error: TallyError) -> bool:
    """Whether it is about what was sent: the same again will be refused again."""
    return isinstance(error, (BadRequest, Conflict, NotFound))


def _parts(rows: Sequence[Row]) -> Iterable[list[Row]]:
    part: list[Row] = []
    size = 0
    for row in rows:
        if part and (len(part) == EVENTS_MAX or size + len(row.body) > BYTES_MAX):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.body) + 1
    if part:
        yield part


def _send_events(http: Http, rows: list[Row], told: Delivered) -> None:
    rows = [row for row in rows if row.org_id not in told.foreign]
    if not rows:
        return
    body = b"[" + b",".join(row.body for row in rows) + b"]"
    try:
        answer = http.ask_once(wire.Call(method="POST", path="/v1/events", body=body), _TIMEOUT_SECONDS)
    except Forbidden as error:
        _forbidden(http, rows, told, error)
    except (BadRequest, Conflict, NotFound) as error:
        _refused_whole(http, rows, told, error)
    except TallyError as error:
        told.error = error
    else:
        _judge_events(rows, answer, told)


def _forbidden(http: Http, rows: list[Row], told: Delivered, error: Forbidden) -> None:
    """A key of one org cannot send another's: each org's by themselves, and what is not ours stays for who can."""
    orgs = sorted({row.org_id for row in rows})
    if error.code != "wrong_org":
        told.error = error
    elif len(orgs) == 1:
        told.foreign.add(orgs[0])
    else:
        for org_id in orgs:
            _send_events(http, [row for row in rows if row.org_id == org_id], told)
            if told.error:
                return


def _refused_whole(http: Http, rows: list[Row], told: Delivered, error: TallyError) -> None:
    """A request that is refused as a whole is halved, until what is wrong in it stands alone."""
    if isinstance(error, NotFound) and error.code.startswith("http_"):
        told.error = error  # another server: nothing is wrong with the events
    elif len(rows) == 1:
        told.refused.append((rows[0], error.code, error.detail))
    else:
        middle = len(rows) // 2
        for half in (rows[:middle], rows[middle:]):
            _send_events(http, half, told)
            if told.error:
                return


def _judge_events(rows: list[Row], answer: Any, told: Delivered) -> None:
    results = answer.get("results") if isinstance(answer, Mapping) else None
    if not isinstance(results, list) or len(results) != len(rows):
        told.error = UnexpectedAnswer(
            "unexpected_answer",
            "the answer does not say what became of each event",
            next_step="see whether base_url is the address of a Tallystick server",
        )
        return
    for row, result in zip(rows, results, strict=True):
        if result.get("status") in _TAKEN:
            told.done.append(row.place)
        elif result.get("code") in ("wrong_org", "scope_missing"):
            told.foreign.add(row.org_id)
        else:
            told.refused.append((row, *_reason(result)))


def _reason(result: Mapping[str, Any]) -> tuple[str, str]:
    if result.get("status") == "conflict":
        return "request_id_conflict", "another event is stored under this request id; this one was not counted"
    return str(result.get("code") or "rejected"), str(result.get("detail") or "the server has rejected it")


def _send_operation(http: Http, row: Row, told: Delivered) -> None:
    try:
        http.ask_once(wire.Call(method="POST", path=f"/v1/{row.kind}", body=row.body), _TIMEOUT_SECONDS)
    except (Unavailable, Unauthorized, UnexpectedAnswer) as error:
        told.error = error
    except Forbidden as error:
        if error.code == "wrong_org":
            told.foreign.add(row.org_id)
        else:
            told.error = error
    except TallyError as error:
        if isinstance(error, NotFound) and error.code.startswith("http_"):
            told.error = error
            return
        if row.kind == "settle":
            told.freed.append(row)
        if row.kind == "settle" and error.code == "hold_expired":
            told.done.append(row.place)  # all that is left to do is to record its usage
        else:
            told.refused.append((row, error.code, error.detail))
    else:
        if row.kind == "settle":
            told.settled.append(row)
        told.done.append(row.place)


def event_ids_of(row: Row) -> list[str]:
    """The ids of the usage events that a settlement brings."""
    return [event["request_id"] for event in json.loads(row.body).get("events", ())]
