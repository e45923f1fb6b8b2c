"""Prices usage: `RateCard` is what was known at one version, compiled so that an event costs a microsecond.

    amount_pico = quantity × price_pico / per      exact where per divides, else rounded half to even

Long-context tiers are cliffs: once the prompt (the sum of all prompt meters) is larger than `above`, the
whole request costs the tier's price. A model, a meter or a price context that the card does not know makes
the cost `unpriced`, never zero and never another model's price.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from operator import mul
from typing import TYPE_CHECKING, Any, NamedTuple

from tallystick.rates.effective import effective_rows
from tallystick.rates.lines import (
    added,
    carried,
    is_token,
    of_model,
    request_lines,
    shown,
    unknown_model,
    unpriced_line,
)
from tallystick.rates.model import Cost, CostLine, CostStatus, RateRow
from tallystick.rates.names import Names, Resolved
from tallystick.rates.plan import Context, Plan, Span, VersionedLine, compile_plan, context_of
from tallystick.rates.steps import Bracket, CostRow, Shape, line_columns, shape_of, without_zeros
from tallystick.usage.event import UsageEvent, UsageStatus
from tallystick.usage.meters import meter_order

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tallystick.rates.card import CardHistory
    from tallystick.rates.cardfile import CardVersion
    from tallystick.rates.columns import PricedColumns

ADJUSTMENT = "provider_cost_adjustment"
"""The meter of the line that brings a cost to what the provider itself stated."""

_SHAPES_MAX = 50_000
_PLANS_MAX = 20_000
_NO_CONTEXT: Mapping[str, str] = {}


class Part(NamedTuple):
    """A share of the work that has a prompt of its own; `model` is None for the event's own model."""

    model: str | None
    meters: Mapping[str, int]


