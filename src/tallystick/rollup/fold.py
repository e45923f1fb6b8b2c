"""Adding up entries one by one: for those that only blocks hold, and as the rule that the database is held to."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import Any, NamedTuple

from tallystick.ledger.adjustment import ADJUSTMENT, Adjust
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import Lot
from tallystick.rollup.model import (
    MeterSums,
    OperationSlice,
    OperationSums,
    Reopened,
    RequestSums,
    Slice,
    day_of,
    reopened_on,
)


class Dims(NamedTuple):
    """What a correction takes from the request that it is of, besides the payer."""

    environment: str
    feature: str
    action: str
    provider: str
    model: str


class Fold:
    """Sums of one org's entries.

    Attributes:
        requests, meters, operations, reopened: the sums, by day and what else tells them apart.
    """

    def __init__(self) -> None:
        self.requests: dict[tuple[date, Slice], RequestSums] = {}
        self.meters: dict[tuple[date, Slice, str], MeterSums] = {}
        self.operations: dict[tuple[date, OperationSlice], OperationSums] = {}
        self.reopened: dict[tuple[date, date], Reopened] = {}
        self._unpriced: dict[int, Dims] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry; a correction comes after the request that it is of, or after `know` of that.

        Raises:
            KeyError: a correction of a request that is not known.
            ValueError: the body of an operation cannot be read.
        """
        if entry.kind == "usage":
            self._add_usage(entry)
        elif entry.kind == "correction":
            self._add_correction(entry, self._unpriced[entry.refers_to_seq or 0])
        else:
            self._add_operation(entry)

    def know(self, entry: Entry) -> None:
        """Of this request a correction may come; it is not added itself."""
        self._unpriced[entry.seq] = dims_of(entry)

    def _add_usage(self, entry: Entry) -> None:
        dims = dims_of(entry)
        unpriced = int(entry.status == "unpriced")
        if unpriced:
            self._unpriced[entry.seq] = dims
        sums = RequestSums(
            requests=1,
            failures=int(entry.outcome == "failure"),
            empty=int(entry.outcome == "empty"),
            unfinished=int(entry.usage_status != "final"),
            unpriced=unpriced,
            cost_pico=entry.cost_pico or 0,
            latency_ms=entry.latency_ms or 0,
            latency_requests=int(entry.latency_ms is not None),
        )
        place = _slice(dims, entry.payer)
        self._add_sums(entry, place, sums)
        for meter, quantity in zip(entry.meter_names or (), entry.meter_quantities or (), strict=True):
            self._add_meter(entry, place, meter, MeterSums(int(quantity > 0), quantity))
        self._add_lines(entry, place)

    def _add_correction(self, entry: Entry, dims: Dims) -> None:
        place = _slice(dims, entry.payer)
        self._add_sums(entry, place, RequestSums(unpriced=-1, cost_pico=entry.cost_pico or 0))
        self._add_lines(entry, place)

    def _add_lines(self, entry: Entry, place: Slice) -> None:
        known = entry.cost_pico is not None
        for meter, amount in zip(entry.line_meters, entry.line_amount_pico, strict=True):
            self._add_meter(entry, place, meter, MeterSums(cost_pico=(amount or 0) if known else 0))

    def _add_operation(self, entry: Entry) -> None:
        request, result = read_body(entry.kind, entry.body or "")
        if entry.kind == ADJUSTMENT:
            self._add_adjustment(entry, request)
        reason, credits_pico = _said(entry.kind, request, result)
        place = OperationSlice(entry.kind, entry.environment or "", entry.feature or "", entry.action or "", reason)
        key = (day_of(entry.time), place)
        before = self.operations.get(key, OperationSums())
        self.operations[key] = OperationSums(before.operations + 1, before.credits_pico + credits_pico)

    def _add_adjustment(self, entry: Entry, request: Adjust) -> None:
        dims = dims_of(entry)
        place = _slice(dims, request.payer)
        self._add_sums(entry, place, RequestSums(cost_pico=request.cost_pico))
        for line in request.lines:
            self._add_meter(entry, place, line.meter, MeterSums(quantity=line.quantity, cost_pico=line.cost_pico))

    def _add_sums(self, entry: Entry, place: Slice, sums: RequestSums) -> None:
        key = (day_of(entry.time), place)
        self.requests[key] = add(self.requests.get(key, RequestSums()), sums)
        recorded_on = reopened_on(entry.time, entry.recorded_at)
        if recorded_on is not None:
            late = (key[0], recorded_on)
            before = self.reopened.get(late, Reopened(0, entry.seq, entry.seq))
            self.reopened[late] = Reopened(
                before.entries + 1,
                min(before.first_seq, entry.seq),
                max(before.last_seq, entry.seq),
                before.requests + sums.requests,
                before.unpriced + sums.unpriced,
                before.cost_pico + sums.cost_pico,
            )

    def _add_meter(self, entry: Entry, place: Slice, meter: str, sums: MeterSums) -> None:
        key = (day_of(entry.time), place, meter)
        self.meters[key] = add(self.meters.get(key, MeterSums()), sums)


def add(left: Any, right: Any) -> Any:
    """Two tuples of sums of the same kind, added member by member."""
    return type(left)(*(one + other for one, other in zip(left, right, strict=True)))


def dims_of(entry: Entry) -> Dims:
    """What the entry itself names."""
    return Dims(
        entry.environment or "", entry.feature or "", entry.action or "", entry.provider or "", entry.model or ""
    )


def _slice(dims: Dims, payer: str | None) -> Slice:
    return Slice(*dims, payer or "seller")


def _said(kind: str, request: Any, result: Any) -> tuple[str, int]:
    """Why, in a word, and how many pico-credits were charged, granted, given back or ended."""
    match kind:
        case "denial":
            return str(result.decision.code), 0
        case "grant":
            return str(request.source), int(request.amount_pico)
        case "settlement":
            return str(request.outcome), _amount(result.charged, result.overage) + int(result.receivable_pico)
        case "refund":
            return "", _amount(result.returned) + int(result.receivable_pico)
        case "expiry":
            return str(request.what), _amount(getattr(result, "lots", ()))
        case _:
            return "", 0


def _amount(*lots: Iterable[Lot]) -> int:
    return sum(lot.amount_pico for some in lots for lot in some)
