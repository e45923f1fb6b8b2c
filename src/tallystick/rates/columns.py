"""Prices columns of usage: the same answers as `RateCard.price`, to the last bit, a million events a second.

Events are sorted into groups of one model, one context and one span of time, in which every meter has one
rule; a group is then a handful of array operations. Groups whose amounts might not fit into 64 bits are
priced one event at a time with Python's integers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tallystick.rates.lines import provider_billed
from tallystick.rates.plan import Plan, Rule, Span, context_of
from tallystick.usage.meters import PROMPT_METERS

if TYPE_CHECKING:
    from tallystick.rates.pricing import RateCard

Int64s = npt.NDArray[np.int64]
Integers = npt.NDArray[Any]
"""int64, or Python's integers (dtype object) where an amount is larger than 64 bits hold."""

_SAFE = 2**62
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US = 60_000_000


@dataclass(frozen=True)
class PricedColumns:
    """One cost for each event.

    Attributes:
        amounts: pico-USD by meter, `requests` as well where a model has a fee for each; 0 where unpriced.
        totals: their sum for each event; 0 where unpriced.
        unpriced: which events have a quantity without a rate.
    """

    amounts: Mapping[str, Integers]
    totals: Integers
    unpriced: npt.NDArray[np.bool_]


class _Group(NamedTuple):
    """Events `start` to `end`, in sorted order, that one span prices; None when the model is not known."""

    start: int
    end: int
    model: int
    context: int
    span: Span | None


def price_columns(
    card: RateCard,
    models: Sequence[tuple[str | None, str]],
    model_codes: npt.NDArray[np.integer[Any]],
    times_us: Int64s,
    meters: Mapping[str, Int64s],
    contexts: Sequence[Mapping[str, str]] = ({},),
    context_codes: npt.NDArray[np.integer[Any]] | None = None,
) -> PricedColumns:
    """What each of many requests cost us; see `RateCard.price_columns`."""
    count = len(model_codes)
    codes = model_codes.astype(np.int64) * len(contexts)
    if context_codes is not None:
        codes += context_codes
    order = _stable_order(codes)
    sorted_codes, sorted_times = codes[order], times_us[order]
    groups, within = _grouped(card, models, contexts, sorted_codes, sorted_times)
    if within is not None:
        order, sorted_times = order[within], sorted_times[within]
    quantities = {meter: column[order] for meter, column in meters.items()}
    pricing = _Pricing(card, models, contexts, quantities, sorted_times)
    for group in groups:
        pricing.add(group)
    back = np.empty(count, dtype=np.int64)
    back[order] = np.arange(count)
    return PricedColumns(
        {meter: column[back] for meter, column in pricing.amounts.items()},
        pricing.totals[back],
        pricing.unpriced[back],
    )


def _stable_order(codes: Int64s) -> Int64s:
    """The permutation that sorts small codes; numpy sorts 16-bit ones by counting, ten times faster."""
    small = codes.astype(np.int16) if len(codes) and codes.max() < 2**15 else codes
    return np.argsort(small, kind="stable")


def _grouped(
    card: RateCard,
    models: Sequence[tuple[str | None, str]],
    contexts: Sequence[Mapping[str, str]],
    codes: Int64s,
    times_us: Int64s,
) -> tuple[list[_Group], Int64s | None]:
    """The groups of events sorted by code, and the permutation that sorts each code's events by span as well."""
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)] if len(codes) else [0]
    groups: list[_Group] = []
    within: Int64s | None = None
    for start, end in pairwise(edges):
        model, context = divmod(int(codes[start]), len(contexts))
        resolved = card.resolve(*models[model])
        if resolved is None:
            groups.append(_Group(start, end, model, context, None))
            continue
        plan = card.plan(resolved, context_of(contexts[context]))
        if not plan.bounds:
            groups.append(_Group(start, end, model, context, plan.spans[0]))
            continue
        which = np.searchsorted(_bounds_us(plan), times_us[start:end], side="right").astype(np.int16)
        if which.min() != which.max():
            within = np.arange(len(codes)) if within is None else within
            local = np.argsort(which, kind="stable")
            within[start:end] = start + local
            which = which[local]
        cuts = [0, *(np.flatnonzero(np.diff(which)) + 1).tolist(), end - start]
        groups += [
            _Group(start + low, start + high, model, context, plan.spans[int(which[low])])
            for low, high in pairwise(cuts)
        ]
    return groups, within


