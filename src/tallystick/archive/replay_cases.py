"""What the scalar pricing says of whole regions of entries: one question each, instead of one for each entry.

Entries that agree in everything that repeats (rate version, provider, model, price context, recorded pricing …) are
one case. Within a case a price can differ only where the rate card changes: at the dates of its rows, at the prompt
sizes of its tiers, at the edges of its times of day. Between these nothing changes, so that `RateCard.price`, asked
once in each region that the case's entries touch, has answered for all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

import msgspec

from tallystick.archive.lines import OWN_AMOUNT, Shape, read_shape
from tallystick.core.errors import TallyError
from tallystick.rates.model import Cost, CostLine
from tallystick.rates.plan import Plan, Rule, Span, context_of
from tallystick.rates.pricing import ADJUSTMENT, RateCard
from tallystick.usage.meters import PROMPT_METERS

DAY_MINUTES = 1440
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ANSWERS_MAX = 200_000

CardOf = Callable[[str], RateCard]
"""Gives the rate card of a version's name; it raises TallyError when there is none."""


class Case(NamedTuple):
    """What the entries of one case have in common; `stated`: the provider itself said what they cost."""

    rate_version: str
    provider: str | None
    model: str | None
    price_context: str | None
    usage_status: str | None
    status: str
    reason: str | None
    pricing: str | None
    stated: bool


class Box(NamedTuple):
    """Where a case's entries lie, both ends included: microseconds since 1970, prompt size, minute of the UTC day.

    `quantities` has, for each meter whose recorded quantity may be another than the event's, the least and the largest
    of the event's.
    """

    time_min: int
    time_max: int
    prompt_min: int
    prompt_max: int
    quantities: tuple[tuple[str, int, int], ...] = ()
    minute_min: int = 0
    minute_max: int = DAY_MINUTES - 1


class Edges(NamedTuple):
    """Where a case's price may change: the first microsecond, prompt size and minute of each region after the first."""

    times: tuple[int, ...]
    prompts: tuple[int, ...]
    minutes: tuple[int, ...]


class _Region(NamedTuple):
    """A part of a box in which nothing changes, by its place among the edges, and a point in it."""

    place: tuple[int, int, int]
    at: datetime
    prompt: int


class _Inputs(NamedTuple):
    card: RateCard
    context: dict[str, str]
    plan: Plan | None
    """None where the model is not known, and nothing depends on the instant."""
    bounds: tuple[int, ...]
    """The plan's, in microseconds since 1970."""


_NO_EDGES = Edges((), (), ())
_Model = tuple[str, str | None, str | None, str | None]


