"""Building an invoice: a period's facts, each priced by the plan that was in force when it happened. A pure function.

Requests of an environment that the contract does not charge, and failed requests elsewhere, are set aside
first; what is left is summed per plan and meter and priced by `contract.pricing.price_period`, the function that
quotes use. What came late for closed months follows as adjustments. Closing a month, previewing one and replaying one
all end here.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

from msgspec import structs

from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.invoice.charge_lines import Sorted, totals_of
from tallystick.invoice.cost_parts import customer_paid, internal_part
from tallystick.invoice.credit_lines import wallet_section
from tallystick.invoice.digest import internal_sha256, invoice_digest, invoice_id
from tallystick.invoice.late_months import LateMonth, adjust_months
from tallystick.invoice.model import Invoice, InvoiceContract, RateUse, Totals
from tallystick.invoice.section_parts import invoice_period, invoice_sections
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import PeriodFacts

CENTS_MAX = 2**63 - 1
"""The largest total that the database holds (a PostgreSQL bigint): about 92 million billion USD."""


def build_invoice(terms: Terms, facts: PeriodFacts, late: Iterable[LateMonth] = ()) -> Invoice:
    """The invoice of those facts under those terms; the same input gives the same bytes.

    Args:
        terms: whose month, and its plans.
        facts: the month's facts.
        late: closed months that facts came late for.

    Raises:
        BadInput: `cost_unknown`, when a price is a share of our cost and the cost of a charged request is not known;
            `credits_without_price`, when credits are to be paid for and the contract does not say what one is worth;
            `total_out_of_range`, when the sum is beyond what the database holds.
    """
    last, held = terms.last
    found = Sorted(terms, facts.sums)
    lines = found.lines(facts.wallet)
    adjusted = adjust_months(late, len(lines) + 1)
    lines += adjusted.lines
    invoice = Invoice(
        invoice_id=invoice_id(terms.org_id, last.contract.name, terms.period.label),
        org_id=terms.org_id,
        currency=last.contract.currency,
        period=invoice_period(terms),
        contract=InvoiceContract(
            name=last.contract.name,
            version=last.contract.version,
            sha256=last.contract.sha256,
            plan=last.plan.name,
            subscription=held.subscription,
            subscriptions_known=terms.subscriptions_known,
            in_force_at=format_instant(held.start),
        ),
        sections=invoice_sections(terms),
        rates=tuple(RateUse(rate_version=name, events=count) for name, count in sorted(facts.total.rates.items())),
        ledger=facts.ledger,
        adjustments=adjusted.adjustments,
        lines=lines,
        not_charged=found.not_charged(),
        customer_paid=customer_paid(facts.total),
        wallet=wallet_section(facts.wallet),
        totals=_check_total(terms, totals_of(lines)),
        internal_sha256="",
        internal=internal_part(facts.total, adjusted.internal),
        digest="",
    )
    return _sealed(invoice)


def _check_total(terms: Terms, totals: Totals) -> Totals:
    if abs(Fraction(totals.total_usd)) * 100 > CENTS_MAX:
        raise BadInput(
            "total_out_of_range",
            f"{terms.period.label} of {terms.org_id} comes to {totals.total_usd} USD, more than an invoice can hold",
            next_step=f"check the prices of plan {terms.last[0].plan.name} and the quantities; one is probably wrong",
            where=terms.org_id,
        )
    return totals


def _sealed(invoice: Invoice) -> Invoice:
    """The invoice with its two hashes filled in."""
    sealed = structs.replace(invoice, internal_sha256=internal_sha256(invoice.document()["internal"]))
    return structs.replace(sealed, digest=invoice_digest(sealed.document()))