class RateCard:
    """The rates as they were known at one version.

    Make it with `CardHistory.at` or `CardHistory.latest`. It is immutable; what it remembers are compiled
    answers.

    Attributes:
        version: the version's name, which every `Cost` carries.
        known_at: when that version became known.
    """

    def __init__(self, history: CardHistory, ordinal: int) -> None:
        self._history = history
        self._ordinal = ordinal
        header = history.versions[ordinal].header
        self.version = header.version
        self.known_at = header.known_at
        self._plans: dict[tuple[Resolved, Context], Plan] = {}
        self._shapes: dict[tuple[str, str, tuple[str, ...], Context], Shape | None] = {}

    @cached_property
    def names(self) -> Names:
        """Which model a name means, as known at this version."""
        return self._history.names(self._ordinal)

    def models(self) -> list[tuple[Resolved, bool, int]]:
        """Every model this version has, in order: its ids, whether the source still lists it, its current prices."""
        listed = self._history.listed(self._ordinal)
        return [
            (Resolved(*key), listed[key], sum(row.valid_to is None for row, _ in self.effective(Resolved(*key))))
            for key in sorted(listed)
        ]

    def resolve(self, provider: str | None, model: str) -> Resolved | None:
        """The card's ids of the model that a name means; None when it is not known for certain.

        Args:
            provider: who answered, by any name the source knows; None infers it from the model's name.
            model: the model as the provider named it.
        """
        return self.names.resolve(provider, model)

    def price(
        self,
        provider: str | None,
        model: str,
        meters: Mapping[str, int],
        at: datetime,
        price_context: Mapping[str, str] = _NO_CONTEXT,
        usage_status: UsageStatus = "final",
        provider_cost_pico: int | None = None,
    ) -> Cost:
        """What one request cost us.

        Args:
            provider: who answered; None for work that no provider did, which costs nothing unless its
                model is known or it counts tokens.
            model: the model as the provider named it.
            meters: quantity by meter, none negative.
            at: when the request completed, aware.
            price_context: as served: service_tier, speed, route, search_type, inference_geo.
            usage_status: how sure the quantities are; it becomes the cost's status unless that is unpriced.
            provider_cost_pico: what the provider itself says it cost; it prevails.
        """
        if provider is None or provider_cost_pico is not None:
            return self._price_slowly(provider, model, meters, at, price_context, usage_status, provider_cost_pico)
        shape = self._shape_for(provider, model, meters, price_context)
        bracket = None if shape is None else shape.always or _bracket(shape, meters, at)
        if shape is None or bracket is None:
            return self._price_slowly(provider, model, meters, at, price_context, usage_status, None)
        total = 0
        lines = []
        for meter, price_pico, per, unit in bracket.steps:
            quantity = meters[meter]
            if quantity:
                amount = quantity * unit
                total += amount
                lines.append(CostLine(meter, quantity, price_pico, per, amount))
        return Cost(shape.provider, shape.model, tuple(lines), total, usage_status, self.version)

    def price_event(self, event: UsageEvent) -> Cost:
        """What a usage event cost us; see `price`."""
        return self.price(
            event.provider,
            event.model,
            event.meters,
            event.time,
            event.price_context,
            event.usage_status,
            event.provider_cost_pico,
        )

    def price_row(self, event: UsageEvent) -> CostRow:
        """What a usage event cost us, as columns: the same as `price_event`, in half the time."""
        provider, meters, context = event.provider, event.meters, event.price_context
        if provider is not None and event.provider_cost_pico is None and meters:
            if 0 in meters.values():
                meters = without_zeros(meters)
            shape = self._shape_for(provider, event.model, meters, context)
            bracket = None if shape is None else shape.always or _bracket(shape, meters, event.time)
            if bracket is not None and meters:
                names, price_pico, per, units, _ = bracket
                quantities = [meters[name] for name in names]
                amounts = list(map(mul, quantities, units))
                return CostRow(
                    names,
                    quantities,
                    price_pico,
                    per,
                    amounts,
                    None,
                    sum(amounts),
                    event.usage_status,
                    self.version,
                )
        cost = self.price_event(event)
        return CostRow(*line_columns(cost.lines), cost.total_pico, cost.status, cost.rate_version, cost.reason)

    def price_parts(
        self,
        provider: str | None,
        model: str,
        parts: Sequence[Part] | Sequence[tuple[str | None, Mapping[str, int]]],
        at: datetime,
        price_context: Mapping[str, str] = _NO_CONTEXT,
        usage_status: UsageStatus = "final",
        provider_cost_pico: int | None = None,
    ) -> Cost:
        """What one answer cost us that several requests went into, each with a prompt size of its own.

        Lines of the event's own model with the same meter and price are added up; those of another model
        carry its name. A part is priced as `price` prices it, in the same price context.
        """
        costs = [
            (part_model, self.price(provider, part_model or model, meters, at, price_context, usage_status))
            for part_model, meters in parts
        ]
        lines: dict[tuple[str | None, str, int | None, int | None], CostLine] = {}
        for part_model, cost in costs:
            for line in cost.lines:
                key = (part_model, line.meter, line.price_pico, line.per)
                lines[key] = added(lines[key], line) if key in lines else of_model(line, part_model)
        ordered = sorted(lines.values(), key=lambda line: (line.model or "", meter_order(line.meter)))
        reason = next((cost.reason for _, cost in costs if cost.reason is not None), None)
        own = next((cost for part_model, cost in costs if part_model is None), None)
        resolved = self.resolve(provider, model) if own is None else Resolved(own.provider or "", own.model)
        return self._settled(
            (resolved.provider or provider) if resolved else provider,
            resolved.model if resolved else model,
            ordered,
            usage_status,
            reason,
            provider_cost_pico,
        )

    def price_columns(
        self,
        models: Sequence[tuple[str | None, str]],
        model_codes: npt.NDArray[np.integer[Any]],
        times_us: npt.NDArray[np.int64],
        meters: Mapping[str, npt.NDArray[np.int64]],
        contexts: Sequence[Mapping[str, str]] = (_NO_CONTEXT,),
        context_codes: npt.NDArray[np.integer[Any]] | None = None,
    ) -> PricedColumns:
        """What each of many requests cost us: the same as `price`, to the last bit.

        Args:
            models: the (provider, model) names that occur.
            model_codes: for each event, the index of its model in `models`.
            times_us: for each event, when it completed, in microseconds since 1970 UTC.
            meters: by meter, the quantity of each event, none negative.
            contexts: the price contexts that occur.
            context_codes: for each event, the index of its context; None means the first for all.
        """
        from tallystick.rates.columns import price_columns  # numpy takes longer to load than all cards

        return price_columns(self, models, model_codes, times_us, meters, contexts, context_codes)

    def span(self, resolved: Resolved, at: datetime, price_context: Mapping[str, str] = _NO_CONTEXT) -> Span:
        """What each meter of a model costs at an instant in a price context."""
        return self.plan(resolved, context_of(price_context)).at(at)

    def effective(self, resolved: Resolved) -> list[tuple[RateRow, CardVersion]]:
        """The prices of a model through time, each with the span in which it prevails and its version."""
        versions = self._history.versions
        return [(one.row, versions[one.ordinal]) for one in effective_rows(self._lines(resolved))]

    def rows(self, resolved: Resolved, at: datetime | None = None) -> list[tuple[RateRow, str]]:
        """The same with the versions' names; with `at`, only the prices in force at that instant."""
        return [(row, version.name) for row, version in self.effective(resolved) if at is None or row.valid_at(at)]

    def _lines(self, resolved: Resolved) -> list[VersionedLine]:
        return [one for one in self._history.lines(resolved) if one[0] <= self._ordinal]

    def plan(self, resolved: Resolved, context: Context) -> Plan:
        """The compiled prices of a model in a context (see `context_of`)."""
        key = (resolved, context)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _PLANS_MAX:  # contexts come from outside; memory is not theirs to fill
                self._plans.clear()
            name = f"{resolved.provider}/{resolved.model}"
            found = self._plans[key] = compile_plan(name, self._lines(resolved), context)
        return found

    def _shape_for(
        self, provider: str, model: str, meters: Mapping[str, int], price_context: Mapping[str, str]
    ) -> Shape | None:
        key = (provider, model, (*meters,), context_of(price_context) if price_context else ())
        try:
            return self._shapes[key]
        except KeyError:
            return self._shape(key)

    def _shape(self, key: tuple[str, str, tuple[str, ...], Context]) -> Shape | None:
        if len(self._shapes) >= _SHAPES_MAX:
            self._shapes.clear()
        provider, model, meters, context = key
        resolved = self.resolve(provider, model)
        shape = None
        if resolved is not None:
            shape = shape_of(resolved.provider, resolved.model, self.plan(resolved, context), meters)
        self._shapes[key] = shape
        return shape

    def _price_slowly(
        self,
        provider: str | None,
        model: str,
        meters: Mapping[str, int],
        at: datetime,
        price_context: Mapping[str, str],
        usage_status: UsageStatus,
        provider_cost_pico: int | None,
    ) -> Cost:
        """Every rule, for whatever is not a plain multiplication."""
        resolved = self.resolve(provider, model)
        if resolved is None:
            free = provider is None and not any(is_token(meter) for meter, quantity in meters.items() if quantity)
            lines = [unpriced_line(meter, quantity, free=free) for meter, quantity in shown(meters)]
            reason = None if free else unknown_model(provider, model)
            return self._settled(provider, model, lines, usage_status, reason, provider_cost_pico)
        span = self.plan(resolved, context_of(price_context)).at(at)
        lines, reason = request_lines(span, resolved, meters, at)
        return self._settled(resolved.provider, resolved.model, lines, usage_status, reason, provider_cost_pico)

    def _settled(
        self,
        provider: str | None,
        model: str,
        lines: list[CostLine],
        usage_status: UsageStatus,
        reason: str | None,
        provider_cost_pico: int | None,
    ) -> Cost:
        """The cost of these lines, brought to what the provider itself stated when it did."""
        if provider_cost_pico is not None:
            # The provider's own figure is the truth; a line without a rate is then part of the adjustment.
            lines = [line if line.amount_pico is not None else carried(line) for line in lines]
            rest = provider_cost_pico - sum(line.amount_pico or 0 for line in lines)
            if rest:
                lines.append(CostLine(ADJUSTMENT, 1, rest, 1, rest))
            return Cost(provider, model, tuple(lines), provider_cost_pico, usage_status, self.version)
        if reason is not None:  # also when nothing was used of a model that nobody knows: an unknown is never zero
            status: CostStatus = "unpriced"
            return Cost(provider, model, tuple(lines), None, status, self.version, reason)
        total = sum(line.amount_pico or 0 for line in lines)
        return Cost(provider, model, tuple(lines), total, usage_status, self.version)


def _bracket(shape: Shape, meters: Mapping[str, int], at: datetime) -> Bracket | None:
    """How these quantities are priced at that instant; None where it takes more than multiplications."""
    if shape.always is not None:
        return shape.always
    bounds = shape.plan.bounds
    index = len(bounds)
    while index and at < bounds[index - 1]:
        index -= 1
    steps = shape.spans[index]
    if steps is None:
        return None
    if not steps.cliffs:
        return steps.brackets[0]
    return steps.brackets[bisect_left(steps.cliffs, sum([meters[meter] for meter in steps.prompt]))]
