"""Taking in events: each is checked and stored on its own merits, and told what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict, Problems, TallyError
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.ledger.receipt import Receipt, ReceiptStatus
from tallystick.usage.checks import TEXT_CHARS_MAX, check_event
from tallystick.usage.cloudevents import event_of_cloudevent, is_cloudevent
from tallystick.usage.event import UsageEvent

BATCH_EVENTS = 4000
"""Events in one transaction: the fixed cost of a commit is shared, and no org is locked for long."""


class Refused(NamedTuple):
    """An item that is no sound event: why, and its request id where it has one."""

    error: BadInput
    request_id: str | None = None


class EventResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event.

    Attributes:
        index: its place in what was sent, from 0.
        receipt: what the ledger said; None when the event never reached it.
        error: why it was rejected or conflicts; None for `accepted` and `duplicate`.
        request_id: as it was sent, also of an event that was rejected; None when it had none.
    """

    index: int
    request_id: str | None = None
    receipt: Receipt | None = None
    error: TallyError | None = None

    @property
    def status(self) -> ReceiptStatus:
        return "rejected" if self.receipt is None else self.receipt.status

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON members: amounts are decimal strings, and what is not known is left out or null."""
        receipt, error = self.receipt, self.error
        answer: dict[str, Any] = {"index": self.index, "status": self.status, "request_id": self.request_id}
        if receipt is not None:
            answer |= {"org_id": receipt.org_id, "fingerprint": receipt.fingerprint}
            if receipt.seq is not None:
                answer["seq"] = receipt.seq
            if receipt.recorded_at is not None:
                answer["recorded_at"] = format_instant(receipt.recorded_at)
            if receipt.status in ("accepted", "duplicate"):
                cost_usd = None if receipt.cost_pico is None else pico_to_usd(receipt.cost_pico)
                answer |= {"cost_usd": cost_usd, "cost_status": receipt.cost_status}
                answer |= {"rate_version": receipt.rate_version}
                if receipt.reason is not None:
                    answer["reason"] = receipt.reason
            if receipt.stored_fingerprint is not None:
                answer["stored_fingerprint"] = receipt.stored_fingerprint
        if error is not None:
            answer |= {"code": error.code, "field": error.where, "detail": error.detail, "next_step": error.next_step}
            if isinstance(error, Problems):
                answer["problems"] = [_problem(problem) for problem in error.problems]
        return answer


def _problem(error: BadInput) -> dict[str, Any]:
    return {"code": error.code, "field": error.where, "detail": error.detail, "next_step": error.next_step}


def ingest_events(
    runtime: Runtime, items: Iterable[object], *, cloudevents: bool | None = None, batch_events: int = BATCH_EVENTS
) -> list[EventResult]:
    """Check and store events; one result for each, in order. What was accepted is on disk when this returns.

    Args:
        runtime: an open one.
        items: decoded JSON values, or a `BadInput` in the place of one that could not be read.
        cloudevents: whether the items are CloudEvents; None looks at each.
        batch_events: how many go into one transaction.

    Raises:
        Unavailable: the database is gone; some batches may be stored, and sending everything again is safe.
    """
    checked = check_items(runtime, items, cloudevents=cloudevents)
    return [
        result
        for start in range(0, len(checked), batch_events)
        for result in store_checked(runtime, checked[start : start + batch_events], first_index=start)
    ]


def check_items(
    runtime: Runtime, items: Iterable[object], *, cloudevents: bool | None = None
) -> list[UsageEvent | Refused]:
    """Each item as a sound event, or what is wrong with it."""
    now, known_meters, reloaded = runtime.clock(), runtime.known_meters(), False
    checked: list[UsageEvent | Refused] = []
    for item in items:
        if isinstance(item, BadInput):
            checked.append(Refused(item))
            continue
        try:
            raw = event_of_cloudevent(item) if cloudevents or (cloudevents is None and is_cloudevent(item)) else item
            try:
                checked.append(check_event(raw, now=now, known_meters=known_meters))
            except BadInput as error:
                if reloaded or not _mentions_unknown_meter(error):
                    raise
                # A contract that declares it may have been applied since the meters were read.
                known_meters, reloaded = runtime.known_meters(reload=True), True
                checked.append(check_event(raw, now=now, known_meters=known_meters))
        except BadInput as error:
            checked.append(Refused(error.with_traceback(None), _request_id(item)))
    return checked


def _request_id(item: object) -> str | None:
    found = item.get("request_id") if isinstance(item, Mapping) else None
    return found[:TEXT_CHARS_MAX] if isinstance(found, str) and found.isprintable() else None


def _mentions_unknown_meter(error: BadInput) -> bool:
    problems = error.problems if isinstance(error, Problems) else (error,)
    return any(problem.code == "unknown_meter" for problem in problems)


def store_checked(
    runtime: Runtime, checked: Sequence[UsageEvent | Refused], *, first_index: int = 0
) -> list[EventResult]:
    """Store the sound ones in one transaction; a result for each, in order.

    Raises:
        Unavailable: the database is gone; nothing of this batch is known to be stored, a resend is safe.
    """
    batch = runtime.prepare([event for event in checked if isinstance(event, UsageEvent)])
    return results_of(checked, runtime.write(batch), first_index=first_index)


def results_of(
    checked: Sequence[UsageEvent | Refused], receipts: Iterable[Receipt], *, first_index: int
) -> list[EventResult]:
    """A result for each item, the receipts being those of the sound ones, in order."""
    remaining = iter(receipts)
    results = []
    for index, event in enumerate(checked, first_index):
        if isinstance(event, Refused):
            results.append(EventResult(index=index, request_id=event.request_id, error=event.error))
        else:
            receipt = next(remaining)
            error = _error_of(receipt)
            results.append(EventResult(index=index, request_id=event.request_id, receipt=receipt, error=error))
    return results


def _error_of(receipt: Receipt) -> TallyError | None:
    if receipt.status == "conflict":
        return Conflict(
            receipt.code or "request_id_conflict",
            receipt.reason or "",
            next_step="give a different event an id of its own; a retry must send the same content",
            where="request_id",
        )
    if receipt.status == "rejected":
        return BadInput(receipt.code or "", receipt.reason or "", next_step="check its quantities", where="meters")
    return None