class Cases:
    """Answers whether what is recorded of a case is what the rate cards say."""

    def __init__(self, card_of: CardOf) -> None:
        self._card_of = card_of
        self._shapes: dict[str, Shape] = {}
        self._models: dict[_Model, _Inputs | None] = {}
        self._edges: dict[_Model, Edges] = {}
        self._answers: dict[tuple[Case, tuple[int, int, int], tuple[tuple[str, int], ...]], bool] = {}

    def shape(self, pricing: str) -> Shape:
        """The pricing, read."""
        found = self._shapes.get(pricing)
        if found is None:
            if len(self._shapes) >= _ANSWERS_MAX:
                self._shapes.clear()
            found = self._shapes[pricing] = read_shape(pricing)
        return found

    def agrees(self, case: Case, box: Box) -> bool:
        """Whether every entry that may lie in the box is recorded as it is priced, but for quantities and amounts.

        False also where that cannot be said of all of them at once.
        """
        inputs = self._inputs(case[:4])
        if inputs is None or case.pricing is None or box.time_min < 0:
            return False
        shape = self.shape(case.pricing)
        return all(
            self._region_agrees(case, shape, inputs, region, fixed)
            for fixed in _fixed_quantities(box)
            for region in _regions(inputs, shape, box)
        )

    def edges(self, case: Case) -> Edges:
        """Where the price of such entries may change."""
        inputs = self._inputs(case[:4])
        if inputs is None or inputs.plan is None or case.pricing is None:
            return _NO_EDGES
        meters = self.shape(case.pricing).meters
        rules = [rule for span in inputs.plan.spans for rule in _rules(span, meters)]
        return Edges(inputs.bounds, _prompt_edges(rules), _minute_edges(rules))

    def edges_of_model(
        self, rate_version: str, provider: str | None, model: str | None, price_context: str | None
    ) -> Edges:
        """Where some price of a model may change: the edges of all its cases, whatever they count, and maybe more."""
        key = (rate_version, provider, model, price_context)
        found = self._edges.get(key)
        if found is None:
            inputs = self._inputs(key)
            spans = inputs.plan.spans if inputs is not None and inputs.plan is not None else ()
            rules = [rule for span in spans for rule in span.rules.values()]
            bounds = () if inputs is None else inputs.bounds
            found = Edges(bounds, _prompt_edges(rules), _minute_edges(rules))
            if len(self._edges) >= _ANSWERS_MAX:
                self._edges.clear()
            self._edges[key] = found
        return found

    def _inputs(self, key: _Model) -> _Inputs | None:
        try:
            return self._models[key]
        except KeyError:
            found = self._read_inputs(*key)
        if len(self._models) >= _ANSWERS_MAX:
            self._models.clear()
        self._models[key] = found
        return found

    def _read_inputs(
        self, rate_version: str, provider: str | None, model: str | None, price_context: str | None
    ) -> _Inputs | None:
        try:
            card = self._card_of(rate_version)
            context = msgspec.json.decode(price_context or "{}", type=dict[str, str])
        except (TallyError, msgspec.MsgspecError):
            return None
        if model is None:
            return None
        resolved = card.resolve(provider, model)
        plan = None if resolved is None else _simplest(card.plan(resolved, context_of(context)))
        bounds = () if plan is None else tuple(_microseconds(bound) for bound in plan.bounds)
        return _Inputs(card, context, plan, bounds)

    def _region_agrees(
        self, case: Case, shape: Shape, inputs: _Inputs, region: _Region, fixed: tuple[tuple[str, int], ...]
    ) -> bool:
        meters = _example(shape, region.prompt, dict(fixed))
        if meters is None:
            return False
        key = (case, region.place, fixed)
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= _ANSWERS_MAX:
                self._answers.clear()
            found = self._answers[key] = _same(case, shape, meters, _price(case, inputs, meters, region.at))
        return found


def _simplest(plan: Plan) -> Plan:
    """The plan without the dates at which something changes that is not of its context."""
    kept = [place for place, (one, other) in enumerate(pairwise(plan.spans)) if one != other]
    return Plan(tuple(plan.bounds[place] for place in kept), (plan.spans[0], *(plan.spans[one + 1] for one in kept)))


def _price(case: Case, inputs: _Inputs, meters: dict[str, int], at: datetime) -> Cost:
    # Less than any sum: there is an adjustment, and whether the entry has one is a matter of its own amounts.
    stated = -1 if case.stated else None
    return inputs.card.price(
        case.provider,
        case.model or "",
        meters,
        at,
        inputs.context,
        case.usage_status,  # type: ignore[arg-type]
        stated,
    )


def _same(case: Case, shape: Shape, meters: dict[str, int], cost: Cost) -> bool:
    lines = list(cost.lines)
    count = len(shape.meters)
    if case.stated:
        lines = lines[:-1]
        if count and shape.price_pico[-1] == OWN_AMOUNT and shape.meters[-1] == ADJUSTMENT:
            count -= 1
    return (
        shape.models is None
        and (case.status, case.reason, case.rate_version) == (cost.status, cost.reason, cost.rate_version)
        and (cost.total_pico is None) == (case.status == "unpriced")
        and len(lines) == count
        and all(_same_line(shape, index, meters, line) for index, line in enumerate(lines))
    )


def _same_line(shape: Shape, index: int, meters: dict[str, int], line: CostLine) -> bool:
    constant = shape.quantities[index] if shape.quantities else None
    meter = shape.meters[index]
    quantity = meters[meter] if constant is None else constant
    return (line.meter, line.quantity, line.price_pico, line.per, line.model) == (
        meter,
        quantity,
        shape.price_pico[index],
        shape.per[index],
        None,
    )