def _bounds_us(plan: Plan) -> Int64s:
    return np.array([(bound - _EPOCH) // timedelta(microseconds=1) for bound in plan.bounds], dtype=np.int64)


class _Pricing:
    """Collects amounts group by group, in sorted order."""

    def __init__(
        self,
        card: RateCard,
        models: Sequence[tuple[str | None, str]],
        contexts: Sequence[Mapping[str, str]],
        quantities: Mapping[str, Int64s],
        times_us: Int64s,
    ) -> None:
        self._card, self._models, self._contexts = card, models, contexts
        self._quantities, self._times_us = quantities, times_us
        count = len(times_us)
        self.amounts: dict[str, Integers] = {meter: np.zeros(count, dtype=np.int64) for meter in quantities}
        self.totals: Integers = np.zeros(count, dtype=np.int64)
        self.unpriced = np.zeros(count, dtype=np.bool_)

    def add(self, group: _Group) -> None:
        rows = slice(group.start, group.end)
        quantities = {meter: column[rows] for meter, column in self._quantities.items()}
        if group.span is None or group.span.refusal is not None:
            self._one_by_one(group)
            return
        if "requests" in group.span.rules and "requests" not in quantities:
            billed = [column for meter, column in quantities.items() if provider_billed(meter)]
            served = np.zeros(group.end - group.start, dtype=np.bool_)
            for column in billed:
                served |= column > 0
            quantities["requests"] = served.astype(np.int64)
        known = group.span.rules
        rules = {meter: _reduced(known[meter]) if meter in known else None for meter in quantities}
        if not _fits(rules, quantities):
            self._one_by_one(group)
            return
        self._add_arrays(rows, rules, quantities)

    def _add_arrays(self, rows: slice, rules: Mapping[str, Rule | None], quantities: Mapping[str, Int64s]) -> None:
        prompt = self._prompt(rules, quantities)
        total = np.zeros(rows.stop - rows.start, dtype=np.int64)
        missing = np.zeros(rows.stop - rows.start, dtype=np.bool_)
        for meter, quantity in quantities.items():
            rule = rules[meter]
            if rule is None:
                if provider_billed(meter):
                    missing |= quantity > 0
                continue
            amount = _amounts(rule, quantity, prompt, self._times_us[rows])
            self._column(meter)[rows] = amount
            total += amount
        self.totals[rows] = np.where(missing, 0, total)
        if missing.any():
            self.unpriced[rows] = missing
            self._clear_amounts(rows, missing)

    def _prompt(self, rules: Mapping[str, Rule | None], quantities: Mapping[str, Int64s]) -> Int64s | None:
        if not any(rule is not None and _has_tiers(rule) for rule in rules.values()):
            return None
        columns = [column for meter, column in quantities.items() if meter in PROMPT_METERS]
        return np.sum(columns, axis=0, dtype=np.int64) if columns else None

    def _clear_amounts(self, rows: slice, missing: npt.NDArray[np.bool_]) -> None:
        """An unpriced event has no amounts, although some of its lines have a price."""
        for column in self.amounts.values():
            column[rows] = np.where(missing, 0, column[rows])

    def _one_by_one(self, group: _Group) -> None:
        provider, model = self._models[group.model]
        context = self._contexts[group.context]
        for row in range(group.start, group.end):
            meters = {meter: int(column[row]) for meter, column in self._quantities.items()}
            at = _EPOCH + timedelta(microseconds=int(self._times_us[row]))
            cost = self._card.price(provider, model, meters, at, context)
            if cost.total_pico is None:
                self.unpriced[row] = True
                continue
            self.totals = _set(self.totals, row, cost.total_pico)
            for line in cost.lines:
                self.amounts[line.meter] = _set(self._column(line.meter), row, line.amount_pico or 0)

    def _column(self, meter: str) -> Integers:
        if meter not in self.amounts:
            self.amounts[meter] = np.zeros(len(self._times_us), dtype=np.int64)
        return self.amounts[meter]


def _set(column: Integers, row: int, value: int) -> Integers:
    if column.dtype != object and value >= 2**63:
        column = column.astype(object)
    column[row] = value
    return column


@lru_cache(maxsize=4096)
def _reduced(rule: Rule) -> Rule:
    """The same rule with prices and `per` divided by what they have in common: products stay small."""
    common = gcd(rule.per, *(price for base, tiers in _prices(rule) for price in (base, *(tier for _, tier in tiers))))

    def less(tiers: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((above, price // common) for above, price in tiers)

    return rule._replace(
        price_pico=rule.price_pico // common,
        per=rule.per // common,
        tiers=less(rule.tiers),
        windows=tuple((window, price // common, less(tiers)) for window, price, tiers in rule.windows),
    )


def _prices(rule: Rule) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    yield rule.price_pico, rule.tiers
    for _, price, tiers in rule.windows:
        yield price, tiers


def _has_tiers(rule: Rule) -> bool:
    return any(tiers for _, tiers in _prices(rule))


def _fits(rules: Mapping[str, Rule | None], quantities: Mapping[str, Int64s]) -> bool:
    """Whether neither a product nor a sum of this group can leave 64 bits."""
    largest = 0
    for meter, rule in rules.items():
        if rule is not None and len(quantities[meter]):
            quantity = max(int(quantities[meter].max()), rule.quantity_min)
            price = max(max([base, *(tier for _, tier in tiers)]) for base, tiers in _prices(rule))
            largest += quantity * price
    return largest < _SAFE


def _amounts(rule: Rule, quantity: Int64s, prompt: Int64s | None, times_us: Int64s) -> Int64s:
    if rule.quantity_min:
        quantity = np.where(quantity > 0, np.maximum(quantity, rule.quantity_min), 0)
    if not rule.tiers and not rule.windows:
        price: Int64s | int = rule.price_pico
    else:
        price = _tiered(rule.price_pico, rule.tiers, prompt, len(quantity))
    if rule.windows:
        minute = times_us // _MINUTE_US % 1440
        for (start, end), window_price, tiers in reversed(rule.windows):
            after, before = minute >= start, minute < end
            inside = after & before if start <= end else after | before
            price = np.where(inside, _tiered(window_price, tiers, prompt, len(quantity)), price)
    product = quantity * price
    return product if rule.per == 1 else _divide_half_even(product, rule.per)


def _tiered(base: int, tiers: tuple[tuple[int, int], ...], prompt: Int64s | None, count: int) -> Int64s:
    price = np.full(count, base, dtype=np.int64)
    if prompt is not None:
        for above, tier_price in tiers:
            price = np.where(prompt > above, np.int64(tier_price), price)
    return price


def _divide_half_even(numerator: Int64s, denominator: int) -> Int64s:
    quotient, rest = np.divmod(numerator, denominator)
    twice = 2 * rest
    up = (twice > denominator) | ((twice == denominator) & (quotient & 1 == 1))
    rounded: Int64s = quotient + up
    return rounded
