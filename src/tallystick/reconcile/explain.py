"""Why a day and model differ, in plain words, each with the evidence for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

from tallystick.core.money import format_exact
from tallystick.reconcile.compare import Asked, Cell, Comparison, Key
from tallystick.reconcile.ledger_days import NEAR
from tallystick.reconcile.model import Classes


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that explains a difference, or a part of it: a stable code, and a sentence."""

    code: str
    text: str


def explain(comparison: Comparison, classes: Classes, asked: Asked) -> dict[Key, list[Finding]]:
    """What there is to say of each day and model; of those that are equal, only what was let pass."""
    found: dict[Key, list[Finding]] = {}
    for key, cell in comparison.cells.items():
        if cell.is_equal:
            found[key] = list(_of_equal(cell))
            continue
        reasons = list(_reasons(cell, comparison.cells, classes, asked))
        if not any(one.code in _CAUSES for one in reasons):
            reasons.append(Finding("unexplained", "nothing in the ledger or the export explains it"))
        found[key] = reasons
    return found


_CAUSES = frozenset(
    (
        "part_of_day", "more_calls_there", "more_calls_here", "estimates", "partial", "midnight", "silent_failures",
        "unpriced", "price", "tiers", "customers",
    )
)  # fmt: skip
"""What can be the cause of a difference; the others only say how it looks."""


def is_shifted(cell: Cell, cells: Mapping[Key, Cell]) -> bool:
    """Whether the neighbouring day has the opposite differences, and calls were made near the midnight between them."""
    return next(_neighbours(cell, cells), None) is not None


def _of_equal(cell: Cell) -> Iterator[Finding]:
    if cell.cost is not None and cell.cost.gap_pico:
        what = "rounding" if cell.cost.is_rounding else "tolerated"
        why = "which is no more than the rounding of its figures" if what == "rounding" else "which is tolerated"
        yield Finding(what, f"the provider's cost is {_usd(cell.cost.gap_pico)} USD off, {why}")
    gaps = [gap for gap in (*cell.meters, *([] if cell.requests is None else [cell.requests])) if gap.gap]
    if gaps:
        shown = ", ".join(f"{gap.gap:+,} {gap.name}" for gap in gaps)
        yield Finding("tolerated", f"the provider has {shown}, which is tolerated")


def _reasons(cell: Cell, cells: Mapping[Key, Cell], classes: Classes, asked: Asked) -> Iterator[Finding]:
    ours = cell.ours
    if cell.missing:
        yield Finding(
            "part_of_day", f"the export is of a part of the day only: {_hours(cell.missing)} of it are missing"
        )
    if not cell.is_known:
        yield Finding("unknown_model", "no rate card knows this model; its name is compared as it is")
    yield from _calls(cell)
    for other, count in _neighbours(cell, cells):
        yield Finding(
            "midnight",
            f"{other.key.day} has the opposite differences, and {count} calls were made within "
            f"{NEAR // timedelta(minutes=1)} minutes of the midnight between: the provider dates them otherwise",
        )
    if ours.estimated:
        yield Finding(
            "estimates", f"{_requests(ours.estimated)} here {_are(ours.estimated)} estimated{_far(cell, classes)}"
        )
    if ours.partial:
        yield Finding(
            "partial", f"{_requests(ours.partial)} here broke off, and {_have(ours.partial)} what was stated by then"
        )
    if ours.silent_failures:
        yield Finding(
            "silent_failures",
            f"{_requests(ours.silent_failures)} here failed without any usage, not counted; the provider may "
            "have counted what it generated",
        )
    if ours.unpriced:
        yield Finding("unpriced", f"{_requests(ours.unpriced)} here {_have(ours.unpriced)} no price yet: tally reprice")
    yield from _tiers(cell)
    yield from _prices(cell, classes)
    if cell.customers:
        yield Finding(
            "customers",
            f"{_requests(cell.customers)} here {_are(cell.customers)} paid with customers' own keys, and not compared",
        )
    if ours.adjusted:
        yield Finding("adjusted", f"{ours.adjusted} adjustments that were made before are counted here")


def _calls(cell: Cell) -> Iterator[Finding]:
    if not cell.theirs.rows:
        yield Finding("more_calls_here", "the provider has not one call of it: it may be of another account or key")
    elif not cell.groups:
        yield Finding("more_calls_there", "not one call of it is in the ledger: these calls did not pass here")
    elif cell.requests is not None and cell.requests.gap > 0:
        gap = cell.requests.gap
        yield Finding("more_calls_there", f"{_requests(gap)} more at the provider: calls that did not pass here")
    elif cell.requests is not None and cell.requests.gap < 0:
        gap = -cell.requests.gap
        failed = sum(sums.requests for group, sums in cell.groups.items() if group.failed)
        told = f"; {failed:,} of those here failed, which the provider may not count" if failed else ""
        yield Finding("more_calls_here", f"{_requests(gap)} more here: calls on another account or key{told}")


