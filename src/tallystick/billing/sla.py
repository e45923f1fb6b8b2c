"""What a month is credited for breaches of the promised service: the arithmetic, exact.

Each plan of the month answers for the time in which it was in force:

    availability = 1 − downtime / that time       downtime: incidents of downtime, united, without maintenance
    slow share   = slow requests / requests       successful ones in charged environments, without maintenance
    slow minutes = incidents of latency, united, without maintenance and without downtime

The largest credit of the steps of availability that are reached, and the largest of those of latency, are added up,
`cap` at most, and that share of the plan's charges of the month is credited. The sum over the plans is rounded once,
half to even, to the cent; since charges are whole cents, it is never more than they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tallystick.billing.incidents import Incident, incident_id
from tallystick.billing.spans import Span, common, microseconds, without
from tallystick.contract.sla import DownStep, Sla, SlowMinutes, SlowStep, Step
from tallystick.contract.sla_words import base_words, step_words
from tallystick.contract.words import number, percent, usd
from tallystick.core.money import cents_to_usd, divide_half_even, format_decimal, format_exact

_SECOND = 10**6
_MINUTE = 60 * _SECOND
_SHOWN_PLACES = 6


@dataclass(frozen=True, slots=True)
class SlowCount:
    """Of that many requests, so many took longer than a threshold."""

    requests: int
    slow: int


@dataclass(frozen=True, slots=True)
class Promise:
    """One plan of the month: what it promises, when it was in force, and what it charges.

    Attributes:
        section: the number of the invoice's section.
        contract, contract_version, contract_sha256, plan: whose promise it is.
        times: the half-open times of the month in which it was in force.
        base_cents: what shares are of, zero or more.
        uncharged: the environments in which nothing is promised.
    """

    section: int
    contract: str
    contract_version: str
    contract_sha256: str
    plan: str
    sla: Sla
    times: tuple[Span, ...]
    base_cents: int
    uncharged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanCredit:
    """What one plan of the month comes to. Times are in microseconds.

    Attributes:
        time, downtime, slow_time: how long the plan was in force, and of that down, and slow by record.
        counts: the requests by threshold in milliseconds.
        reached: the steps that count, of availability first.
        share: the share of the base, capped.
        incidents: the numbers of those that fall into its time and concern what is promised, maintenance included.
    """

    promise: Promise
    time: int
    downtime: int
    slow_time: int
    counts: Mapping[int, SlowCount]
    reached: tuple[Step, ...]
    share: Fraction
    incidents: tuple[int, ...]

    @property
    def exact_usd(self) -> Fraction:
        """What is credited, not rounded."""
        return self.share * self.promise.base_cents / 100

    @property
    def availability_percent(self) -> Fraction:
        """The availability in percent, exact."""
        return Fraction(100 * (self.time - self.downtime), self.time)


@dataclass(frozen=True, slots=True)
class SlaResult:
    """What a month is credited for.

    Attributes:
        plans: those that promise something, in the invoice's order.
        credit_cents: the sum, rounded once.
    """

    plans: tuple[PlanCredit, ...]
    credit_cents: int = field(default=0)


def counted_times(promise: Promise, incidents: Iterable[Incident]) -> list[Span]:
    """The times whose requests count: those in which the plan was in force, without maintenance."""
    return without(promise.times, _times(promise, incidents, "maintenance"))


def sla_credit(
    promises: Sequence[Promise], incidents: Sequence[Incident], counts: Mapping[int, Mapping[int, SlowCount]]
) -> SlaResult:
    """What the month is credited for.

    Args:
        promises: the month's plans that promise something.
        incidents: those that hold and concern the org, in any order.
        counts: by section, and by threshold in milliseconds, the requests at `counted_times`.
    """
    plans = tuple(_plan_credit(one, incidents, counts.get(one.section, {})) for one in promises)
    exact = sum((one.exact_usd for one in plans), Fraction(0)) * 100
    return SlaResult(plans, divide_half_even(exact.numerator, exact.denominator))


def _times(promise: Promise, incidents: Iterable[Incident], kind: str) -> list[Span]:
    """The plan's times that were of that kind, united."""
    found = [(one.start, one.end) for one in incidents if one.kind == kind and promise.sla.covers(one.feature)]
    return common(promise.times, found)


