"""Disputed requests: their entries, which invoice bears them, and what they were charged in money and credits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from tallystick.app.dispute_months import open_month, terms_now, terms_of_then
from tallystick.app.find_entries import StoryEntries
from tallystick.app.history import FOR_EVER, SINCE_EVER
from tallystick.app.period_source import PeriodInBlocks, open_period
from tallystick.app.pinned import pinned_terms
from tallystick.app.runtime import Runtime
from tallystick.app.seal import block_store
from tallystick.core.errors import BadInput, NotFound
from tallystick.core.periods import load_zone
from tallystick.dispute.charges import MonthCharge, charge_of
from tallystick.invoice.entry_count import EntryCount
from tallystick.invoice.model import parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import MonthCount
from tallystick.journal.database import Connection
from tallystick.journal.find import blocks_left, entries_at, named
from tallystick.journal.invoices import InvoiceRow, invoice_by_month, list_invoice_rows
from tallystick.journal.period_facts import count_month
from tallystick.journal.period_scope import Scope, begin_reading, read_head
from tallystick.journal.subscriptions import list_subscriptions
from tallystick.ledger.dispute_operations import DisputedCharge, OpenMonth
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import Returned, Settle, Settled
from tallystick.ledger.refundable import charge_parts

_STORY_AT_ONCE = 200


class Settlement(NamedTuple):
    """A settlement of disputed requests.

    Attributes:
        entry, request, settled: it itself.
        hold: the entry of its hold.
        refunded_pico: how much of what it charged had been given back, in pico-credits.
    """

    entry: Entry
    request: Settle
    settled: Settled
    hold: Entry | None
    refunded_pico: int

    @property
    def left_pico(self) -> int:
        """What it charged and nobody has given back, in pico-credits."""
        return charge_parts(self.settled).amount_pico - self.refunded_pico


@dataclass(frozen=True)
class DisputedMonth:
    """A month that disputed requests are of.

    Attributes:
        label: such as `2026-10`.
        terms: the plans that price it; None where the org was on none.
        count: what all of it comes to, up to `through_seq`.
        charge: what the requests were charged in it; None where no plan was in force.
        opened_under: of a month that is on no invoice yet, its plans; None of one that is on its own.
    """

    label: str
    terms: Terms | None
    requests: tuple[Entry, ...]
    charge: MonthCharge | None
    count: MonthCount | None = None
    through_seq: int = 0
    opened_under: OpenMonth | None = None

    def charge_of(self, request: Entry, related: Iterable[Entry]) -> MonthCharge | None:
        """What one of the requests was charged, taken alone."""
        if self.terms is None or self.count is None:
            return None
        mine = sorted([request, *(one for one in related if one.refers_to_seq == request.seq)], key=lambda one: one.seq)
        return charge_of(self.terms, self.count, mine, self.through_seq)


@dataclass(frozen=True)
class Weighed:
    """Requests, with what they were charged as the ledger stood at `through_seq`.

    Attributes:
        requests: their entries, in order.
        related: entries that correct or adjust them, in order.
        settlements: those that charged credits for them, in order.
        invoice: the invoice that bears them; None where none does yet.
    """

    org_id: str
    through_seq: int
    requests: tuple[Entry, ...]
    related: tuple[Entry, ...]
    settlements: tuple[Settlement, ...]
    months: tuple[DisputedMonth, ...]
    invoice: InvoiceRow | None

    @property
    def cents(self) -> int:
        """What they were charged in money, in cents; nothing where their months are cheaper with them."""
        return max(0, sum(month.charge.cents for month in self.months if month.charge is not None))

    @property
    def charges(self) -> tuple[DisputedCharge, ...]:
        """What settlements charged for them in credits, and nobody has given back."""
        left = [DisputedCharge(one.entry.seq, one.left_pico) for one in self.settlements]
        return tuple(one for one in left if one.amount_pico > 0)


def find_requests(runtime: Runtime, org_id: str, request_ids: Sequence[str]) -> list[Entry]:
    """The usage entries of these requests, in the order of the ledger, wherever they are.

    Raises:
        NotFound: `unknown_request`, naming the first that the org has not.
        Conflict: `entries_missing`; BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    wanted = set(request_ids)
    with runtime.database.operator() as connection:
        seqs = {seq for _, seq in named(connection, [org_id], sorted(wanted))}
    with runtime.database.org(org_id) as connection:
        found = [one for one in entries_at(connection, org_id, seqs) if one.kind == "usage"]
    missing = wanted - {one.request_id for one in found}
    if missing:
        found += _in_blocks(runtime, org_id, missing)
    for request_id in request_ids:
        if all(one.request_id != request_id for one in found):
            raise NotFound(
                "unknown_request",
                f"{org_id} has no request {request_id[:120]!r}",
                next_step="send the ids of its requests as they were recorded; `tally find` looks for one",
                where="request_ids",
            )
    return sorted(found, key=lambda one: one.seq)


