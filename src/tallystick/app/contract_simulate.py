"""Recorded history under a draft contract: what each customer would have paid, and who would have hit which limit.

Nothing is written. Revenue is that of the invoices of the months, for the usage that was recorded, under the contracts
in force and under the draft; limits and credits are those of `simulate.what_if`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from tallystick.app.billing_terms import Versions, choose_terms, load_stored_contract
from tallystick.app.close_month import contract_versions
from tallystick.app.entries import stream_entries
from tallystick.app.history import checked_time, first_seq_since
from tallystick.app.operate import existing_org
from tallystick.app.period_sums import unpinned_sums
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Contract
from tallystick.contract.windows import window_at
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd, pico_to_usd
from tallystick.invoice.build import build_invoice
from tallystick.journal.contracts import ContractVersion, version_in_force
from tallystick.journal.history import stream_operation_entries
from tallystick.journal.period_scope import begin_reading, read_head
from tallystick.journal.subscriptions import Subscription, list_subscriptions, subscription_in_force
from tallystick.ledger.entry import Entry
from tallystick.ledger.fold import DoesNotFollow
from tallystick.simulate.hits import Hit
from tallystick.simulate.what_if import OrgWhatIf, translated

Progress = Callable[[int], object]
MONTHS_MAX = 60
_REPORT_EVERY = 1000


@dataclass(slots=True)
class MonthChange:
    """One month of one customer: the totals of its invoice in cents, or why there is none."""

    label: str
    before_cents: int | None = None
    after_cents: int | None = None
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CustomerChange:
    """What the draft would change for one customer."""

    org_id: str
    plan: str | None
    what_if: OrgWhatIf
    months: list[MonthChange]
    entries: int = 0


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
        customer = _what_if(runtime, draft, one, subscriptions, versions, since, until, progress)
        customer.months = [
            month
            for label in labels
            if (month := _month(runtime, draft, one, label, subscriptions, versions)) is not None
        ]
        customers.append(customer)
    return _report(draft, since, until, labels, customers)


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
    versions: Versions,
    since: datetime,
    until: datetime,
    progress: Progress | None,
) -> CustomerChange:
    zone = subscriptions[0].time_zone

    def plan_at(instant: datetime) -> str | None:
        held = subscription_in_force(subscriptions, instant)
        return None if held is None or held.contract != draft.name else held.plan

    in_force = version_in_force(versions(draft.name), since)
    before = None if in_force is None else load_stored_contract(in_force)
    what_if = OrgWhatIf(
        draft,
        plan_at,
        zone,
        since,
        until,
        lambda override: translated(override, plan_at(since), before, draft),
    )
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


# ── the report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _report(
    draft: Contract, since: datetime, until: datetime, labels: list[str], customers: list[CustomerChange]
) -> dict[str, Any]:
    rows = [_customer(draft, one) for one in customers]
    return {
        "contract": draft.name,
        "version": draft.version,
        "sha256": draft.sha256,
        "from": format_instant(since),
        "to": format_instant(until),
        "months": labels,
        "orgs": len(customers),
        "entries": sum(one.entries for one in customers),
        "revenue": _revenue([month for one in customers for month in one.months]),
        "credits": _credits(draft, customers),
        "requests": sum(one.what_if.requests for one in customers),
        "denied": {
            "before": sum(one.what_if.denied for one in customers),
            "after": sum(hit["requests"] for row in rows for hit in row["hits"] if hit["kind"] == "hard"),
            "allowed_now": sum(one.what_if.allowed_now for one in customers),
        },
        "customers": sorted(rows, key=lambda row: (Fraction(row["revenue"]["change_usd"]), row["org_id"])),
    }


def _customer(draft: Contract, one: CustomerChange) -> dict[str, Any]:
    what_if = one.what_if
    return {
        "org_id": one.org_id,
        "plan": one.plan,
        "revenue": _revenue(one.months),
        "months": [
            {
                "month": month.label,
                "before_usd": None if month.before_cents is None else cents_to_usd(month.before_cents),
                "after_usd": None if month.after_cents is None else cents_to_usd(month.after_cents),
                "errors": month.errors,
            }
            for month in one.months
        ],
        "credits": _credits(draft, [one]),
        "requests": what_if.requests,
        "denied_before": what_if.denied,
        "allowed_now": what_if.allowed_now,
        "events_without_asking": what_if.events,
        "hits": [_hit(hit) for hit in what_if.hits.all()],
    }


def _revenue(months: list[MonthChange]) -> dict[str, Any]:
    """Sums over the months that have an invoice both before and after; how many have not."""
    both = [
        (month.before_cents, month.after_cents)
        for month in months
        if month.before_cents is not None and month.after_cents is not None
    ]
    before, after = sum(one for one, _ in both), sum(two for _, two in both)
    return {
        "before_usd": cents_to_usd(before),
        "after_usd": cents_to_usd(after),
        "change_usd": cents_to_usd(after - before),
        "months_not_compared": len(months) - len(both),
    }


def _credits(draft: Contract, customers: list[CustomerChange]) -> dict[str, Any]:
    before = sum(one.what_if.charged_before_pico for one in customers)
    after = sum(one.what_if.charged_after_pico for one in customers)
    return {
        "charged_before": pico_to_usd(before),
        "charged_after": pico_to_usd(after),
        "change": pico_to_usd(after - before),
    }


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "plan": hit.plan,
        "code": hit.code,
        "limit": hit.limit,
        "kind": hit.kind,
        "requests": hit.requests,
        "events": hit.events,
        "first": format_instant(hit.first),
        "last": format_instant(hit.last),
    }