# ── regions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _fixed_quantities(box: Box) -> Iterator[tuple[tuple[str, int], ...]]:
    """The event's quantities of the meters that are recorded with another: the least of each, then the largest.

    A request is billed for at least so many units: what holds at both ends holds between them.
    """
    least = tuple((meter, low) for meter, low, _ in box.quantities)
    largest = tuple((meter, high) for meter, _, high in box.quantities)
    yield least
    if largest != least:
        yield largest


def _example(shape: Shape, prompt: int, fixed: dict[str, int]) -> dict[str, int] | None:
    """Quantities of an event with this pricing and prompt size; None when there can be none."""
    meters = dict.fromkeys(shape.zeros or (), 0)
    prompt_meters = []
    for index, meter in enumerate(shape.meters):
        if shape.quantities and shape.quantities[index] is not None:
            quantity = fixed.get(meter, 0)
            if quantity and meter in PROMPT_METERS:
                return None
            if quantity:
                meters[meter] = quantity
            continue
        meters[meter] = 1
        if meter in PROMPT_METERS:
            prompt_meters.append(meter)
        elif meter in fixed:
            meters[meter] = fixed[meter]
    if prompt_meters:
        if prompt < len(prompt_meters):
            return None
        meters[prompt_meters[0]] = prompt - len(prompt_meters) + 1
    return meters if prompt_meters or not prompt else None


def _regions(inputs: _Inputs, shape: Shape, box: Box) -> Iterator[_Region]:
    plan, bounds = inputs.plan, inputs.bounds
    if plan is None:
        yield _Region((0, 0, 0), _instant(box.time_min), box.prompt_min)
        return
    for number in range(bisect_right(bounds, box.time_min), bisect_right(bounds, box.time_max) + 1):
        since = max(box.time_min, bounds[number - 1]) if number else box.time_min
        until = min(box.time_max, bounds[number] - 1) if number < len(bounds) else box.time_max
        rules = _rules(plan.spans[number], shape.meters)
        for bracket, prompt in _points(_prompt_edges(rules), box.prompt_min, box.prompt_max):
            for minute_place, at in _instants(_minute_edges(rules), since, until, box):
                yield _Region((number, bracket, minute_place), at, prompt)


def _rules(span: Span, meters: list[str]) -> list[Rule]:
    return [span.rules[meter] for meter in meters if meter in span.rules]


def _prompt_edges(rules: list[Rule]) -> tuple[int, ...]:
    tiers = [
        tier for rule in rules for group in (rule.tiers, *(tiers for _, _, tiers in rule.windows)) for tier in group
    ]
    return tuple(sorted({above + 1 for above, _ in tiers}))


def _minute_edges(rules: list[Rule]) -> tuple[int, ...]:
    edges = {edge for rule in rules for window, _, _ in rule.windows for edge in window}
    return tuple(sorted(edge % DAY_MINUTES for edge in edges if edge % DAY_MINUTES))


def _points(edges: tuple[int, ...], low: int, high: int) -> Iterator[tuple[int, int]]:
    """Each region between edges that low…high touches, by its place, and its first point there."""
    for place in range(bisect_right(edges, low), bisect_right(edges, high) + 1):
        yield place, max(low, edges[place - 1]) if place else low


def _instants(edges: tuple[int, ...], since: int, until: int, box: Box) -> Iterator[tuple[int, datetime]]:
    """For each time of day that the box touches between two instants, its place and an instant in it."""
    if not edges:
        yield 0, _instant(since)
        return
    for place, (begin, end) in enumerate(pairwise((0, *edges, DAY_MINUTES))):
        low, high = max(begin, box.minute_min), min(end - 1, box.minute_max)
        if low > high:
            continue
        minute = since // 60_000_000 % DAY_MINUTES
        at = since if low <= minute <= high else (since // 60_000_000 + (low - minute) % DAY_MINUTES) * 60_000_000
        if at <= until:
            yield place, _instant(at)


def _instant(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def _microseconds(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND
