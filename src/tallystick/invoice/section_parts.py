"""A month and its plans, as an invoice states them."""

from __future__ import annotations

from tallystick.core.instants import format_instant
from tallystick.invoice.parts import InForce, InvoicePeriod, InvoiceSection
from tallystick.invoice.terms import Section, Terms


def invoice_period(terms: Terms) -> InvoicePeriod:
    """The month."""
    period = terms.period
    return InvoicePeriod(
        label=period.label,
        start=format_instant(period.start),
        end=format_instant(period.end),
        time_zone=terms.time_zone,
    )


def invoice_sections(terms: Terms) -> tuple[InvoiceSection, ...]:
    """The plans of the month."""
    return tuple(map(_section, range(1, len(terms.sections) + 1), terms.sections))


def _section(number: int, section: Section) -> InvoiceSection:
    return InvoiceSection(
        number=number,
        contract=section.contract.name,
        version=section.contract.version,
        sha256=section.contract.sha256,
        plan=section.plan.name,
        kind=section.plan.kind,
        days=section.days.held,
        days_of_month=section.days.month,
        in_force=tuple(
            InForce(start=format_instant(one.start), end=format_instant(one.end), subscription=one.subscription)
            for one in section.holdings
        ),
    )
