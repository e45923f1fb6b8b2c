"""Two samples compared, group by group and as a whole, and whether the candidate passes. Exact; no float anywhere.

    increase        mean of the candidate over mean of the baseline, less 1
    like for like   what the candidate's calls cost, over what as many calls of each group cost in the baseline, less 1
    mix shift       the rest of the change of the mean over all calls: other groups were called more often, or less

The gate judges each group's increase and the whole like for like. That the mix has shifted is told and fails nothing:
what a staging environment calls how often is nobody's choice.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tallystick.app.gate_sample import Costs, Sample, dearer_share
from tallystick.core.money import pico_to_usd

SHARE_MOVED = Fraction(1, 10)
"""By how much a group's part of all calls must have moved to be named."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the candidate must keep.

    Attributes:
        max_increase: of the mean cost, as a fraction: 1/10 for 10 %.
        min_sample: how many calls each side of each group must have.
        allow_new: let groups pass that the baseline does not have.
        ignore_small: let groups with too few calls pass, unjudged by themselves.
    """

    max_increase: Fraction
    min_sample: int
    allow_new: bool = False
    ignore_small: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the candidate does not pass: a code, the group (None: all of them) and a sentence."""

    code: str
    group: str | None
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {"code": self.code, "group": self.group, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Row:
    """A group: both sides, what changed, the models that only the candidate calls, and what is said of it.

    `verdict`: `ok`, `grew`, `too_few`, `new`, `unpriced`, or `missing`: the candidate has none of it.
    """

    group: str
    candidate: Costs
    baseline: Costs
    increase: Fraction | None
    dearer: Fraction | None
    new_models: tuple[str, ...]
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON members."""
        return {
            "group": self.group,
            "verdict": self.verdict,
            "candidate": costs_dict(self.candidate),
            "baseline": costs_dict(self.baseline),
            "increase": None if self.increase is None else percent(self.increase),
            "dearer_pairs": None if self.dearer is None else percent(self.dearer),
            "new_models": list(self.new_models),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found.

    Attributes:
        rows: every group, by name.
        total: increase of the mean over all calls, like for like, and what is left: the mix shift; each may be None.
        reasons: why it does not pass; none: it passes.
        notes: what is worth knowing and fails nothing.
    """

    rows: tuple[Row, ...]
    total: tuple[Fraction | None, Fraction | None, Fraction | None]
    reasons: tuple[Reason, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


def compare(candidate: Sample, baseline: Sample, terms: Terms) -> Comparison:
    """Compare two samples and judge the candidate."""
    names = sorted({*candidate.groups, *candidate.unpriced, *baseline.groups, *baseline.unpriced})
    rows = tuple(_row(name, candidate, baseline, terms) for name in names)
    total = _total(rows)
    reasons = [reason for row in rows if (reason := _reason(row, candidate, baseline, terms)) is not None]
    reasons += _reasons_of_all(candidate, baseline, total[1], terms)
    return Comparison(rows, total, tuple(reasons), tuple(_notes(rows, candidate, baseline, total)))


def _row(name: str, candidate: Sample, baseline: Sample, terms: Terms) -> Row:
    ours, theirs = candidate.groups.get(name, Costs()), baseline.groups.get(name, Costs())
    increase = _increase(ours.mean, theirs.mean)
    known = {model for models in baseline.models.values() for model in models}
    new_models = tuple(sorted(set(candidate.models.get(name, ())) - known))
    if name in candidate.unpriced or name in baseline.unpriced:
        verdict = "unpriced"
    elif not ours.calls:
        verdict = "missing"
    elif not theirs.calls:
        verdict = "new"
    elif min(ours.calls, theirs.calls) < terms.min_sample:
        verdict = "too_few"
    elif increase is None or increase > terms.max_increase:
        verdict = "grew"
    else:
        verdict = "ok"
    return Row(name, ours, theirs, increase, dearer_share(ours, theirs), new_models, verdict)


def _increase(ours: Fraction | None, theirs: Fraction | None) -> Fraction | None:
    """None where it cannot be told, or is beyond all bounds: what was free is not any more."""
    if ours is None or theirs is None:
        return None
    if theirs == 0:
        return Fraction(0) if ours == 0 else None
    return ours / theirs - 1


def _total(rows: tuple[Row, ...]) -> tuple[Fraction | None, Fraction | None, Fraction | None]:
    ours: Costs = Costs()
    theirs: Costs = Costs()
    for row in rows:
        ours.counts.update(row.candidate.counts)
        theirs.counts.update(row.baseline.counts)
    both = [row for row in rows if row.candidate.calls and row.baseline.calls]
    spent = sum(row.candidate.total_pico for row in both)
    expected = sum((row.candidate.calls * (row.baseline.mean or Fraction(0)) for row in both), Fraction(0))
    all_of_it = _increase(ours.mean, theirs.mean)
    alike = _increase(Fraction(spent), expected) if both else None
    return all_of_it, alike, None if all_of_it is None or alike is None else all_of_it - alike


def _reason(row: Row, candidate: Sample, baseline: Sample, terms: Terms) -> Reason | None:
    match row.verdict:
        case "unpriced":
            ours = candidate.unpriced.get(row.group, Counter[str]())
            theirs = baseline.unpriced.get(row.group, Counter[str]())
            models = ", ".join(sorted({*ours, *theirs}))
            said = f"{sum(ours.values()) + sum(theirs.values()):,} requests have no known cost: {models}"
            return Reason("unpriced", row.group, f"{said}; an unknown is never nothing")
        case "grew":
            said = "it was free, and is not any more" if row.increase is None else f"+{percent(row.increase)}"
            most = percent(terms.max_increase)
            return Reason("cost_grew", row.group, f"the mean cost of a call grew: {said}; at most {most} is let pass")
        case "new" if not terms.allow_new:
            said = f"{row.candidate.calls:,} calls, and the baseline has none of it to compare with"
            return Reason("no_baseline", row.group, said)
        case "too_few" if not terms.ignore_small:
            said = f"{row.candidate.calls:,} calls against {row.baseline.calls:,}"
            return Reason("sample_too_small", row.group, f"{said}; {terms.min_sample:,} of each are needed")
    return None


def _reasons_of_all(candidate: Sample, baseline: Sample, alike: Fraction | None, terms: Terms) -> list[Reason]:
    reasons = []
    if min(candidate.calls, baseline.calls) < terms.min_sample:
        said = f"{candidate.calls:,} calls in all against {baseline.calls:,}"
        reasons.append(Reason("sample_too_small", None, f"{said}; {terms.min_sample:,} of each are needed"))
    if alike is not None and alike > terms.max_increase:
        said = f"like for like, all calls together cost +{percent(alike)}"
        reasons.append(Reason("cost_grew", None, f"{said}; at most {percent(terms.max_increase)} is let pass"))
    return reasons


def _notes(
    rows: tuple[Row, ...],
    candidate: Sample,
    baseline: Sample,
    total: tuple[Fraction | None, Fraction | None, Fraction | None],
) -> list[str]:
    notes = []
    for row in rows:
        if row.new_models:
            notes.append(f"{row.group} calls models that the baseline does not: {', '.join(row.new_models)}")
        if row.verdict == "missing":
            notes.append(f"{row.group} was not called by the candidate, and is not judged")
        before = Fraction(row.baseline.calls, baseline.calls or 1)
        after = Fraction(row.candidate.calls, candidate.calls or 1)
        if abs(after - before) >= SHARE_MOVED and candidate.calls and baseline.calls:
            notes.append(f"{row.group} is {percent(after)} of all calls, and was {percent(before)}")
    if total[2] is not None and total[2] != 0:
        sign = "+" if total[2] > 0 else ""
        notes.append(f"the mix of groups alone makes the mean call {sign}{percent(total[2])}")
    for sample, side in ((candidate, "the candidate"), (baseline, "the baseline")):
        if sample.failed:
            notes.append(f"{sample.failed:,} calls of {side} failed without using anything, and are left out")
    return notes


def costs_dict(costs: Costs) -> dict[str, Any]:
    """One side as plain JSON members; mean and median to the nearest pico-USD, the total exact."""
    return {
        "calls": costs.calls,
        "total_usd": pico_to_usd(costs.total_pico),
        "mean_usd": usd(costs.mean),
        "median_usd": usd(costs.median),
    }


def usd(pico: Fraction | None) -> str | None:
    """An amount in USD, to the nearest pico-USD, half to even."""
    return None if pico is None else pico_to_usd(round(pico))


def percent(part: Fraction) -> str:
    """A fraction in per cent with two places, half to even: `percent(Fraction(1, 3)) == "33.33%"`."""
    hundredths = round(part * 10_000)
    whole, rest = divmod(abs(hundredths), 100)
    return f"{'-' if hundredths < 0 else ''}{whole}.{rest:02d}%"
