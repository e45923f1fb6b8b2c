"""Recorded history under a draft contract: what each customer would have paid, and who would have hit which limit.

Nothing is written. Revenue is that of the invoices of the months, for the usage that was recorded, under the contracts
in force and under the draft; limits and credits are those of `simulate.what_if`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tallystick.app.billing_terms import Versions, choose_terms
from tallystick.app.close_month import contract_versions
from tallystick.app.entries import stream_entries
from tallystick.app.history import checked_time, first_seq_since
from tallystick.app.operate import existing_org
from tallystick.app.period_sums import unpinned_sums
from tallystick.app.runtime import Runtime
from tallystick.app.simulation_report import CustomerChange, MonthChange, simulation_report
from tallystick.contract.model import Contract
from tallystick.contract.windows import window_at
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.invoice.build import build_invoice
from tallystick.journal.contracts import ContractVersion
from tallystick.journal.history import has_budgets, stream_operation_entries
from tallystick.journal.period_scope import begin_reading, read_head
from tallystick.journal.subscriptions import Subscription, list_subscriptions, subscription_in_force
from tallystick.ledger.entry import Entry
from tallystick.ledger.fold import DoesNotFollow
from tallystick.simulate.what_if import OrgWhatIf

Progress = Callable[[int], object]
MONTHS_MAX = 60
_REPORT_EVERY = 1000


def simulate_contract(
    runtime: Runtime,
    draft: Contract,
    start: datetime,
    end: datetime,
    org_id: str | None = None,
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay the time [start, end) of every org that was on a contract of the draft's name, as if the draft had held.

    Invoices are of whole months: of those that the time touches, each on its org's clocks.

    Args:
        draft: a contract that need not be applied.
        start: the first instant.
        end: the first instant after the time.
        org_id: only this org.
        progress: called with the number of entries read since the last call.

    Raises:
        BadInput: `invalid_period`, `period_too_long`.
        NotFound: `unknown_org`; `nobody_on_contract`, when no org was on the contract in that time.
        Conflict: `entries_missing`, `ledger_incomplete`.
        Unavailable: `database_unreachable`.
    """
    since, until = checked_time(start, end)
    labels = month_labels(since, until)
    if org_id is not None:
        existing_org(runtime, org_id)
    by_org = _subscribed(runtime, draft.name, since, until, org_id)
    if not by_org:
        raise NotFound(
            "nobody_on_contract",
            f"no org was on a contract called {draft.name!r} between {format_instant(since)} and "
            f"{format_instant(until)}",
            next_step="give the draft the name of the contract that it is to replace, or another time",
            where="contract",
        )
    versions = contract_versions(runtime)
    customers = []
    for one, subscriptions in by_org.items():
        customer = _what_if(runtime, draft, one, subscriptions, since, until, progress)
        customer.months = [
            month
            for label in labels
            if (month := _month(runtime, draft, one, label, subscriptions, versions)) is not None
        ]
        customers.append(customer)
    return simulation_report(draft, since, until, labels, customers)


def month_labels(since: datetime, until: datetime) -> list[str]:
    """The months that the time touches, by the calendar of UTC.

    Raises:
        BadInput: `period_too_long`.
    """
    last = until - timedelta(microseconds=1)
    count = (last.year - since.year) * 12 + last.month - since.month + 1
    if count > MONTHS_MAX:
        raise BadInput(
            "period_too_long",
            f"the time touches {count} months, more than {MONTHS_MAX}",
            next_step="simulate a shorter time",
            where="--to",
        )
    months = (since.year * 12 + since.month - 1 + place for place in range(count))
    return [f"{month // 12:04d}-{month % 12 + 1:02d}" for month in months]


def _subscribed(
    runtime: Runtime, contract: str, since: datetime, until: datetime, org_id: str | None
) -> dict[str, list[Subscription]]:
    """By org, the subscriptions of those that were on the contract at any time in it."""
    with runtime.database.operator() as connection:
        found = list_subscriptions(connection, org_id)
    by_org: dict[str, list[Subscription]] = {}
    for one in found:
        by_org.setdefault(one.org_id, []).append(one)

    def was_on_it(held: list[Subscription]) -> bool:
        instants = [since, *(one.effective_from for one in held if since < one.effective_from < until)]
        chosen = [subscription_in_force(held, instant) for instant in instants]
        return any(one is not None and one.contract == contract and one.plan is not None for one in chosen)

    return {name: by_org[name] for name in sorted(by_org) if was_on_it(by_org[name])}


