"""The contract's values: what customers are charged and promised, as it was written, with exact types.

A contract is never edited: another content is another version with another hash. Amounts are `Fraction`
USD unless a name says credits. Inheritance between plans is resolved: each plan here is whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Literal

from tallystick.contract.shapes import Shape
from tallystick.contract.sla import Sla
from tallystick.usage.event import Outcome
from tallystick.usage.meters import METERS

PlanKind = Literal["usage", "credits", "byok"]
LimitKind = Literal["hard", "soft"]
LimitWindow = Literal["minute", "hour", "day", "week", "month"]
Enforcement = Literal["enforce", "shadow"]

COST_ADJUSTMENT = "provider_cost_adjustment"
"""The cost line that is no meter: it brings an event's cost lines to what the provider itself stated. It has
a cost and no quantity, so that only a price that is a share of the cost can include it."""


@dataclass(frozen=True, slots=True)
class Credit:
    """The unit that a wallet holds, and what one of it is worth in USD."""

    name: str
    usd: Fraction


@dataclass(frozen=True, slots=True)
class DeclaredMeter:
    """A meter that the contract adds to the built-in ones; providers never bill it."""

    name: str
    unit: str


@dataclass(frozen=True, slots=True)
class Repeat:
    """What an action costs again, `credits`, for the same value of `key` within that time."""

    key: str
    within: timedelta
    credits: int


@dataclass(frozen=True, slots=True)
class Action:
    """A unit that the customer understands and pays for.

    Exactly one of `credits` and `cost_plus` is set. `cost_plus` charges our cost and that share of it, in
    credits, rounded up to a whole one, and never more than `max_credits`.
    Outcomes that `charge_on` does not name are given back.
    """

    name: str
    title: str
    credits: int | None
    cost_plus: Fraction | None
    max_credits: int | None
    charge_on: tuple[Outcome, ...]
    repeat: Repeat | None
    shows: str | None


@dataclass(frozen=True, slots=True)
class Price:
    """What a meter costs. The quantities of `includes` are added to the meter's own before pricing."""

    shape: Shape
    includes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `max` of these meters together in each window; soft ones warn, hard ones refuse.

    `warn_at` are shares of `max`, ascending, at which someone is told.
    """

    meters: tuple[str, ...]
    max: int
    per: LimitWindow
    kind: LimitKind
    warn_at: tuple[Fraction, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRules:
    """Which models a plan may use: patterns with `*`. `deny` wins; an empty `allow` allows all."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan, whole.

    Attributes:
        kind: `usage` (quantities are priced), `credits` (a wallet pays action by action) or `byok` (the
            customer's own key pays the provider).
        base_usd: a month's base fee.
        commit_usd: a month's minimum, the base fee included; None for none.
        prices: by meter, in the order in which lines are shown.
        actions: what may be used; None for all of the contract's.
        overage: whether a `cost_plus` settlement may exceed what was held for it, up to `max_credits`.
        enforcement: the plan's own mode; None for the contract's.
        sla: what is promised of service, the plan's own or the contract's; None for nothing.
    """

    name: str
    title: str
    kind: PlanKind
    base_usd: Fraction
    commit_usd: Fraction | None
    prices: Mapping[str, Price]
    limits: tuple[Limit, ...]
    included_credits: int
    top_up: bool
    actions: tuple[str, ...] | None
    models: ModelRules
    overage: bool
    enforcement: Enforcement | None
    upgrade_to: str | None
    extends: str | None
    sla: Sla | None = None

    @property
    def has_wallet(self) -> bool:
        """Whether its actions are paid in credits: on a usage plan never, on a byok plan only when it gives any."""
        return self.kind == "credits" or (self.kind == "byok" and (self.included_credits > 0 or self.top_up))


@dataclass(frozen=True, slots=True)
class EnvironmentTerms:
    """Whether what happens in an environment is billed; it is metered and costed in any case."""

    charge: bool


@dataclass(frozen=True, slots=True)
class Seller:
    """Who issues the invoices, as it stands on them.

    Attributes:
        address, how_to_pay: line by line.
        registration: where the business is registered, and under what.
        number_prefix: what the numbers of its invoices begin with; None for `INV`.
    """

    name: str
    address: tuple[str, ...] = ()
    tax_id: str | None = None
    registration: str | None = None
    email: str | None = None
    website: str | None = None
    how_to_pay: tuple[str, ...] = ()
    number_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Invoicing:
    """When invoices are final and due.

    Attributes:
        late_window: for how long after a month's end late usage still comes onto its invoice.
        payment_terms: how long after it is issued an invoice is due.
    """

    late_window: timedelta = timedelta(hours=24)
    payment_terms: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Disputes:
    """Until when what was charged can be disputed, and how long the seller has to answer.

    Attributes:
        window: for how long after it is issued an invoice can be disputed, and charged credits after their charge.
        answer_within: how long after it is opened a dispute is to be decided.
    """

    window: timedelta = timedelta(days=60)
    answer_within: timedelta = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of a contract.

    Attributes:
        hold_life: how long a hold may stay open before its expiry ends it.
        refund_grace: for how long credits can be used that go back to a grant which has expired meanwhile.
        sha256: the hash of its content (see `loader.content_sha256`).
        seller: who issues the invoices; None where it does not say.
    """

    name: str
    version: str
    effective_from: datetime
    currency: str
    credit: Credit | None
    meters: Mapping[str, DeclaredMeter]
    actions: Mapping[str, Action]
    plans: Mapping[str, Plan]
    environments: Mapping[str, EnvironmentTerms]
    enforcement: Enforcement
    hold_life: timedelta
    refund_grace: timedelta
    sha256: str
    source_text: str
    seller: Seller | None = None
    invoicing: Invoicing = Invoicing()
    disputes: Disputes = Disputes()

    def __hash__(self) -> int:
        return hash(self.sha256)

    def __eq__(self, other: object) -> bool:
        """Whether both were read from the same text: all else follows from that."""
        if self is other:
            return True
        if not isinstance(other, Contract):
            return NotImplemented
        same = self.sha256 == other.sha256 and self.source_text == other.source_text
        return same and self.effective_from == other.effective_from

    def charges(self, environment: str) -> bool:
        """Whether usage in that environment is billed; one that the contract does not name is."""
        terms = self.environments.get(environment)
        return terms is None or terms.charge

    def knows_meter(self, meter: str) -> bool:
        """Whether the meter is a built-in one or one that this contract declares."""
        return meter in METERS or meter in self.meters
