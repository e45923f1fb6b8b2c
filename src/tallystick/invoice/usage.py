"""What a period's facts add up to, before any contract is applied: the one input of an invoice.

The same sums come from two places that share no code: from SQL when a month is closed, and from the raw
events, one at a time, when an invoice is replayed. Sums are exact integers, so the order of the facts does
not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from tallystick.invoice.model import LedgerPin
from tallystick.invoice.wallet import WalletMonth
from tallystick.ledger.adjustment import Adjust
from tallystick.rates.model import Cost
from tallystick.usage.event import Payer, UsageEvent

Key = TypeVar("Key")
Model = tuple[str | None, str]
Group = tuple[str, bool]
"""(environment, failed): whether a request is charged depends on these two alone."""


@dataclass(slots=True)
class MeterSum:
    """One meter of one group.

    Attributes:
        quantity: the sum over the raw facts.
        events: how many requests have a quantity of it above zero.
        cost_pico: what the known parts cost us, in pico-USD, corrections included.
        cost_unknown: how many requests have a part of it whose cost is not known.
    """

    quantity: int = 0
    events: int = 0
    cost_pico: int = 0
    cost_unknown: int = 0

    def add(self, other: MeterSum) -> None:
        """Add another one's."""
        self.quantity += other.quantity
        self.events += other.events
        self.cost_pico += other.cost_pico
        self.cost_unknown += other.cost_unknown


@dataclass(slots=True)
class ModelSum:
    """The requests of one provider and model: how many, how many without a known cost, and the known cost."""

    events: int = 0
    unpriced: int = 0
    cost_pico: int = 0

    def add(self, other: ModelSum) -> None:
        """Add another one's."""
        self.events += other.events
        self.unpriced += other.unpriced
        self.cost_pico += other.cost_pico

    def add_cost(self, total_pico: int | None) -> None:
        """One request: what it cost; None when that is not known."""
        self.events += 1
        self.unpriced += total_pico is None
        self.cost_pico += total_pico or 0