def _in_blocks(runtime: Runtime, org_id: str, ids: set[str]) -> list[Entry]:
    from tallystick.archive.find_rows import rows_named

    with runtime.database.operator() as connection:
        blocks = blocks_left(connection, org_id, SINCE_EVER, FOR_EVER)
    store = block_store(runtime.settings)
    seqs = {seq for block in blocks for _, seq in rows_named(store.main(block.path), org_id, ids, set())}
    found = StoryEntries(runtime, org_id).read(sorted(seqs))
    return [one for one in found if one.kind == "usage" and one.request_id in ids]


def weigh(
    runtime: Runtime,
    org_id: str,
    requests: Sequence[Entry],
    through_seq: int | None = None,
    months: Iterable[OpenMonth] | None = None,
) -> Weighed:
    """What these requests were charged.

    Args:
        requests: their entries, in order.
        through_seq: as the ledger stood then; None for now.
        months: those that were on no invoice then, with the plans of then; None for as they are now.

    Raises:
        BadInput: `requests_of_several_invoices`; `cost_unknown`, `credits_without_price`, as of an invoice.
        Conflict: `ledger_incomplete`, `entries_missing`; BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        through = head.last_seq if through_seq is None else through_seq
        rows = [row for row in list_invoice_rows(connection, org_id) if row.through_seq <= through]
        bearing = bearing_invoice(rows, requests)
        until = through if bearing is None else bearing.through_seq
        story = _story(runtime, org_id, requests, through)
        related = [one for one in story if one.kind in ("correction", "adjustment")]
        plans = _Plans(runtime, connection, org_id, months)
        weighed = [
            _month(runtime, connection, plans, label, part, related, rows, until)
            for label, part in _by_month(plans.zone, rows, requests).items()
        ]
    return Weighed(
        org_id=org_id,
        through_seq=through,
        requests=tuple(requests),
        related=tuple(related),
        settlements=tuple(_settlements(story, {one.request_id for one in requests})),
        months=tuple(weighed),
        invoice=bearing,
    )


def bearing_invoice(rows: Sequence[InvoiceRow], requests: Iterable[Entry]) -> InvoiceRow | None:
    """The invoice that bears all of these requests: that of their month, or the next one for what came late."""
    found: dict[str | None, InvoiceRow | None] = {}
    for entry in requests:
        closed = any(row.period_start <= entry.time < row.period_end for row in rows)
        later = [row for row in rows if row.through_seq >= entry.seq] if closed else []
        own = [row for row in later if row.period_start <= entry.time < row.period_end]
        bearing = own[0] if own else min(later, key=lambda row: row.through_seq, default=None)
        found[None if bearing is None else bearing.invoice_id] = bearing
    if len(found) > 1:
        listed = ", ".join(sorted(one or "none yet" for one in found))
        raise BadInput(
            "requests_of_several_invoices",
            f"these requests are on several invoices: {listed}",
            next_step="open a dispute for each invoice, with the requests that are on it",
            where="request_ids",
        )
    return next(iter(found.values()), None)


class _Plans:
    """The plans of months that are on no invoice yet, as they are now or as a dispute was opened under them."""

    def __init__(
        self, runtime: Runtime, connection: Connection, org_id: str, months: Iterable[OpenMonth] | None
    ) -> None:
        self._runtime, self._connection, self.org_id = runtime, connection, org_id
        self._months = None if months is None else {one.month: one for one in months}
        self._subscriptions = list_subscriptions(connection, org_id)
        zones = [one.time_zone for one in self._months.values()] if self._months else []
        self.zone = zones[0] if zones else self._subscriptions[0].time_zone if self._subscriptions else "UTC"

    def of(self, label: str) -> tuple[Terms | None, OpenMonth]:
        """The month's terms, None where the org was on no plan; and how an entry bears them."""
        if self._months is not None:
            terms = terms_of_then(self._connection, self.org_id, self._months, label)
        else:
            terms = terms_now(self._runtime, self.org_id, label, self._subscriptions)
        return terms, open_month(label, self.zone, len(self._subscriptions), terms)