def _neighbours(cell: Cell, cells: Mapping[Key, Cell]) -> Iterator[tuple[Cell, int]]:
    mine = _gaps(cell)
    for days in (-1, 1):
        other = cells.get(cell.key._replace(day=cell.key.day + timedelta(days=days)))
        if other is None or not any(mine.values()):
            continue
        theirs = _gaps(other)
        first, second = (other, cell) if days < 0 else (cell, other)
        near = first.ours.late + second.ours.early
        if near and all(mine.get(name, 0) == -theirs.get(name, 0) for name in mine.keys() | theirs.keys()):
            yield other, near


def _gaps(cell: Cell) -> dict[str, int]:
    found = {gap.name: gap.gap for gap in cell.meters}
    if cell.requests is not None:
        found["requests"] = cell.requests.gap
    return found


def _far(cell: Cell, classes: Classes) -> str:
    """How far off the estimates would be, were they the whole cause."""
    told = []
    for gap in cell.meters:
        estimated = sum(cell.ours.estimates[meter] for meter in classes[gap.name])
        if gap.gap and estimated and estimated + gap.gap >= 0:
            told.append(f"{estimated:,} {gap.name} would be {estimated + gap.gap:,}")
        elif gap.gap and not estimated:
            told.append(f"{gap.gap:+,} {gap.name}, of which nothing was estimated")
        elif gap.gap:
            told.append(f"{estimated:,} {gap.name} are too few to be off by {gap.gap:+,}")
    return f"; were they the cause: {', '.join(told)}" if told else ", and not the cause"


def _tiers(cell: Cell) -> Iterator[Finding]:
    ours = {tier: count for tier, count in cell.ours.tiers.items() if tier and count}
    theirs = {tier: count for tier, count in cell.theirs.tiers.items() if tier and count}
    for tier in sorted(ours.keys() | theirs.keys()):
        if bool(ours.get(tier)) != bool(theirs.get(tier)):
            there = "the provider served some of it so" if tier in theirs else "the provider served none of it so"
            here = "some calls are" if tier in ours else "no call is"
            yield Finding("tiers", f"tier {tier}: {there}, and {here} priced so here")


def _prices(cell: Cell, classes: Classes) -> Iterator[Finding]:
    """Where quantities agree and the cost does not, the prices do not."""
    cost = cell.cost
    if cost is None or not cost.gap_pico or cost.is_rounding or not cell.groups or not cell.theirs.rows:
        return
    used = {gap.name: gap for gap in cell.meters}
    told = [name for name in classes if cell.theirs.cost_of.get(name) and (name not in used or not used[name].gap)]
    for name in told:
        theirs = cell.theirs.cost_of[name]
        ours = sum(cell.ours.costs[meter] for meter in classes[name])
        if abs(theirs - ours) > cell.theirs.slack_pico:
            quantity = sum(cell.ours.quantities[meter] for meter in classes[name])
            each = f", {_usd(theirs * 1_000_000 / quantity)} for a million," if quantity else ""
            yield Finding(
                "price",
                f"{name}: the provider charges {_usd(theirs)} USD{each} and here it cost {_usd(Fraction(ours))} USD, "
                f"{_rates(cell, classes[name])}",
            )
    if not told and not any(gap.gap for gap in used.values()) and not cell.ours.unpriced:
        every = tuple(meter for names in classes.values() for meter in names)
        yield Finding(
            "price",
            f"the quantities are not the cause: the provider charges {_usd(cost.theirs_pico)} USD and here it cost "
            f"{_usd(Fraction(cost.ours_pico))} USD, {_rates(cell, every)}",
        )


def _rates(cell: Cell, meters: tuple[str, ...]) -> str:
    found = [
        f"{_usd(Fraction(rate.price_pico))} for {rate.per:,} {meter} (card {rate.rate_version})"
        for (meter, rate), used in sorted(cell.ours.rates.items(), key=str)
        if meter in meters and used and rate.price_pico is not None and rate.per
    ]
    return f"at {'; '.join(found[:6])}" if found else "at no rate of a card"


def _usd(pico: Fraction) -> str:
    usd = pico / 10**12
    rounded = Fraction(round(usd * 10**6), 10**6)
    return format_exact(usd) if abs(usd) < Fraction(1, 10**4) and (pico.denominator == 1) else format_exact(rounded)


def _hours(missing: timedelta) -> str:
    return f"{missing // timedelta(hours=1)} h {missing // timedelta(minutes=1) % 60} min"


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count:,} requests"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"
