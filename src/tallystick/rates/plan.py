"""Compiles the rows of one model, seen from one version and one price context, into spans ready to price.

For each span between two dates at which anything changes, `Span.rules` says what each meter costs: the row
of the latest version prevails; the row with the most specific context prevails over a wider one; a meter
without a price of its own takes that of the meters it falls back to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from tallystick.rates.cardfile import RateLine, window_minutes
from tallystick.rates.source import STANDARD_TIERS, in_window
from tallystick.usage.meters import METERS

Context = tuple[tuple[str, str], ...]
VersionedLine = tuple[int, RateLine]
"""A row with the ordinal of the version that it came with."""

_STANDARD_VALUES: Mapping[str, frozenset[str]] = {
    "service_tier": STANDARD_TIERS,
    "speed": frozenset({"standard", "default"}),
    "inference_geo": frozenset({"global", "not_available"}),
}


class Rule(NamedTuple):
    """What one meter costs in one span."""

    price_pico: int
    per: int
    tiers: tuple[tuple[int, int], ...] = ()
    windows: tuple[tuple[tuple[int, int], int, tuple[tuple[int, int], ...]], ...] = ()
    """Times of day with (minutes, price_pico, tiers) of their own."""
    quantity_min: int = 0

    def price_for(self, prompt: int, minute: int) -> int:
        """The price at a prompt size and a minute of the day."""
        price, tiers = self.price_pico, self.tiers
        for window, window_price, window_tiers in self.windows:
            if in_window(window, minute):
                price, tiers = window_price, window_tiers
                break
        for above, tier_price in tiers:
            if prompt > above:
                price = tier_price
        return price


class Span(NamedTuple):
    """What holds between two dates: a rule for each meter that has a price, and why there is none at all."""

    rules: Mapping[str, Rule]
    refusal: str | None
    """Why nothing can be priced in this context, as a sentence; None when it can."""


class Plan(NamedTuple):
    """Spans of one model in one context: `spans[i]` holds from `bounds[i-1]` until `bounds[i]`."""

    bounds: tuple[datetime, ...]
    spans: tuple[Span, ...]

    def at(self, instant: datetime) -> Span:
        """The span in force at an instant."""
        return self.spans[bisect_right(self.bounds, instant)]


def context_of(price_context: Mapping[str, str]) -> Context:
    """A price context without what is standard: its pairs in order, lower case."""
    pairs = ((key, value.strip().lower()) for key, value in price_context.items())
    return tuple(sorted((key, value) for key, value in pairs if value and value not in _STANDARD_VALUES.get(key, ())))


def compile_plan(name: str, lines: Sequence[VersionedLine], context: Context) -> Plan:
    """The plan of the model called `name` from its rows, oldest version first."""
    edges = {bound for _, line in lines for bound in (line.valid_from, line.valid_to) if bound is not None}
    bounds = tuple(sorted(edges))
    starts: list[datetime | None] = [None, *bounds]
    return Plan(bounds, tuple(_span(name, _prevailing(lines, start), context) for start in starts))


_ByContext = dict[Context, dict[str, Rule]]


def _prevailing(lines: Iterable[VersionedLine], start: datetime | None) -> _ByContext:
    """For each context and meter, the rule of the latest version that has a row valid from `start` on."""
    latest: dict[tuple[Context, str], tuple[int, list[RateLine]]] = {}
    for ordinal, line in lines:
        if not _valid(line, start):
            continue
        key = (tuple(sorted(line.context.items())), line.meter)
        if key in latest and latest[key][0] == ordinal:
            latest[key][1].append(line)
        else:
            latest[key] = (ordinal, [line])
    by_context: _ByContext = {}
    for (context, meter), (_, group) in latest.items():
        rule = _rule(group)
        if rule is not None:
            by_context.setdefault(context, {})[meter] = rule
    return by_context


def _valid(line: RateLine, start: datetime | None) -> bool:
    if start is None:
        return line.valid_from is None
    return (line.valid_from is None or line.valid_from <= start) and (line.valid_to is None or start < line.valid_to)


def _rule(group: list[RateLine]) -> Rule | None:
    day = next((line for line in group if line.window is None), None)
    windows = tuple(
        (window_minutes(line.window), line.price_pico, line.tiers)
        for line in group
        if line.window is not None and line.price_pico is not None
    )
    if day is None or day.price_pico is None:
        return None
    return Rule(day.price_pico, day.per, day.tiers, windows, day.quantity_min)


def _span(name: str, by_context: _ByContext, context: Context) -> Span:
    if not by_context:
        return Span({}, f"the rate card has no price for {name} at that time")
    applying = sorted((known for known in by_context if set(known) <= set(context)), key=len)
    missing = set(context) - {pair for known in applying for pair in known}
    if missing:
        what = " and ".join(f"{key} {value}" for key, value in sorted(missing))
        return Span({}, f"the rate card has no price for {name} with {what} at that time")
    rules: dict[str, Rule] = {}
    for meter in {meter for known in applying for meter in by_context[known]}:
        offers = [(known, by_context[known][meter]) for known in applying if meter in by_context[known]]
        widest, rule = offers[-1]
        if any(not set(known) <= set(widest) and other != rule for known, other in offers):
            return Span({}, f"the rate card has no price for {name} with {_words(context)} together")
        rules[meter] = rule
    return Span({**_fallbacks(rules), **rules}, None)


def _words(context: Context) -> str:
    return " and ".join(f"{key} {value}" for key, value in context)


def _fallbacks(rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """For each meter without a price of its own, the first one that it falls back to and that has one."""
    borrowed = {}
    for meter in METERS.values():
        source = next((broader for broader in meter.falls_back_to if broader in rules), None)
        if source is not None:
            borrowed[meter.name] = rules[source]
    return borrowed