def _by_month(time_zone: str, rows: Sequence[InvoiceRow], requests: Iterable[Entry]) -> dict[str, list[Entry]]:
    """The requests by the month that they are of, on the org's clocks."""
    zone = load_zone(time_zone)
    found: dict[str, list[Entry]] = {}
    for entry in requests:
        closed = next((row.period for row in rows if row.period_start <= entry.time < row.period_end), None)
        found.setdefault(closed or f"{entry.time.astimezone(zone):%Y-%m}", []).append(entry)
    return found


def _month(
    runtime: Runtime,
    connection: Connection,
    plans: _Plans,
    label: str,
    requests: Sequence[Entry],
    related: Iterable[Entry],
    rows: Iterable[InvoiceRow],
    through_seq: int,
) -> DisputedMonth:
    own = next((row for row in rows if row.period == label), None)
    stored = None if own is None else invoice_by_month(connection, plans.org_id, label)
    invoice = None if stored is None else parse_invoice(stored.document)
    opened_under: OpenMonth | None = None
    if invoice is not None:
        terms: Terms | None = pinned_terms(connection, invoice)
    else:
        terms, opened_under = plans.of(label)
    if terms is None:
        return DisputedMonth(label, None, tuple(requests), None, opened_under=opened_under)
    first_seq = 0 if invoice is None else invoice.ledger.first_seq or invoice.ledger.through_seq + 1
    count = count_through(runtime, connection, terms, through_seq, first_seq)
    seqs = {one.seq for one in requests}
    mine = sorted([*requests, *(one for one in related if one.refers_to_seq in seqs)], key=lambda one: one.seq)
    charge = charge_of(terms, count, mine, through_seq)
    return DisputedMonth(label, terms, tuple(requests), charge, count, through_seq, opened_under)


def count_through(
    runtime: Runtime, connection: Connection, terms: Terms, through_seq: int, first_seq: int
) -> MonthCount:
    """What a month comes to up to an entry, wherever its entries are.

    Args:
        first_seq: the first entry of the month, where that is known; 0 where it is not: all are read then, if they have
            left the database.
    """
    period = terms.period
    source = open_period(
        runtime, connection, Scope(terms.org_id, period.start, period.end, through_seq), first_seq or 1
    )
    if not isinstance(source, PeriodInBlocks):
        return count_month(connection, terms, through_seq)
    found = EntryCount(period, through_seq, terms)
    for entry in source.entries():
        found.add(entry)
    return found.count()


def _story(runtime: Runtime, org_id: str, requests: Sequence[Entry], through_seq: int) -> list[Entry]:
    """All that has to do with the requests: what corrects, adjusts, holds, settles and refunds them, in order."""
    found: dict[int, Entry] = {}
    for start in range(0, len(requests), _STORY_AT_ONCE):
        seqs = [one.seq for one in requests[start : start + _STORY_AT_ONCE]]
        found |= {one.seq: one for one in StoryEntries(runtime, org_id).gather(seqs)}
    return [found[seq] for seq in sorted(found) if seq <= through_seq]


def _settlements(story: Iterable[Entry], request_ids: set[str]) -> list[Settlement]:
    entries = list(story)
    holds = {one.seq: one for one in entries if one.kind == "hold"}
    refunded: dict[int, int] = {}
    for one in entries:
        if one.kind == "refund" and one.refers_to_seq is not None:
            returned: Returned = read_body("refund", one.body or "")[1]
            amount_pico = sum(lot.amount_pico for lot in returned.returned) + returned.receivable_pico
            refunded[one.refers_to_seq] = refunded.get(one.refers_to_seq, 0) + amount_pico
    found = []
    for one in entries:
        if one.kind == "settlement":
            request, settled = read_body("settlement", one.body or "")
            if request_ids & set(request.events):
                hold = holds.get(one.refers_to_seq or 0)
                found.append(Settlement(one, request, settled, hold, refunded.get(one.seq, 0)))
    return found


def earliest_charge(weighed: Weighed) -> datetime | None:
    """When the first of the settlements charged credits; None where none did."""
    return min((one.entry.recorded_at for one in weighed.settlements), default=None)
