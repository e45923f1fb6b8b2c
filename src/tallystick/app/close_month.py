"""Close a month: one invoice for each org, computed from the ledger, stored once and never changed.

Each invoice bears what came late for every month that was closed before it (`app.late_months`). So an org's invoices
follow one another: each is computed from a snapshot of the ledger and of the invoices that there are, and stored only
when none was stored since.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from tallystick.app.acting import acting, current_actor
from tallystick.app.audit import Act, record_act
from tallystick.app.billing_terms import Versions, choose_terms, org_period, plans_of
from tallystick.app.late_months import billed_through, find_late, has_late
from tallystick.app.pinned import pinned_terms
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.core.periods import Period, month_period
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.late_months import LateMonth
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.terms import Terms, make_left_terms
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.database import Connection, check_org_id
from tallystick.journal.invoices import (
    InvoiceRow,
    StoredInvoice,
    insert_invoice,
    invoice_by_month,
    list_invoice_rows,
    lock_closing,
    orgs_that_used,
    orgs_with_late,
    unsubscribed_orgs,
)
from tallystick.journal.listing import require_known
from tallystick.journal.period_facts import sum_month
from tallystick.journal.period_scope import Head, begin_reading, read_head
from tallystick.journal.read_ahead import read_ahead
from tallystick.journal.subscriptions import Subscription, list_subscriptions

CLOSED_AT_ONCE = 3
"""How many orgs are closed side by side: while the database sums for one, another is priced."""

CloseStatus = Literal["closed", "already_closed", "failed"]
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class MonthResult:
    """What became of one org's month: the invoice, or the error that kept it from being closed."""

    org_id: str
    status: CloseStatus
    invoice: Invoice | None = None
    error: TallyError | None = None


def preview_invoice(runtime: Runtime, org_id: str, label: str) -> Invoice:
    """The invoice of that org and month from what the ledger holds now. Nothing is stored.

    A month that is not over yet is previewed as far as it goes. What came late for closed months, and is on no other
    invoice yet, is on it.

    Raises:
        NotFound: `unknown_org`, `no_subscription`.
        BadInput: `invalid_month`, `no_contract_in_force`, `unknown_plan`, `cost_unknown` or `total_out_of_range`.
        Conflict: `period_archived` or `ledger_incomplete`.
        Unavailable: `database_unreachable`.
    """
    return _compute(runtime, org_id, label, contract_versions(runtime)).invoice


def orgs_to_close(runtime: Runtime, label: str) -> list[str]:
    """Who is to be billed for the month: orgs on a plan in it, and orgs that used something in it without one.

    So are orgs that are on none any more, and that have facts which came late for a closed month.

    Raises:
        BadInput: `invalid_month`.
    """
    month = month_period(label)
    with runtime.database.operator() as connection:
        by_org: dict[str, list[Subscription]] = {}
        for one in list_subscriptions(connection):
            by_org.setdefault(one.org_id, []).append(one)
        planless: dict[str, Period] = {}  # on the clocks of each: what they used before they began, or after they left
        for org_id, held in by_org.items():
            period, _ = org_period(held, label)
            if not plans_of(held, period):
                planless[org_id] = period
        without_a_plan = {*unsubscribed_orgs(connection, month), *orgs_that_used(connection, planless)}
        left = orgs_with_late(connection, planless)
    without_a_plan.update(org_id for org_id in left if has_late(runtime, org_id))
    return sorted((by_org.keys() - planless.keys()) | without_a_plan)