@dataclass(slots=True)
class PeriodSums:
    """Sums over the requests of one org and period, and over the adjustments of what they used.

    Attributes:
        events: how many requests, by group.
        meters: by group and meter; costs are ours.
        models: the requests that we paid for.
        customer_models: those that a key of the customer's own has paid for.
        rates: how many requests each rate version has priced.
    """

    events: dict[Group, int] = field(default_factory=dict)
    meters: dict[tuple[str, bool, str], MeterSum] = field(default_factory=dict)
    models: dict[tuple[str | None, str], ModelSum] = field(default_factory=dict)
    customer_models: dict[tuple[str | None, str], ModelSum] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)

    def meter(self, group: Group, meter: str) -> MeterSum:
        """The sum of that meter in that group, begun at zero when it is the first."""
        key = (*group, meter)
        found = self.meters.get(key)
        if found is None:
            found = self.meters[key] = MeterSum()
        return found

    def model(self, provider: str | None, model: str, payer: Payer = "seller") -> ModelSum:
        """The sum of that model of those that `payer` has paid for, begun at zero when it is the first."""
        models = self.models if payer == "seller" else self.customer_models
        return models.setdefault((provider, model), ModelSum())

    def add(self, other: PeriodSums) -> None:
        """Add the sums of other requests."""
        for group, count in other.events.items():
            self.events[group] = self.events.get(group, 0) + count
        for (environment, failed, meter), found in other.meters.items():
            self.meter((environment, failed), meter).add(found)
        for (provider, model), of_model in other.models.items():
            self.model(provider, model).add(of_model)
        for (provider, model), of_model in other.customer_models.items():
            self.model(provider, model, "customer").add(of_model)
        for version, count in other.rates.items():
            self.rates[version] = self.rates.get(version, 0) + count

    def less(self, other: PeriodSums) -> PeriodSums:
        """By how much these exceed sums of a part of the same requests; what does not is left out.

        A request that was corrected since has changed its cost, and is one fewer without a known one.
        """
        found = PeriodSums()
        found.events = _counts_less(self.events, other.events)
        found.rates = _counts_less(self.rates, other.rates)
        for key in self.meters.keys() | other.meters.keys():
            now, was = self.meters.get(key, MeterSum()), other.meters.get(key, MeterSum())
            if now != was:
                found.meters[key] = MeterSum(
                    now.quantity - was.quantity,
                    now.events - was.events,
                    now.cost_pico - was.cost_pico,
                    now.cost_unknown - was.cost_unknown,
                )
        found.models = _models_less(self.models, other.models)
        found.customer_models = _models_less(self.customer_models, other.customer_models)
        return found

    def add_request(self, event: UsageEvent, cost: Cost) -> None:
        """One request: its raw quantities, and what it cost after corrections: us nothing when the customer paid."""
        group = self._add_quantities(event)
        self.rates[cost.rate_version] = self.rates.get(cost.rate_version, 0) + 1
        self.model(event.provider, event.model, event.payer).add_cost(cost.total_pico)
        if event.payer == "customer":
            return
        unknown: set[str] = set()
        for line in cost.lines:
            if line.amount_pico is None:
                unknown.add(line.meter)
            else:
                self.meter(group, line.meter).cost_pico += line.amount_pico
        for name in unknown:
            self.meter(group, name).cost_unknown += 1

    def add_uncosted(self, event: UsageEvent) -> None:
        """One request whose cost cannot be computed at all: its quantities, and nothing known of its cost."""
        group = self._add_quantities(event)
        self.model(event.provider, event.model, event.payer).add_cost(None)
        if event.payer == "customer":
            return
        for name, quantity in event.meters.items():
            if quantity:
                self.meter(group, name).cost_unknown += 1

    def add_adjustment(self, request: Adjust) -> None:
        """What was recorded of usage changes by so much; it is no request of its own."""
        group = (request.environment, request.outcome == "failure")
        ours = request.payer == "seller"
        for line in request.lines:
            found = self.meter(group, line.meter)
            found.quantity += line.quantity
            found.cost_pico += line.cost_pico if ours else 0
        self.model(request.provider, request.model, request.payer).cost_pico += request.cost_pico

    def _add_quantities(self, event: UsageEvent) -> Group:
        group = (event.environment, event.outcome == "failure")
        self.events[group] = self.events.get(group, 0) + 1
        for name, quantity in event.meters.items():
            if quantity:
                found = self.meter(group, name)
                found.quantity += quantity
                found.events += 1
        return group


@dataclass(frozen=True)
class PeriodFacts:
    """A period's facts, and which entries of the ledger they are.

    `sums` has one for each section of the terms, in their order, and last what was used while no plan was in force;
    `wallet` is what the period's operations did.
    """

    sums: tuple[PeriodSums, ...]
    ledger: LedgerPin
    wallet: WalletMonth = field(default_factory=WalletMonth)

    @cached_property
    def total(self) -> PeriodSums:
        """All of them together."""
        total = PeriodSums()
        for one in self.sums:
            total.add(one)
        return total


@dataclass(frozen=True)
class MonthCount:
    """A month's facts up to some entry, as `PeriodFacts` has them."""

    sums: tuple[PeriodSums, ...]
    wallet: WalletMonth


def empty_sums(sections: int) -> tuple[PeriodSums, ...]:
    """Sums to begin with, for so many sections and for what is used without a plan."""
    return tuple(PeriodSums() for _ in range(sections + 1))


def _counts_less(now: Mapping[Key, int], was: Mapping[Key, int]) -> dict[Key, int]:
    found = {key: now.get(key, 0) - was.get(key, 0) for key in now.keys() | was.keys()}
    return {key: count for key, count in found.items() if count}


def _models_less(now: Mapping[Model, ModelSum], was: Mapping[Model, ModelSum]) -> dict[Model, ModelSum]:
    found: dict[Model, ModelSum] = {}
    for key in now.keys() | was.keys():
        one, other = now.get(key, ModelSum()), was.get(key, ModelSum())
        if one != other:
            found[key] = ModelSum(
                one.events - other.events, one.unpriced - other.unpriced, one.cost_pico - other.cost_pico
            )
    return found
