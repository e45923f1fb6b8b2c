"""What each plan of a month promises, in which times, and what it charges: from the invoice and its contracts.

The base of a plan's credit is what the invoice charges for it in its own month, to the cent: of `charges` all of its
lines (base fee, usage, true-up, credits that were topped up or are owed), of `base_fee` that line alone; never less
than nothing. Lines that adjust earlier months belong to those.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.billing.sla import Promise
from tallystick.contract.model import Contract
from tallystick.contract.sla import SlaBase
from tallystick.core.instants import parse_instant
from tallystick.core.money import parse_decimal
from tallystick.invoice.model import Invoice


def promises_of(invoice: Invoice, contract_of: Callable[[str, str], Contract]) -> list[Promise]:
    """The plans of the month that promise something, in the invoice's order.

    Args:
        contract_of: gives the contract version of a name and a hash.
    """
    found = []
    for section in invoice.sections:
        contract = contract_of(section.contract, section.sha256)
        plan = contract.plans.get(section.plan)
        if plan is None or plan.sla is None or not section.in_force:
            continue
        found.append(
            Promise(
                section=section.number,
                contract=contract.name,
                contract_version=section.version,
                contract_sha256=section.sha256,
                plan=plan.name,
                sla=plan.sla,
                times=tuple((parse_instant(held.start), parse_instant(held.end)) for held in section.in_force),
                base_cents=_base_cents(invoice, section.number, plan.sla.base),
                uncharged=_uncharged(contract),
            )
        )
    return found


def _base_cents(invoice: Invoice, section: int, base: SlaBase) -> int:
    usd = [
        parse_decimal(line.amount_usd)
        for line in invoice.lines
        if line.adjusts is None and line.section == section and (base == "charges" or line.kind == "base_fee")
    ]
    return max(int(sum(usd) * 100), 0)


def _uncharged(contract: Contract) -> tuple[str, ...]:
    return tuple(sorted(name for name, terms in contract.environments.items() if not terms.charge))
