"""The block `sla`, of the contract or of a plan: what is promised of service, and what a breach is credited with."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import TypeVar, cast, get_args

from tallystick.contract.fields import Place
from tallystick.contract.sla import DownStep, Sla, SlaBase, SlowMinutes, SlowStep

T = TypeVar("T")

SLA_KEYS = ("availability", "latency", "cap", "base", "features")
SLOW_KEYS = ("over_ms", "share", "requests", "minutes", "credit")
STEPS_MAX = 20
WHOLE_MAX = 10**12
NO_SLA = Sla()
"""What a plan says that takes an inherited promise away: `sla: null`."""


def read_plan_sla(place: Place) -> Sla:
    """As `read_sla`; null takes away what would be inherited."""
    return NO_SLA if place.is_null else read_sla(place)


def read_sla(place: Place) -> Sla:
    """The block `sla`."""
    fields = place.fields(*SLA_KEYS)
    if not fields.given & {"availability", "latency"}:
        place.note("missing_key", "nothing is promised: write `availability`, `latency` or both")
    return Sla(
        availability=fields.get("availability", _read_availability, ()),
        latency=fields.get("latency", _read_latency, ()),
        cap=fields.get("cap", _part, Fraction(1)),
        base=fields.get("base", lambda at: cast(SlaBase, at.choice(get_args(SlaBase))), "charges"),
        features=fields.get("features", _read_features, ()),
    )


def _read_availability(place: Place) -> tuple[DownStep, ...]:
    noted = len(place.problems)
    steps = _few(place, place.sequence(_read_down, least=1))
    for first, second in pairwise(steps):
        rises = second.below_percent < first.below_percent and second.credit > first.credit
        if not rises and len(place.problems) == noted:  # what follows from a gap is not worth a second error
            what = "from step to step `below` must fall and `credit` must rise, or a step would never count"
            place.note("steps_out_of_order", what)
            break
    return steps


def _read_down(place: Place) -> DownStep:
    fields = place.fields("below", "credit")
    return DownStep(fields.need("below", _percentage, Fraction(100)), fields.need("credit", _part, Fraction(1)))


def _percentage(place: Place) -> Fraction:
    value = place.decimal(positive=True)
    if not 1 < value <= 100:
        rule = 'availability is a percentage, such as "99.9", above 1 and at most 100'
        raise place.refusal("invalid_share", f"{place.scalar(rule).text[:80]} is none: {rule}")
    return value


def _part(place: Place) -> Fraction:
    value = place.share()
    if not value:
        raise place.refusal("too_small", "zero is not possible here; it must be more")
    return value


def _read_latency(place: Place) -> tuple[SlowStep | SlowMinutes, ...]:
    noted = len(place.problems)
    steps = _few(place, place.sequence(_read_slow, least=1))
    # With one threshold, a step that is reached later must credit more; steps of other thresholds are not comparable.
    for first, second in ((a, b) for n, a in enumerate(steps) for b in steps[n + 1 :]):
        if _measure(first) == _measure(second) and not _rises(first, second) and len(place.problems) == noted:
            what = "of steps with the same `over_ms`, the later must have a larger `share` and a larger `credit`"
            if isinstance(first, SlowMinutes):
                what = "from step to step `minutes` and `credit` must rise, or a step would never count"
            place.note("steps_out_of_order", what)
            break
    return steps


def _measure(step: SlowStep | SlowMinutes) -> tuple[int, int] | None:
    return (step.over_ms, step.requests) if isinstance(step, SlowStep) else None


def _rises(first: SlowStep | SlowMinutes, second: SlowStep | SlowMinutes) -> bool:
    bounds = [step.share if isinstance(step, SlowStep) else step.minutes for step in (first, second)]
    return bounds[0] < bounds[1] and first.credit < second.credit


def _read_slow(place: Place) -> SlowStep | SlowMinutes:
    fields = place.fields(*SLOW_KEYS)
    credit = fields.need("credit", _part, Fraction(1))
    if "minutes" in fields.given:
        for name in ("over_ms", "share", "requests"):
            if name in fields.given:
                what = "a step is about requests (`over_ms` and `share`) or about recorded `minutes`, not both"
                fields.at(name).note("unknown_key", what)
        return SlowMinutes(fields.get("minutes", _whole, 0), credit)
    return SlowStep(
        over_ms=fields.need("over_ms", lambda at: _whole(at, 1), 1),
        share=fields.need("share", _exceeded, Fraction(0)),
        requests=fields.get("requests", lambda at: _whole(at, 1), 1),
        credit=credit,
    )


def _whole(place: Place, least: int = 0) -> int:
    value = place.integer(least)
    if value > WHOLE_MAX:
        raise place.refusal("too_large", f"{value:,} is more than {WHOLE_MAX:,}")
    return value


def _exceeded(place: Place) -> Fraction:
    value = place.share()
    if value == 1:
        raise place.refusal("invalid_share", "more than all requests can never be slow; write a share below 1")
    return value


def _read_features(place: Place) -> tuple[str, ...]:
    names = place.sequence(Place.text, least=1)
    for name in sorted({name for name in names if names.count(name) > 1}):
        place.note("duplicate_value", f"{name!r} is named twice")
    return names


def _few(place: Place, steps: tuple[T, ...]) -> tuple[T, ...]:
    if len(steps) > STEPS_MAX:
        raise place.refusal("too_long", f"the list has more than {STEPS_MAX} steps")
    return steps
