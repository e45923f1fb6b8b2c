"""When a change of plan begins, what it takes the place of, and what it will cost.

An upgrade holds at once, and its base fee from that day on; a downgrade holds from the end of the period, which is paid
for. Which of the two a change is says whoever makes it (`when`); without a word, a plan whose base fee is as high or
higher is an upgrade. A change takes the place of every other that was recorded for later: the last word holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any, Literal

from tallystick.app.billing_terms import choose_terms
from tallystick.app.close_month import contract_versions
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.core.periods import Period, load_zone, month_period
from tallystick.invoice.build import build_invoice
from tallystick.invoice.model import Invoice, InvoiceLine
from tallystick.journal.period_facts import sum_period
from tallystick.journal.subscriptions import Subscription, subscription_in_force

When = Literal["now", "period_end"]
Direction = Literal["join", "upgrade", "downgrade", "leave", "none"]


def org_month(zone: str, instant: datetime) -> Period:
    """The calendar month on the clocks of `zone` in which the instant lies."""
    local = instant.astimezone(load_zone(zone))
    return month_period(f"{local:%Y-%m}", zone)


def direction_of(held: Subscription | None, plan: str | None, old_base: Fraction, new_base: Fraction) -> Direction:
    """What a change from what is held to `plan` is, by base fees; `plan` None is to leave."""
    if held is None or held.plan is None:
        return "none" if plan is None else "join"
    if plan is None:
        return "leave"
    return "upgrade" if new_base >= old_base else "downgrade"


def change_begins(direction: Direction, when: When | None, zone: str, now: datetime) -> datetime:
    """From when on a change holds: at once, or from the end of the org's present month on."""
    if when is None:
        when = "period_end" if direction in ("downgrade", "leave") else "now"
    return now if when == "now" else org_month(zone, now).end


def rows_of_change(
    history: Sequence[Subscription], contract: str, plan: str | None, begins: datetime, *, replaces_later: bool
) -> list[datetime]:
    """The instants for which the change is to be recorded, so that it holds from `begins` on.

    That is `begins`, unless the same holds then anyway; and, for a change that takes the place of later ones, each
    instant at which something else was to begin.
    """
    later = sorted({one.effective_from for one in history if one.effective_from > begins}) if replaces_later else []
    return [instant for instant in (begins, *later) if not holds(history, contract, plan, instant)]


def holds(history: Sequence[Subscription], contract: str, plan: str | None, instant: datetime) -> bool:
    """Whether that plan of that contract is in force at the instant; `plan` None: whether none is."""
    held = subscription_in_force(history, instant)
    if plan is None:
        return held is None or held.plan is None
    return held is not None and (held.contract, held.plan) == (contract, plan)


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What a change of plan would cost in the month in which it begins; nothing is recorded.

    Attributes:
        month: that month, on the org's clocks.
        effective_from: from when on the new plan would hold.
        before: the month's invoice as it stands now, without the change; None when the org is on no plan in it.
        after: the same with it; None when the org is on no plan in it then.
        next_base_usd: the base fee of each whole month after it.
    """

    org_id: str
    month: str
    direction: Direction
    from_plan: str | None
    to_plan: str | None
    effective_from: datetime
    before: Invoice | None
    after: Invoice | None
    next_base_usd: str

    @property
    def difference_usd(self) -> str:
        """What the month costs more by it, or, below zero, less."""
        before, after = (0 if one is None else one.total_cents for one in (self.before, self.after))
        return cents_to_usd(after - before)

    def as_dict(self) -> dict[str, Any]:
        """The preview as plain JSON."""
        return {
            "org_id": self.org_id,
            "month": self.month,
            "change": self.direction,
            "from_plan": self.from_plan,
            "to_plan": self.to_plan,
            "effective_from": format_instant(self.effective_from),
            "before": _summary(self.before),
            "after": _summary(self.after),
            "difference_usd": self.difference_usd,
            "next_base_usd": self.next_base_usd,
        }


def _summary(invoice: Invoice | None) -> dict[str, Any] | None:
    if invoice is None:
        return None
    return {"total_usd": invoice.totals.total_usd, "lines": [_line(invoice, line) for line in invoice.lines]}


def _line(invoice: Invoice, line: InvoiceLine) -> dict[str, Any]:
    section = invoice.sections[line.section - 1]
    return {
        "plan": line.plan,
        "kind": line.kind,
        "days": section.days,
        "days_of_month": section.days_of_month,
        "amount_usd": line.amount_usd,
        "description": line.description,
    }


def preview_of(
    runtime: Runtime,
    org_id: str,
    history: Sequence[Subscription],
    added: Sequence[Subscription],
    direction: Direction,
    begins: datetime,
    next_base_usd: str,
) -> ChangePreview:
    """The month in which the change begins, billed with and without the rows that it would add.

    Raises:
        BadInput, Conflict: what previewing an invoice raises.
    """
    zone = (history or added)[0].time_zone
    month = org_month(zone, begins)
    held, to = subscription_in_force(history, begins), [*history, *added]
    new = subscription_in_force(to, begins)
    return ChangePreview(
        org_id=org_id,
        month=month.label,
        direction=direction,
        from_plan=None if held is None else held.plan,
        to_plan=None if new is None else new.plan,
        effective_from=begins,
        before=_billed(runtime, org_id, month.label, history),
        after=_billed(runtime, org_id, month.label, to),
        next_base_usd=next_base_usd,
    )


def _billed(runtime: Runtime, org_id: str, label: str, subscriptions: Sequence[Subscription]) -> Invoice | None:
    try:
        terms = choose_terms(org_id, label, subscriptions, contract_versions(runtime))
    except NotFound as error:
        if error.code != "no_subscription":
            raise
        return None
    return build_invoice(terms, sum_period(runtime.database, terms))