def close_month(
    runtime: Runtime,
    label: str,
    orgs: Sequence[str] | None = None,
    *,
    before_late_window: bool = False,
    progress: Progress | None = None,
) -> list[MonthResult]:
    """Close the month of these orgs, or of all that are to be billed. Each org stands for itself.

    Closing again gives the invoice that is there; of two processes that close at once, one stores it and
    both give it. An org that cannot be closed is a `failed` result with its error and harms no other.

    Args:
        runtime: the running system.
        label: the calendar month, "2026-10".
        orgs: whom to close; None for everyone who is to be billed.
        before_late_window: also while late usage may still come onto the invoice, by the contract's `invoicing`.
        progress: called with 1 after each org.

    Raises:
        BadInput: `invalid_month`, or `invalid_text` for what cannot be an org's id.
        Unavailable: `database_unreachable`; months closed until then stay closed, and closing again is safe.
    """
    results = []
    for result in close_each(runtime, label, orgs, before_late_window=before_late_window):
        results.append(result)
        if progress is not None:
            progress(1)
    return results


def close_each(
    runtime: Runtime, label: str, orgs: Sequence[str] | None = None, *, before_late_window: bool = False
) -> Generator[MonthResult]:
    """As `close_month`, each result when it is there: while the caller works with it, the next orgs are closed.

    Who does not take all of them closes the iterator: months that are closed by then stay closed.
    """
    month = month_period(label)
    for org_id in orgs or ():
        check_org_id(org_id)
    versions = contract_versions(runtime)
    actor = current_actor()  # threads of their own would not know who it is

    def close(org_id: str) -> MonthResult:
        with acting(actor):
            return _close_org(runtime, org_id, label, versions, before_late_window=before_late_window)

    chosen = list(dict.fromkeys(orgs_to_close(runtime, label) if orgs is None else orgs))
    yield from _side_by_side(close, read_ahead(runtime.database, chosen, month.start, month.end))


def _side_by_side(close: Callable[[str], MonthResult], groups: Iterable[Sequence[str]]) -> Iterator[MonthResult]:
    """Close the orgs, some at once; while those of one group are closed, the next group is asked for."""
    with ThreadPoolExecutor(CLOSED_AT_ONCE, thread_name_prefix="close") as pool:
        try:
            closing: deque[Future[MonthResult]] = deque()
            for group in groups:
                while len(closing) > CLOSED_AT_ONCE:  # all but the last of the groups before
                    yield closing.popleft().result()
                closing.extend(pool.submit(close, org_id) for org_id in group)
            while closing:
                yield closing.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _close_org(
    runtime: Runtime, org_id: str, label: str, versions: Versions, *, before_late_window: bool
) -> MonthResult:
    def check(terms: Terms) -> None:
        _check_over(runtime, terms, before_late_window=before_late_window)

    try:
        while True:
            with runtime.database.org(org_id, plans_kept=True) as connection:
                found = invoice_by_month(connection, org_id, label)
            if found is not None:
                return MonthResult(org_id, "already_closed", parse_invoice(found.document))
            computed = _compute(runtime, org_id, label, versions, check=check)
            if _store(runtime, computed):
                return MonthResult(org_id, "closed", computed.invoice)
    except Unavailable:
        raise
    except TallyError as error:
        return MonthResult(org_id, "failed", error=error)


class _Computed(NamedTuple):
    """An invoice that is not stored yet, its terms, and the ids of the org's invoices that it follows."""

    terms: Terms
    invoice: Invoice
    follows: frozenset[str]


def _compute(
    runtime: Runtime, org_id: str, label: str, versions: Versions, check: Callable[[Terms], object] = lambda _: None
) -> _Computed:
    """The invoice, from one snapshot of the ledger and of the org's invoices for other months."""
    with runtime.database.org(org_id, plans_kept=True) as connection:
        begin_reading(connection)
        closed = [row for row in list_invoice_rows(connection, org_id) if row.period != label]
        subscriptions = list_subscriptions(connection, org_id)
        head = read_head(connection, org_id)
        late: list[LateMonth] | None = None
        try:
            terms = choose_terms(org_id, label, subscriptions, versions)
        except NotFound as error:
            if error.code != "no_subscription":
                raise
            if not subscriptions:
                require_known(connection, org_id)
            if not closed:
                raise
            period, _ = org_period(subscriptions, label)
            late = _late_after(runtime, connection, head, closed, period)
            if not late:
                raise
            terms = _left_terms(connection, closed, period, len(subscriptions))
        check(terms)
        facts = sum_month(connection, terms, head, billed_through_seq=billed_through(closed))
        if late is None:
            late = find_late(runtime, connection, head, closed)
    return _Computed(terms, build_invoice(terms, facts, late), frozenset(row.invoice_id for row in closed))