# ── revenue ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _month(
    runtime: Runtime,
    draft: Contract,
    org_id: str,
    label: str,
    subscriptions: Sequence[Subscription],
    versions: Versions,
) -> MonthChange | None:
    """The org's month under the contracts in force and under the draft; None when it was on no plan in it."""
    month = MonthChange(label)
    drafted = _with_draft(draft, versions)
    terms, facts = None, None
    for name, known in (("before", versions), ("after", drafted)):
        try:
            found = choose_terms(org_id, label, subscriptions, known)
            if facts is None or terms is None or terms.slices != found.slices:
                facts = unpinned_sums(runtime, found)
            terms = found
            total_cents = build_invoice(found, facts).total_cents
        except Unavailable:
            raise
        except TallyError as error:
            if error.code == "no_subscription":
                return None
            month.errors[name] = error.code
            continue
        if name == "before":
            month.before_cents = total_cents
        else:
            month.after_cents = total_cents
    return month


def _with_draft(draft: Contract, versions: Versions) -> Versions:
    """The versions, with the draft in the place of all of the contract that it is to replace."""
    ever = datetime(2000, 1, 1, tzinfo=UTC)
    version = ContractVersion(draft.name, draft.version, draft.sha256, ever, ever, "draft", draft.source_text)
    return lambda contract: [version] if contract == draft.name else versions(contract)


# ── limits and credits ──────────────────────────────────────────────────────────────────────────────────────────────


def _what_if(
    runtime: Runtime,
    draft: Contract,
    org_id: str,
    subscriptions: Sequence[Subscription],
    since: datetime,
    until: datetime,
    progress: Progress | None,
) -> CustomerChange:
    zone = subscriptions[0].time_zone

    def plan_at(instant: datetime) -> str | None:
        held = subscription_in_force(subscriptions, instant)
        return None if held is None or held.contract != draft.name else held.plan

    budgets = _may_have_budgets(runtime, org_id)
    what_if = OrgWhatIf(draft, plan_at, zone, since, until, budgets=budgets)
    customer = CustomerChange(org_id, plan_at(until - timedelta(microseconds=1)), what_if, [])
    try:
        for count, entry in enumerate(_entries(runtime, org_id, zone, since), start=1):
            what_if.take(entry)
            customer.entries = count
            if progress is not None and count % _REPORT_EVERY == 0:
                progress(_REPORT_EVERY)
        what_if.finish()
    except DoesNotFollow as error:
        raise Conflict(
            "ledger_incomplete",
            f"the account of {org_id} cannot be followed: {error}",
            next_step="run `tally verify`; restore the database from a backup",
            where=org_id,
        ) from None
    if progress is not None:
        progress(customer.entries % _REPORT_EVERY)
    return customer


def _may_have_budgets(runtime: Runtime, org_id: str) -> bool:
    """Whether a budget was ever set; where entries have left the database, one may have been."""
    with runtime.database.org(org_id) as connection:
        return read_head(connection, org_id).kept_from_seq > 1 or has_budgets(connection, org_id)


def _entries(runtime: Runtime, org_id: str, zone: str, since: datetime) -> Iterator[Entry]:
    """What the account was before the time, then every entry since the windows that it begins in began."""
    windows = [window_at(per, zone, since).starts_at for per in ("month", "week")]
    with runtime.database.org(org_id) as connection:
        begin_reading(connection)
        head = read_head(connection, org_id)
        first_seq = first_seq_since(connection, org_id, head, min(windows))
        if head.kept_from_seq <= 1:
            yield from stream_operation_entries(connection, org_id, first_seq)
    if head.kept_from_seq > 1:
        earlier = stream_entries(runtime, org_id, 1, min(first_seq - 1, head.last_seq))
        yield from (entry for entry in earlier if entry.body is not None)
    yield from stream_entries(runtime, org_id, first_seq, head.last_seq)
