"""Whose month is billed, and under what: the plans of the month, each with the times in which it was in force.

Times with the same plan of the same contract version are one section of the invoice, also when another plan lay
between them: its quantities are priced together, and its days are counted together, so that leaving a plan and coming
back to it costs what staying would.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from tallystick.contract.model import Contract, Plan
from tallystick.contract.pricing import Days
from tallystick.core.errors import BadInput
from tallystick.core.periods import Period
from tallystick.invoice.proration import Held, month_days, owned_days


class Holding(NamedTuple):
    """A half-open time [start, end) of the month in which one plan of one contract version was in force.

    `subscription` is the ordinal of the subscription that chose it.
    """

    start: datetime
    end: datetime
    contract: Contract
    plan: str
    subscription: int


class Slice(NamedTuple):
    """A part of the month and the section that prices what was used in it; `Terms.unplanned` for none."""

    start: datetime
    end: datetime
    section: int


@dataclass(frozen=True, slots=True)
class Section:
    """One plan of one contract version, all its times in the month, and how many of its days are that plan's."""

    contract: Contract
    plan: Plan
    holdings: tuple[Holding, ...]
    days: Days


@dataclass(frozen=True)
class Terms:
    """Whose month is billed, and under what.

    Attributes:
        period: the half-open month, on the clocks of `time_zone`.
        sections: the plans of the month, in the order in which each came into force first; at least one.
        subscriptions_known: how many subscriptions the org had when these terms were chosen.
        left: the plan that the org was on last, when it is on none in the month. It is the only section then, with no
            time and no days, so that it charges nothing but credits that were topped up or are owed.
    """

    org_id: str
    period: Period
    time_zone: str
    sections: tuple[Section, ...]
    subscriptions_known: int
    left: Holding | None = None

    @property
    def unplanned(self) -> int:
        """In the place of a section's number: no plan is in force."""
        return len(self.sections)

    @cached_property
    def last(self) -> tuple[Section, Holding]:
        """The plan that was in force last in the month, or before it when there is none in it."""
        if self.left is not None:
            return self.sections[0], self.left
        return max(((one, held) for one in self.sections for held in one.holdings), key=lambda pair: pair[1].start)

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        """The whole month, in order and without gaps.

        What was used before the first plan of the month began is priced by that plan. After a plan has ended, and until
        another begins, nothing prices what is used.
        """
        held = sorted((one.start, one.end, place) for place, of in enumerate(self.sections) for one in of.holdings)
        if not held:
            return (Slice(self.period.start, self.period.end, self.unplanned),)
        found = [Slice(self.period.start, held[0][1], held[0][2])]
        for (_, left, _), (start, end, place) in pairwise(held):
            if left < start:
                found.append(Slice(left, start, self.unplanned))
            found.append(Slice(start, end, place))
        if held[-1][1] < self.period.end:
            found.append(Slice(held[-1][1], self.period.end, self.unplanned))
        return tuple(found)

    def section_of(self, instant: datetime) -> int:
        """The place of the section that prices what was used at that instant of the month; `unplanned` for none."""
        return self.slices[bisect_right(self._starts, instant) - 1].section

    @cached_property
    def _starts(self) -> list[datetime]:
        return [one.start for one in self.slices]


def make_terms(
    org_id: str, period: Period, time_zone: str, holdings: Sequence[Holding], subscriptions_known: int
) -> Terms:
    """The terms of a month from the times in which plans were in force, which are in order and do not overlap.

    Raises:
        BadInput: `unknown_plan`, when a contract version has no such plan.
    """
    calendar = month_days(period, time_zone)
    owned = owned_days(calendar, [Held(one.start, one.end) for one in holdings])
    grouped: dict[tuple[str, str, str], list[int]] = {}
    for place, one in enumerate(holdings):
        grouped.setdefault((one.contract.name, one.contract.sha256, one.plan), []).append(place)
    sections = []
    for places in grouped.values():
        first = holdings[places[0]]
        sections.append(
            Section(
                contract=first.contract,
                plan=_plan(org_id, first),
                holdings=tuple(holdings[place] for place in places),
                days=Days(sum(owned[place] for place in places), len(calendar)),
            )
        )
    return Terms(org_id, period, time_zone, tuple(sections), subscriptions_known)


def make_left_terms(
    org_id: str,
    period: Period,
    time_zone: str,
    contract: Contract,
    plan: str,
    subscription: int,
    subscriptions_known: int,
) -> Terms:
    """The terms of a month without a plan: nothing that was used is charged, and closed months are adjusted.

    Args:
        org_id, period, time_zone: whose month.
        contract, plan, subscription: what the org was on last.
        subscriptions_known: how many subscriptions the org has.

    Raises:
        BadInput: `unknown_plan`.
    """
    left = Holding(period.start, period.start, contract, plan, subscription)
    days = Days(0, len(month_days(period, time_zone)))
    section = Section(contract=contract, plan=_plan(org_id, left), holdings=(), days=days)
    return Terms(org_id, period, time_zone, (section,), subscriptions_known, left)


def _plan(org_id: str, held: Holding) -> Plan:
    plan = held.contract.plans.get(held.plan)
    if plan is None:
        raise BadInput(
            "unknown_plan",
            f"contract {held.contract.name} {held.contract.version} has no plan {held.plan!r}",
            next_step=f"move {org_id} to one of {', '.join(held.contract.plans)}",
            where="plan",
        )
    return plan
