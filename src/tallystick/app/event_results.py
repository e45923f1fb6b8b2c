"""What became of each event that was taken in, and how that is told: the members of its JSON answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.core.errors import BadInput, Conflict, Problems, TallyError
from tallystick.core.instants import format_instant
from tallystick.core.key_shapes import without_secrets
from tallystick.core.money import pico_to_usd
from tallystick.ledger.receipt import Receipt, ReceiptStatus
from tallystick.usage.event import UsageEvent

TAKEN = ("accepted", "duplicate")
"""The statuses of an event that stands in the ledger."""


class Refused(NamedTuple):
    """An item that is no sound event, or cannot be known to be one now: why, and its request id where it has one."""

    error: TallyError
    request_id: str | None = None


class TakenResult(msgspec.Struct, omit_defaults=True, gc=False):
    """The answer for an event that stands in the ledger, as JSON has it; `recorded_at` is RFC 3339 there.

    Made for every event, so it is what is encoded, without a dict in between. `line` is known to who read lines.
    """

    index: int
    status: str
    request_id: str
    org_id: str
    fingerprint: str
    leaf: str | None
    seq: int | None
    recorded_at: datetime | None
    cost_usd: str | None
    cost_status: str | None
    rate_version: str | None
    reason: str | None = None
    line: int | None = None


def taken_result(index: int, receipt: Receipt) -> TakenResult:
    """The answer that a receipt with a status of `TAKEN` becomes."""
    cost_pico = receipt.cost_pico
    return TakenResult(
        index,
        receipt.status,
        receipt.request_id,
        receipt.org_id,
        receipt.fingerprint,
        receipt.leaf,
        receipt.seq,
        receipt.recorded_at,
        None if cost_pico is None else pico_to_usd(cost_pico),
        receipt.cost_status,
        receipt.rate_version,
        receipt.reason,
    )


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
        if receipt is not None and receipt.status in TAKEN:
            taken: dict[str, Any] = msgspec.to_builtins(taken_result(self.index, receipt))
            return taken
        answer: dict[str, Any] = {"index": self.index, "status": self.status, "request_id": self.request_id}
        if receipt is not None:
            answer |= {"org_id": receipt.org_id, "fingerprint": receipt.fingerprint}
            if receipt.seq is not None:
                answer["seq"] = receipt.seq
            if receipt.recorded_at is not None:
                answer["recorded_at"] = format_instant(receipt.recorded_at)
            if receipt.stored_fingerprint is not None:
                answer["stored_fingerprint"] = receipt.stored_fingerprint
        if error is not None:
            answer |= _members(error)
            if isinstance(error, Problems):
                answer["problems"] = [_members(problem) for problem in error.problems]
        return answer


def _shown(request_id: str | None) -> str | None:
    return None if request_id is None else without_secrets(request_id)


def _members(error: TallyError) -> dict[str, Any]:
    return {"code": error.code, "field": error.where, "detail": error.detail, "next_step": error.next_step}


def results_of(
    checked: Sequence[UsageEvent | Refused], receipts: Iterable[Receipt], *, first_index: int = 0
) -> list[EventResult]:
    """A result for each item, the receipts being those of the sound ones, in order."""
    remaining = iter(receipts)
    return [
        EventResult(index=index, request_id=_shown(event.request_id), error=event.error)
        if isinstance(event, Refused)
        else result_of(index, next(remaining))
        for index, event in enumerate(checked, first_index)
    ]


def result_of(index: int, receipt: Receipt) -> EventResult:
    """The result for an event that got this receipt."""
    return EventResult(index=index, request_id=receipt.request_id, receipt=receipt, error=_error_of(receipt))


def _error_of(receipt: Receipt) -> TallyError | None:
    if receipt.status == "conflict":
        return Conflict(
            receipt.code or "request_id_conflict",
            receipt.reason or "",
            next_step="give a different event an id of its own; a retry must send the same content",
            where="request_id",
        )
    if receipt.status == "rejected":
        next_step, where = _MENDING.get(receipt.code or "", ("see the detail, and mend the event", None))
        return BadInput(receipt.code or "", receipt.reason or "", next_step=next_step, where=where)
    return None


_MENDING = {
    "cost_out_of_range": ("check its quantities", "meters"),
    "outside_dedup_window": (
        "whether it was recorded before is not known any more: see to it by hand, and send events sooner",
        "time",
    ),
}
"""By code, what to do about an event that the ledger rejects, and the field at fault."""