def _plan_credit(promise: Promise, incidents: Sequence[Incident], counts: Mapping[int, SlowCount]) -> PlanCredit:
    maintained = _times(promise, incidents, "maintenance")
    down = without(_times(promise, incidents, "downtime"), maintained)
    slow = without(_times(promise, incidents, "latency"), [*maintained, *down])
    time, downtime, slow_time = microseconds(promise.times), microseconds(down), microseconds(slow)
    sla = promise.sla
    reached = (
        *_dearest([step for step in sla.availability if _is_down(step, time, downtime)]),
        *_dearest([step for step in sla.latency if _is_slow(step, slow_time, counts)]),
    )
    touched = {
        one.number
        for one in incidents
        if sla.covers(one.feature) and common(promise.times, [(one.start, one.end)])
    }  # fmt: skip
    return PlanCredit(
        promise=promise,
        time=time,
        downtime=downtime,
        slow_time=slow_time,
        counts=dict(sorted(counts.items())),
        reached=reached,
        share=min(sum((step.credit for step in reached), Fraction(0)), sla.cap),
        incidents=tuple(sorted(touched)),
    )


def _dearest(reached: Sequence[Step]) -> Sequence[Step]:
    """The one with the largest credit; the first of equal ones."""
    return [max(reached, key=lambda step: step.credit)] if reached else []


def _is_down(step: DownStep, time: int, downtime: int) -> bool:
    return time > 0 and 100 * (time - downtime) < step.below_percent * time


def _is_slow(step: SlowStep | SlowMinutes, slow_time: int, counts: Mapping[int, SlowCount]) -> bool:
    if isinstance(step, SlowMinutes):
        return slow_time > step.minutes * _MINUTE
    count = counts.get(step.over_ms, SlowCount(0, 0))
    return count.requests >= step.requests and count.slow > step.share * count.requests


def plan_members(credit: PlanCredit) -> dict[str, Any]:
    """One plan's arithmetic as plain JSON members; amounts, shares and seconds are exact decimal strings."""
    promise = credit.promise
    return {
        "section": promise.section,
        "contract": promise.contract,
        "contract_version": promise.contract_version,
        "contract_sha256": promise.contract_sha256,
        "plan": promise.plan,
        "base": promise.sla.base,
        "base_usd": cents_to_usd(promise.base_cents),
        "time_seconds": _seconds(credit.time),
        "downtime_seconds": _seconds(credit.downtime),
        "slow_seconds": _seconds(credit.slow_time),
        "requests": [
            {"over_ms": over_ms, "requests": count.requests, "slow": count.slow}
            for over_ms, count in credit.counts.items()
        ],
        "reached": [{"step": step_words(step), "credit": format_exact(step.credit)} for step in credit.reached],
        "share": format_exact(credit.share),
        "exact_usd": format_exact(credit.exact_usd),
        "incidents": [incident_id(one) for one in credit.incidents],
    }


def plan_sentences(credit: PlanCredit) -> list[str]:
    """One plan's arithmetic in plain words, a line each."""
    promise, sla = credit.promise, credit.promise.sla
    lines = []
    if sla.availability and credit.time:
        lines.append(
            f"{_words(credit.downtime)} of {_words(credit.time)} were down: "
            f"available for {_floored(credit.availability_percent)} % of the time."
        )
    if any(isinstance(step, SlowMinutes) for step in sla.latency):
        lines.append(f"{_words(credit.slow_time)} are recorded as slow.")
    lines += [
        f"{number(count.slow)} of {number(count.requests)} requests took longer than {number(over_ms)} ms."
        for over_ms, count in credit.counts.items()
    ]
    lines += [f"{_capital(step_words(step))}: {percent(step.credit)}." for step in credit.reached]
    if not credit.reached:
        lines.append("No step of the promise is reached: nothing is credited.")
        return lines
    if sum(step.credit for step in credit.reached) > credit.share:
        lines.append(f"That is {percent(credit.share)} at most.")
    base = Fraction(promise.base_cents, 100)
    lines.append(f"{percent(credit.share)} of {base_words(sla.base)}, {usd(base)}, is {usd(credit.exact_usd)}.")
    return lines


def _seconds(microseconds_: int) -> str:
    return format_decimal(Fraction(microseconds_, _SECOND))


def _words(microseconds_: int) -> str:
    """A length of time in minutes and seconds."""
    minutes, rest = divmod(microseconds_, _MINUTE)
    seconds = f" and {_seconds(rest)} seconds" if rest else ""
    return f"{number(minutes)} minute{'' if minutes == 1 else 's'}{seconds}"


def _floored(value: Fraction) -> str:
    """Rounded down, so that what is below a bound never reads as if it had reached it."""
    return number(Fraction(value.numerator * 10**_SHOWN_PLACES // value.denominator, 10**_SHOWN_PLACES))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
