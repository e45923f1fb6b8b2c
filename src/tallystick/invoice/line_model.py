"""The lines of an invoice, as members of its document. Every amount is an exact decimal string of USD."""

from __future__ import annotations

from typing import Literal

import msgspec

ChargeKind = Literal["base_fee", "usage", "commit_true_up", "top_up", "credits_owed"]
LineKind = Literal["base_fee", "usage", "commit_true_up", "top_up", "credits_owed", "adjustment"]


class MeterUse(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One meter's part of a line: how much of it, and in how many requests. Quantities are decimal strings."""

    meter: str
    unit: str
    quantity: str
    events: int


class InvoiceTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a line's arithmetic: `billed * unit_usd / per + flat_usd = amount_usd`, exactly.

    Attributes:
        tier: which tier of the price it is, from 1.
        quantity: how much of the line's quantity fell in it.
        basis: what `billed` counts: `units`, the units of whole `packages`, or `cost_usd` (USD of our cost).
        billed: what the unit price is applied to.
        up_to: the tier's inclusive upper bound, null when it is open-ended.
        unit_usd: the price of `per` billed units.
        flat_usd: the fee for entering the tier, "0" when there is none.
        amount_usd: exact, not rounded.
    """

    tier: int
    quantity: str
    basis: Literal["units", "packages", "cost_usd"]
    billed: str
    up_to: str | None
    unit_usd: str
    per: str
    flat_usd: str
    amount_usd: str


class AdjustedStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an adjustment line changes: one step of one line of a closed month.

    The adjustment lines of one line of that month, a group, have the same `adjustment`, section, `kind` and meter, and
    their `amount_usd` add up to `now_usd - billed_usd`.

    Attributes:
        adjustment: the number of the invoice's adjustment, which names the month.
        kind: what kind of line it is in that month.
        billed_quantity, now_quantity: that line's quantity as it was billed, and with what came late.
        billed_usd, now_usd: what that line charged, to the cent, and what it charges with what came late.
        before, after: the step as it was billed, and as it is now; null where there is none. Both null: the line has no
            steps, or none of them changed.
    """

    adjustment: int
    kind: ChargeKind
    billed_quantity: str
    now_quantity: str
    billed_usd: str
    now_usd: str
    before: InvoiceTier | None
    after: InvoiceTier | None


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One charge.

    Attributes:
        number: its place on the invoice, from 1.
        section: the number of the section that it belongs to; of an adjustment line, among those of the adjustment.
        plan: that section's plan.
        meter: the priced meter of a usage line, else null.
        quantity: what was priced: the sum over `metered`; 1 on a line without usage. Of an adjustment line, how much
            more there is in its step.
        price: the price in words.
        metered: the meters that the quantity is made of. On adjustment lines what came late of them, the same on all
            lines of a group.
        tiers: the arithmetic, step by step.
        amount_usd: what is charged: `exact_usd` rounded once, half to even, to the cent.
        exact_usd: a decimal; of a share of a month that has no finite decimal, a fraction such as "170/31".
        residue_usd: exact less amount, half a cent at most either way; of a group of adjustment lines the last one has
            what rounding the others has left over.
        adjusts: what an adjustment line changes; null on every other line.
    """

    number: int
    section: int
    plan: str
    kind: LineKind
    meter: str | None
    quantity: str
    price: str
    metered: tuple[MeterUse, ...]
    tiers: tuple[InvoiceTier, ...]
    amount_usd: str
    exact_usd: str
    residue_usd: str
    description: str
    adjusts: AdjustedStep | None = None
