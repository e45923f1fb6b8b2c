"""How a rule for service credits reads."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.contract.sla import DownStep, Sla, SlaBase, SlowStep, Step
from tallystick.contract.words import number, percent


def step_words(step: Step) -> str:
    """When a step is reached, as a condition."""
    if isinstance(step, DownStep):
        return f"availability below {number(step.below_percent)} %"
    if isinstance(step, SlowStep):
        least = f", of {number(step.requests)} at least" if step.requests > 1 else ""
        return f"more than {percent(step.share)} of requests slower than {number(step.over_ms)} ms{least}"
    return f"more than {number(step.minutes)} minute{'' if step.minutes == 1 else 's'} recorded as slow"


def sla_terms(sla: Sla) -> Iterator[tuple[str, str]]:
    """The rule's terms in words, by their key; those that it does not state are left out."""
    for key, steps in (("availability", sla.availability), ("latency", sla.latency)):
        if steps:
            yield key, "; ".join(f"{step_words(step)}: {percent(step.credit)} credited" for step in steps)
    yield "cap", f"at most {percent(sla.cap)} of {base_words(sla.base)}"
    if sla.features:
        yield "features", ", ".join(sla.features)


def base_words(base: SlaBase) -> str:
    """What shares are of."""
    return "the month's charges" if base == "charges" else "the month's base fee"
