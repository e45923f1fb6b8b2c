"""What a simulation found, as a report: customer by customer, and all of them together."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

from tallystick.contract.model import Contract
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd, pico_to_usd
from tallystick.simulate.hits import Hit
from tallystick.simulate.what_if import OrgWhatIf


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


def simulation_report(
    draft: Contract, since: datetime, until: datetime, labels: list[str], customers: list[CustomerChange]
) -> dict[str, Any]:
    """The whole report as plain JSON; customers by what the draft changes, the largest loss first."""
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
