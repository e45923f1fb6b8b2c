"""What the ledger holds of a provider, by day and model, in sums: the other half of the comparison."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.entry import Entry, entry_lines
from tallystick.usage.event import Payer

NEAR: Final = timedelta(minutes=15)
"""A call so near to midnight may be of another day on the provider's clock."""


class Rate(NamedTuple):
    """A price that was applied: of which card's version; None where there is none."""

    rate_version: str
    price_pico: int | None
    per: int | None


class Group(NamedTuple):
    """Requests that are added up together."""

    org_id: str
    day: date
    provider: str | None
    model: str
    payer: Payer
    environment: str
    failed: bool


@dataclass(slots=True)
class Sums:
    """What the requests of a group come to, after corrections and adjustments.

    Attributes:
        requests: how many there are.
        estimated, partial, unpriced: how many of them are so.
        silent_failures: how many failures are recorded with no usage at all.
        adjusted: how many adjustments were added.
        early, late: how many are within `NEAR` after the day's first midnight, and before its last.
        quantities: by meter.
        estimates: the part of `quantities` that is of estimated requests.
        costs: by meter, in pico-USD, as far as they are known.
        rates: by meter, how much was priced at which rate.
        tiers: requests by the service tier they were served in; the standard one is "".
    """

    requests: int = 0
    estimated: int = 0
    partial: int = 0
    unpriced: int = 0
    silent_failures: int = 0
    adjusted: int = 0
    early: int = 0
    late: int = 0
    quantities: Counter[str] = field(default_factory=Counter)
    estimates: Counter[str] = field(default_factory=Counter)
    costs: Counter[str] = field(default_factory=Counter)
    rates: Counter[tuple[str, Rate]] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)

    def add(self, other: Sums) -> None:
        """Add another one's."""
        for name in ("requests", "estimated", "partial", "unpriced", "silent_failures", "adjusted", "early", "late"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("quantities", "estimates", "costs", "rates", "tiers"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for key, amount in theirs.items():  # Counter's own += drops what is below nothing
                mine[key] += amount

    @property
    def cost_pico(self) -> int:
        """What is known of the cost."""
        return sum(self.costs.values())


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimated request, with what it is corrected and adjusted to by now.

    Attributes:
        entry: as it was recorded.
        priced: the entry whose cost counts: its correction, if it has one.
        meters: its quantities by now.
        adjusted: how many adjustments refer to it.
    """

    entry: Entry
    priced: Entry
    meters: dict[str, int]
    adjusted: int


@dataclass(slots=True)
class LedgerDays:
    """Everything of some orgs and a time that may have to do with the provider.

    Attributes:
        groups: the sums.
        estimates: the estimated requests, by org and place.
        booked: how many adjustments there are of a day, model and environment of an org that are of no one request.
        heads: each org's last entry when it was read.
    """

    groups: dict[Group, Sums] = field(default_factory=dict)
    estimates: dict[tuple[str, int], Estimate] = field(default_factory=dict)
    booked: Counter[tuple[str, date, str | None, str, str]] = field(default_factory=Counter)
    heads: dict[str, int] = field(default_factory=dict)

    def of(self, group: Group) -> Sums:
        """The sums of a group, begun at nothing when it is the first."""
        return self.groups.setdefault(group, Sums())

    def add_request(self, entry: Entry, correction: Entry | None) -> None:
        """One request that is read by itself."""
        sums = self.of(group_of(entry))
        sums.requests += 1
        sums.partial += entry.usage_status == "partial"
        priced = correction or entry
        sums.unpriced += priced.cost_pico is None
        quantities = dict(zip(entry.meter_names or (), entry.meter_quantities or (), strict=True))
        sums.silent_failures += entry.outcome == "failure" and not any(quantities.values())
        early, late = nearness(entry.time)
        sums.early += early
        sums.late += late
        sums.tiers[(entry.price_context or {}).get("service_tier", "")] += 1
        for meter, amount in quantities.items():
            sums.quantities[meter] += amount
        for line in entry_lines(priced):
            sums.rates[line.meter, Rate(priced.rate_version, line.price_pico, line.per)] += line.quantity
            if line.amount_pico is not None:
                sums.costs[line.meter] += line.amount_pico
        if entry.usage_status == "estimated":
            self.add_estimate(entry, correction, is_counted=False)

    def add_estimate(self, entry: Entry, correction: Entry | None, *, is_counted: bool) -> None:
        """Note that a request is estimated; `is_counted`: its sums say so already."""
        quantities = dict(zip(entry.meter_names or (), entry.meter_quantities or (), strict=True))
        sums = self.of(group_of(entry))
        if not is_counted:
            sums.estimated += 1
        for meter, amount in quantities.items():
            sums.estimates[meter] += amount
        self.estimates[entry.org_id, entry.seq] = Estimate(entry, correction or entry, quantities, 0)

    def add_adjustment(self, entry: Entry, request: Adjust) -> None:
        """An adjustment; those of requests come after all requests."""
        failed = request.outcome == "failure"
        day = entry.time.date()
        group = Group(entry.org_id, day, request.provider, request.model, request.payer, request.environment, failed)
        sums = self.of(group)
        sums.adjusted += 1
        estimate = self.estimates.get((entry.org_id, request.of_seq or 0))
        for line in request.lines:
            sums.quantities[line.meter] += line.quantity
            sums.costs[line.meter] += line.cost_pico
            if estimate is not None:
                sums.estimates[line.meter] += line.quantity
        if estimate is not None:
            meters = dict(estimate.meters)
            for line in request.lines:
                if line.quantity:
                    meters[line.meter] = meters.get(line.meter, 0) + line.quantity
            key = (entry.org_id, estimate.entry.seq)
            self.estimates[key] = Estimate(estimate.entry, estimate.priced, meters, estimate.adjusted + 1)
        elif request.of_seq is None:
            self.booked[entry.org_id, day, request.provider, request.model, request.environment] += 1


def group_of(entry: Entry) -> Group:
    """The group of a request; its day is that of UTC."""
    return Group(
        entry.org_id,
        entry.time.date(),
        entry.provider,
        entry.model or "",
        "seller" if entry.payer is None else "customer",
        entry.environment or "",
        entry.outcome == "failure",
    )


def nearness(instant: datetime) -> tuple[bool, bool]:
    """Whether it is near to its day's first midnight, and to its last."""
    since = instant - datetime.combine(instant.date(), time(), instant.tzinfo)
    return since < NEAR, since >= timedelta(days=1) - NEAR
