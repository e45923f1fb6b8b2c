"""Quote: what quantities would be charged under a plan. Nothing is stored, and no database is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction

from tallystick.contract.line_json import line_members
from tallystick.contract.model import COST_ADJUSTMENT, Contract, Plan
from tallystick.contract.price_list import find_plan
from tallystick.contract.pricing import ChargeLine, not_charged, price_change, price_period
from tallystick.core.errors import BadInput, Problems
from tallystick.core.money import cents_to_usd, format_decimal, parse_decimal

LARGEST = 10**18
"""The largest quantity or cost that a quote takes, far above any real month; more is a slip."""
PLACES_MAX = 18


@dataclass(frozen=True, slots=True)
class Quote:
    """The lines of a quote, and what of the quantities is not charged."""

    contract: Contract
    plan: Plan
    lines: tuple[ChargeLine, ...]
    not_charged: Mapping[str, Fraction]

    @property
    def total_cents(self) -> int:
        """What would be charged: the sum of the rounded lines."""
        return sum(line.amount_cents for line in self.lines)

    @property
    def exact_total_usd(self) -> Fraction:
        """The sum of the lines before rounding."""
        return sum((line.exact_usd for line in self.lines), Fraction(0))

    def as_dict(self) -> dict[str, object]:
        """The quote as plain JSON members, amounts and quantities as decimal strings."""
        return {
            "contract": self.contract.name,
            "version": self.contract.version,
            "sha256": self.contract.sha256,
            "plan": self.plan.name,
            "lines": [line_members(line) for line in self.lines],
            "total_usd": cents_to_usd(self.total_cents),
            "exact_total_usd": format_decimal(self.exact_total_usd),
            "not_charged": {name: format_decimal(quantity) for name, quantity in self.not_charged.items()},
        }


def quote(
    contract: Contract,
    plan: str,
    quantities: Mapping[str, str],
    costs: Mapping[str, str] | None = None,
    running: Mapping[str, str] | None = None,
) -> Quote:
    """Price the quantities as a period's totals or, with `running`, as later changes of those totals.

    Args:
        contract: the contract.
        plan: the plan's name.
        quantities: decimal strings by meter; fractions and negative numbers are welcome.
        costs: what a meter's quantity cost us, in USD, for prices that are a share of it.
        running: totals that were charged already. When any is given, each quantity is a change of its
            meter's total (zero where none is given), and there is no base fee and no true-up.

    Raises:
        Problems: every unknown plan, unknown meter and unreadable number at once (`unknown_plan`,
            `unknown_meter`, `invalid_decimal`, `quantity_too_large`, `quantity_missing`).
        BadInput: `cost_unknown`.
    """
    reading = _Reading(contract, [])
    found = reading.plan(plan)
    exact = reading.numbers("quantity", quantities)
    exact_costs = reading.numbers("cost", costs or {})
    totals = reading.numbers("running", running or {})
    for meter in totals.keys() - quantities.keys():
        step = f"give the change too, such as --quantity {meter}=1"
        reading.note("quantity_missing", f"{meter} has a running total and no quantity", step, "running")
    if reading.problems or found is None:
        step = "mend each of them and ask again"
        raise Problems("invalid_quote", reading.problems, next_step=step)
    lines = price_change(found, exact, totals, exact_costs) if running else price_period(found, exact, exact_costs)
    return Quote(contract, found, lines, not_charged(found, exact))


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads what was asked for, and collects every problem."""

    contract: Contract
    problems: list[BadInput]

    def note(self, code: str, detail: str, next_step: str, where: str) -> None:
        self.problems.append(BadInput(code, detail, next_step=next_step, where=where))

    def plan(self, name: str) -> Plan | None:
        try:
            return find_plan(self.contract, name)
        except BadInput as error:
            self.note(error.code, f"{error.detail}; {error.next_step}", error.next_step, "plan")
            return None

    def numbers(self, what: str, texts: Mapping[str, str]) -> dict[str, Fraction]:
        values: dict[str, Fraction] = {}
        for meter, text in texts.items():
            where = f"{what} {meter}"
            if not (self.contract.knows_meter(meter) or (what == "cost" and meter == COST_ADJUSTMENT)):
                self._unknown_meter(meter, where)
                continue
            try:
                values[meter] = _number(text, where)
            except BadInput as error:
                self.problems.append(error)
        return values

    def _unknown_meter(self, meter: str, where: str) -> None:
        priced = sorted({name for plan in self.contract.plans.values() for name in plan.prices})
        close = get_close_matches(meter, [*priced, *self.contract.meters], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; priced here are {', '.join(priced) or 'none'}"
        step = "name a built-in meter, or one that the contract declares"
        self.note("unknown_meter", f"{meter[:80]!r} is not a meter{hint}", step, where)


def _number(text: str, where: str) -> Fraction:
    if len(text) > 100:
        raise _too_large(where)
    value = parse_decimal(text, where=where)
    if abs(value) > LARGEST or (value * 10**PLACES_MAX).denominator != 1:
        raise _too_large(where)
    return value


def _too_large(where: str) -> BadInput:
    return BadInput(
        "quantity_too_large",
        f"the number is beyond {LARGEST:,}, or has more than {PLACES_MAX} decimals",
        next_step="give a number that a month can hold",
        where=where,
    )
