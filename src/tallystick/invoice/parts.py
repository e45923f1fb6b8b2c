"""What an invoice states beside its lines, as members of its document."""

from __future__ import annotations

from typing import Literal

import msgspec

from tallystick.contract.model import PlanKind
from tallystick.invoice.line_model import MeterUse

NotChargedReason = Literal["failure", "environment", "no_plan"]


class InvoicePeriod(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A calendar month on the clocks of `time_zone`, as the half-open instants [start, end) in UTC."""

    label: str
    start: str
    end: str
    time_zone: str


class InvoiceContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contract version and plan that were in force last in the period; `sections` has them all.

    Attributes:
        sha256: the hash of the contract's content.
        subscription: the ordinal of the subscription that put the org on this contract and plan.
        subscriptions_known: how many subscriptions the org had when the invoice was built; later ones had no say.
        in_force_at: the instant at which version and plan were looked up: the period's start, or the instant at which
            the org came to this plan.
    """

    name: str
    version: str
    sha256: str
    plan: str
    subscription: int
    subscriptions_known: int
    in_force_at: str


class InForce(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A half-open time [start, end) in which a plan was in force, by which of the org's subscriptions."""

    start: str
    end: str
    subscription: int


class InvoiceSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One plan of one contract version, which prices what was used while it was in force.

    Attributes:
        number: its place on the invoice, from 1.
        contract: the contract's name, `version` and `sha256` which version of it.
        kind: `usage`, `credits` or `byok`.
        days: how many of the month's `days_of_month` are this plan's: its share of base fee and commit.
        in_force: when it was in force, in order.
    """

    number: int
    contract: str
    version: str
    sha256: str
    plan: str
    kind: PlanKind
    days: int
    days_of_month: int
    in_force: tuple[InForce, ...]


class RateUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many of the period's requests were costed with one rate-card version."""

    rate_version: str
    events: int


class LedgerPin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exactly which entries of the org's ledger the invoice covers, and where they stand in its Merkle tree.

    Attributes:
        first_seq: the first entry at which the ledger had reached the period: all before it are older. 0 when there
            is none up to `through_seq`.
        through_seq: the org's last ledger sequence when the invoice was built; what came later is not on it.
        billed_through_seq: the `through_seq` of the org's invoice that was closed before this one; 0 for none.
            What came for closed months after it, up to `through_seq`, is adjusted here.
        events: how many requests of the period there were, charged or not.
        entries_sha256: the hash over the period's entries, requests and corrections, in ascending sequence
            (`docs/invoice.md`).
        tree_size: how many leaves the org's tree had, one an entry: `through_seq`.
        root: the root of that tree, in hex (`docs/ledger.md`).
    """

    first_seq: int
    through_seq: int
    billed_through_seq: int
    events: int
    entries_sha256: str
    tree_size: int
    root: str


class NotChargedEvents(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Requests that are metered and costed, and not billed.

    They failed, or are of an environment that is not charged, or the org had no plan.
    """

    reason: NotChargedReason
    environment: str
    events: int
    meters: tuple[MeterUse, ...]


class UnpricedMeter(MeterUse, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meter that was counted in charged requests, and has no price in the plan of that section."""

    section: int
    plan: str


class NotCharged(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything of the period that costs the customer nothing, so that nothing is left unsaid."""

    meters: tuple[UnpricedMeter, ...]
    events: tuple[NotChargedEvents, ...]


class ModelCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the requests of one provider and model cost; those without a known cost are only counted."""

    provider: str | None
    model: str
    events: int
    unpriced_events: int
    cost_usd: str


class CustomerPaid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For information: requests whose provider a key of the customer's own has paid, and what they cost by our cards.

    It is part of no line that is a share of cost, and none of our cost.
    """

    events: int
    cost_usd: str
    unpriced_events: int
    models: tuple[ModelCost, ...]


class Credits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a wallet holds, in credits: what may be spent, and what open holds have reserved. Decimal strings."""

    available: str
    held: str


class GrantedCredits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credits that came in from one source: in how many grants, and how many they were."""

    source: str
    grants: int
    credits: str


class Wallet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the period did to the wallet, in credits. Decimal strings.

    Opening and closing, each available and held together, differ by what was granted and refunded, less what was
    charged and what has expired.

    Attributes:
        operations: how many operations of the period moved credits.
        opening, closing: before the first and after the last of them.
        granted: what came in, by source.
        charged: what was charged for work out of the wallet.
        owed: what was charged beyond it, less what was refunded of such: it has lines of its own.
        refunded: charges that came back to the wallet.
        expired: what came to its end unspent.
    """

    operations: int
    opening: Credits
    granted: tuple[GrantedCredits, ...]
    charged: str
    owed: str
    refunded: str
    expired: str
    closing: Credits


class Totals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sums over the lines; `total_usd` is what is due, to the cent."""

    total_usd: str
    exact_total_usd: str
    residue_usd: str
