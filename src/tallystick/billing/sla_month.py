"""What each plan of an invoice's month promises, in which times, and what it charges: from the invoice and its terms.

The base of a plan's credit is what the invoice charges for it in its own month, to the cent: of `charges` all of its
lines (base fee, usage, true-up, credits that were topped up or are owed), of `base_fee` that line alone; never less
than nothing. Lines that adjust earlier months belong to those.
"""

from __future__ import annotations

from tallystick.billing.sla import Promise
from tallystick.contract.model import Contract
from tallystick.contract.sla import SlaBase
from tallystick.core.money import parse_decimal
from tallystick.invoice.model import Invoice
from tallystick.invoice.terms import Terms


def promises_of(invoice: Invoice, terms: Terms) -> list[Promise]:
    """The plans of the month that promise something, in the invoice's order.

    Args:
        terms: those that the invoice pins.
    """
    numbers = {(one.contract, one.sha256, one.plan): one.number for one in invoice.sections}
    found = []
    for section in terms.sections:
        contract, sla = section.contract, section.plan.sla
        number = numbers[contract.name, contract.sha256, section.plan.name]
        times = tuple((held.start, held.end) for held in section.holdings)
        if sla is None or not times:
            continue
        found.append(
            Promise(
                section=number,
                contract=contract.name,
                contract_version=contract.version,
                contract_sha256=contract.sha256,
                plan=section.plan.name,
                sla=sla,
                times=times,
                base_cents=_base_cents(invoice, number, sla.base),
                uncharged=_uncharged(contract),
            )
        )
    return sorted(found, key=lambda one: one.section)


def _base_cents(invoice: Invoice, section: int, base: SlaBase) -> int:
    usd = [
        parse_decimal(line.amount_usd)
        for line in invoice.lines
        if line.adjusts is None and line.section == section and (base == "charges" or line.kind == "base_fee")
    ]
    return max(int(sum(usd) * 100), 0)


def _uncharged(contract: Contract) -> tuple[str, ...]:
    return tuple(sorted(name for name, terms in contract.environments.items() if not terms.charge))
