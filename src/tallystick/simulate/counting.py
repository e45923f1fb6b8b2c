"""Counting usage towards the windows of limits and budgets, in memory: as `journal.counters` does in the database."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import NamedTuple

from tallystick.contract.charging import cost_charge_pico, unit_charges, usage_charge_pico
from tallystick.contract.decision import BudgetMeasure, BudgetScope
from tallystick.contract.model import Contract, LimitWindow
from tallystick.contract.windows import window_at
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.reservations import meter_counter, spending_counter, windowed

BUDGET_WINDOWS: tuple[LimitWindow, ...] = ("day", "month")


class Spender(NamedTuple):
    """Whose work it is, and where it is done; what was erased is None."""

    user_id: str | None
    api_key_id: str | None
    feature: str | None
    environment: str


class Counting:
    """What one org uses, by the time of its events.

    Args:
        account: whose `used` is counted in.
        zone: the org's IANA time zone.
        spending: whether spending is counted, which only budgets look at.
    """

    def __init__(self, account: OrgAccount, contract: Contract, zone: str, *, spending: bool = True) -> None:
        self._spending = spending
        self._account = account
        self._contract = contract
        self._zone = zone

    def use(
        self,
        time: datetime,
        plan: str | None,
        meters: Mapping[str, int],
        our_cost_pico: int,
        spender: Spender,
        windows: Collection[LimitWindow],
    ) -> None:
        """One event: its meters in these windows, and what it costs us and the customer, as budgets see it."""
        billed = self._contract.charges(spender.environment)
        if billed:
            for per in windows:
                for meter, quantity in meters.items():
                    self.count(time, per, meter_counter(meter), quantity)
        if not self._spending:
            return
        self.spend(time, "cost", our_cost_pico, spender)
        terms = self._contract.plans.get(plan or "")
        if billed and terms is not None and terms.prices:
            self.spend(time, "charge", usage_charge_pico(terms, dict(meters), our_cost_pico), spender)

    def change(
        self,
        time: datetime,
        plan: str | None,
        quantities: Mapping[str, int],
        meters: Collection[str],
        our_cost_pico: int,
        spender: Spender,
        windows: Collection[LimitWindow],
    ) -> None:
        """A correction or an adjustment of usage that had these meters: by how much quantities and our cost change."""
        self.spend(time, "cost", our_cost_pico, spender)
        if not self._contract.charges(spender.environment):
            return
        for per in windows:
            for meter, quantity in quantities.items():
                self.count(time, per, meter_counter(meter), quantity)
        terms = self._contract.plans.get(plan or "")
        if self._spending and terms is not None and terms.prices:
            pico = cost_charge_pico(terms, {*meters, *quantities}, our_cost_pico)
            for meter, rate in unit_charges(terms).items():
                if isinstance(rate, int):
                    pico += quantities.get(meter, 0) * rate
            self.spend(time, "charge", pico, spender)

    def spend(self, time: datetime, of: BudgetMeasure, pico: int, spender: Spender) -> None:
        """So much pico-USD, by whoever spends it."""
        if not pico or not self._spending:
            return
        subjects: Mapping[BudgetScope, str | None] = {
            "org": "", "user": spender.user_id, "api_key": spender.api_key_id, "feature": spender.feature,
        }  # fmt: skip
        for scope, subject in subjects.items():
            if subject is not None:
                for per in BUDGET_WINDOWS:
                    self.count(time, per, spending_counter(of, scope, subject), pico)

    def count(self, time: datetime, per: LimitWindow, counter: str, amount: int) -> None:
        """So much more of a counter, in the window that the instant falls in."""
        if amount:
            key = (windowed(per, counter), window_at(per, self._zone, time).starts_at)
            self._account.used[key] = self._account.used.get(key, 0) + amount
