"""What an invoice needs to know of one org and period: sums that the database makes, and what pins them."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from tallystick.core.errors import Conflict
from tallystick.core.instants import format_instant
from tallystick.invoice.adjusted import COUNTED_KINDS, add_operation
from tallystick.invoice.model import LedgerPin
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import ModelSum, MonthCount, PeriodFacts, PeriodSums, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.journal.database import Connection, Database
from tallystick.journal.named_sql import load_queries
from tallystick.journal.period_pin import pin_entries
from tallystick.journal.period_scope import Head, Scope, Span, begin_reading, find_span, read_head
from tallystick.ledger.merkle import Frontier
from tallystick.ledger.operation_body import read_body

_SQL = load_queries("period")
_FETCH_ROWS = 2000


def sum_period(database: Database, terms: Terms, *, pinned: bool = True) -> PeriodFacts:
    """Everything that an invoice needs to know of the month's facts, as of now; see `sum_month`.

    Raises:
        Conflict: `period_archived`, `ledger_incomplete`.
        Unavailable: `database_unreachable`.
    """
    with database.org(terms.org_id) as connection:
        begin_reading(connection)
        return sum_month(connection, terms, read_head(connection, terms.org_id), pinned=pinned)


def sum_month(
    connection: Connection, terms: Terms, head: Head, *, pinned: bool = True, billed_through_seq: int = 0
) -> PeriodFacts:
    """Everything that an invoice needs to know of the month's facts: one snapshot, sums made by the database.

    What was used under each plan of the month is summed on its own. Memory does not grow with the number of facts.

    Args:
        connection: the org's, in one snapshot (`begin_reading`).
        terms: whose month.
        head: where the org's sequence stands in that snapshot.
        pinned: whether the entries are hashed, so that the invoice can be proved; not needed of one that nobody gets.
        billed_through_seq: what the org's invoice before covers.

    Raises:
        Conflict: `period_archived`, when entries of the period may have left the database; `ledger_incomplete`, when
            entries are missing that should be there.
    """
    org_id, period = terms.org_id, terms.period
    if head.has_left(period.start):
        raise Conflict(
            "period_archived",
            f"entries of {org_id} up to {format_instant(head.forgotten_until)} have left the database for sealed "
            f"blocks, and {period.label} begins at {format_instant(period.start)}",
            next_step="nothing was closed. Months are closed before their entries leave: set TALLY_RETENTION_DAYS "
            "to more than the days you close in",
            where=org_id,
        )
    span = find_span(connection, Scope(org_id, period.start, period.end, head.last_seq))
    found = _count_span(connection, terms, span)
    events = sum(sum(one.events.values()) for one in found.sums)
    if not pinned:
        pin = ledger_pin(1, head.last_seq, events, "", Frontier(), billed_through_seq)
    else:
        pin = _pin(connection, span, events, billed_through_seq)
    return PeriodFacts(found.sums, pin, found.wallet)


def count_month(connection: Connection, terms: Terms, through_seq: int) -> MonthCount:
    """What the month's entries up to `through_seq` add up to; all of them are in the database.

    Raises:
        Conflict: `ledger_incomplete`.
    """
    period = terms.period
    return _count_span(
        connection, terms, find_span(connection, Scope(terms.org_id, period.start, period.end, through_seq))
    )


def _count_span(connection: Connection, terms: Terms, span: Span) -> MonthCount:
    """The same, of the span of the whole month."""
    org_id, begins, ends, through_seq = span.scope
    sums = empty_sums(len(terms.sections))
    for start, end, section in terms.slices:
        whole = (start, end) == (begins, ends)
        part = span if whole else find_span(connection, Scope(org_id, start, end, through_seq))
        sums[section].add(_sums(connection, part))
    return MonthCount(sums, _add_operations(connection, span, terms, sums))


def _add_operations(connection: Connection, span: Span, terms: Terms, sums: tuple[PeriodSums, ...]) -> WalletMonth:
    """Read the period's operations, one at a time through cursors of the server: what they did to the wallet.

    What adjustments change is added to the sums.
    """
    wallet = WalletMonth()
    parameters = span.parameters() | {"kinds": list(COUNTED_KINDS)}
    ((some, some_late),) = connection.execute(_SQL["has_operations"], parameters, prepare=True).fetchall()
    for query in ("operations",) * some + ("operations_late",) * some_late:
        with connection.cursor(query) as cursor:
            cursor.itersize = _FETCH_ROWS
            cursor.execute(_SQL[query], parameters, binary=True)
            for seq, kind, time, body in cursor:
                try:
                    section = terms.section_of(time)
                    add_operation(sums[section], wallet, kind, body, section, read=read_body)
                except ValueError as error:
                    raise Conflict(
                        "ledger_incomplete",
                        f"entry {seq} of {terms.org_id} cannot be read: {error}",
                        next_step="nothing was closed. See what else is wrong with `tally verify`, and restore the "
                        "database from a backup",
                        where=terms.org_id,
                    ) from None
    return wallet


def _pin(connection: Connection, span: Span, events: int, billed_through_seq: int) -> LedgerPin:
    org_id, through_seq = span.scope.org_id, span.scope.through_seq
    tree, entries_sha256 = pin_entries(connection, span)
    if tree.size != through_seq:
        raise Conflict(
            "ledger_incomplete",
            f"the ledger of {org_id} should hold {through_seq} entries, and {through_seq - tree.size} are missing",
            next_step="nothing was closed. See which with `tally verify`, and restore the database from a backup",
            where=org_id,
        )
    return ledger_pin(span.first_seq, through_seq, events, entries_sha256, tree, billed_through_seq)


def ledger_pin(
    first_seq: int, through_seq: int, events: int, entries_sha256: str, tree: Frontier, billed_through_seq: int = 0
) -> LedgerPin:
    """The invoice's section about the ledger; a `first_seq` past `through_seq` is none."""
    return LedgerPin(
        first_seq=first_seq if first_seq <= through_seq else 0,
        through_seq=through_seq,
        billed_through_seq=billed_through_seq,
        events=events,
        entries_sha256=entries_sha256,
        tree_size=tree.size,
        root=tree.root().hex(),
    )


class _SumRow(NamedTuple):
    """A row of the query `sums`, whose comment says what each kind holds; what a kind does not have is null."""

    kind: str
    environment: str
    failed: bool
    name: str
    provider: str | None
    model: str
    amount: Decimal
    requests: int
    unknown: int


def _sums(connection: Connection, span: Span) -> PeriodSums:
    sums = PeriodSums()
    for row in connection.execute(_SQL["sums"], span.parameters(), binary=True, prepare=True):
        _take(_SumRow(*row), sums)
    return sums


def _take(row: _SumRow, sums: PeriodSums) -> None:
    group = (row.environment, row.failed)
    match row.kind:
        case "cost":
            sums.meter(group, row.name).cost_pico = int(row.amount)
        case "quantity":
            found = sums.meter(group, row.name)
            found.quantity, found.events = int(row.amount), row.requests
        case "request" | "customer":
            sums.events[group] = sums.events.get(group, 0) + row.requests
            sums.rates[row.name] = sums.rates.get(row.name, 0) + row.requests
            of_model = sums.model(row.provider, row.model, "seller" if row.kind == "request" else "customer")
            of_model.add(ModelSum(row.requests, row.unknown, int(row.amount)))
        case "unknown":
            sums.meter(group, row.name).cost_unknown = row.unknown
        case kind:
            raise AssertionError(f"the query gives no rows of kind {kind}")