def _late_after(
    runtime: Runtime, connection: Connection, head: Head, closed: Sequence[InvoiceRow], period: Period
) -> list[LateMonth]:
    """What came late for closed months, when all of them are before this one."""
    if any(row.period_end > period.start for row in closed):
        return []
    return find_late(runtime, connection, head, closed)


def _left_terms(connection: Connection, closed: Sequence[InvoiceRow], period: Period, known: int) -> Terms:
    """The terms of a month in which the org is on no plan: those of its last invoice are named, and charge nothing."""
    last = max(closed, key=lambda row: row.period_end)
    stored = invoice_by_month(connection, last.org_id, last.period)
    if stored is None:
        raise LookupError(f"the invoice {last.invoice_id}, which was there a moment ago")
    invoice = parse_invoice(stored.document)
    section, _ = pinned_terms(connection, invoice).last
    return make_left_terms(
        last.org_id, period, invoice.period.time_zone, section.contract, section.plan.name,
        invoice.contract.subscription, known,
    )  # fmt: skip


def _store(runtime: Runtime, computed: _Computed) -> bool:
    """Store it, unless another process has stored one of the org's since: then it has to be computed again."""
    terms, invoice, follows = computed
    row = InvoiceRow(
        invoice_id=invoice.invoice_id,
        org_id=terms.org_id,
        period=terms.period.label,
        period_start=terms.period.start,
        period_end=terms.period.end,
        contract=invoice.contract.name,
        contract_version=invoice.contract.version,
        contract_sha256=invoice.contract.sha256,
        plan=invoice.contract.plan,
        through_seq=invoice.ledger.through_seq,
        digest=invoice.digest,
        total_cents=invoice.total_cents,
        closed_at=runtime.now(terms.org_id),
    )
    with runtime.database.org(terms.org_id, plans_kept=True) as connection:
        lock_closing(connection, terms.org_id)
        if {one.invoice_id for one in list_invoice_rows(connection, terms.org_id)} != follows:
            return False
        insert_invoice(connection, StoredInvoice(row, canonical_json(invoice.document()).decode()))
        if current_actor().kind != "job":  # by itself, a month is closed when it is over
            after = {"month": row.period, "digest": row.digest, "total_cents": row.total_cents}
            record_act(connection, Act("invoice.close", row.invoice_id, runtime.clock(), row.org_id, after=after))
    return True


def contract_versions(runtime: Runtime) -> Callable[[str], Sequence[ContractVersion]]:
    """Reads the versions of each contract once."""

    @cache
    def versions(contract: str) -> Sequence[ContractVersion]:
        with runtime.database.operator() as connection:
            return list_contract_versions(connection, contract)

    return versions


def _check_over(runtime: Runtime, terms: Terms, *, before_late_window: bool) -> None:
    now = runtime.now(terms.org_id)
    if now < terms.period.end:
        raise BadInput(
            "month_not_over",
            f"{terms.period.label} of {terms.org_id} ends at {format_instant(terms.period.end)}, "
            f"and it is {format_instant(now)}",
            next_step=f"close it after that, or see where it stands: "
            f"tally invoice preview {terms.org_id} {terms.period.label}",
            where=terms.org_id,
        )
    final_at = terms.period.end + terms.sections[-1].contract.invoicing.late_window
    if now < final_at and not before_late_window:
        raise Conflict(
            "late_window_open",
            f"usage of {terms.period.label} of {terms.org_id} that comes late is waited for until "
            f"{format_instant(final_at)}, and it is {format_instant(now)}",
            next_step="close it after that; or say that what comes later is for the next invoice: --before-late-window",
            where=terms.org_id,
        )
