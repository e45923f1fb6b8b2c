"""The months of a proof: the invoice's own and those that it adjusts, under the terms that it states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.periods import Period, month_period
from tallystick.invoice.entry_count import EntryCount
from tallystick.invoice.late_months import LateMonth
from tallystick.invoice.model import Adjustment, Invoice, InvoicePeriod, InvoiceSection
from tallystick.invoice.proof_report import ProofReport, named
from tallystick.invoice.terms import Holding, Terms, make_left_terms, make_terms


class ContractText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A contract version that priced the invoice, as the text that was applied."""

    source_name: str
    source_text: str


class ProofMonths:
    """The invoice's month and those that it adjusts, each with its terms and what its entries are counted by.

    What is wrong with the terms is a problem of the report; the month is counted without them then.
    """

    def __init__(self, invoice: Invoice, texts: Sequence[ContractText], report: ProofReport) -> None:
        pin = invoice.ledger
        periods = [_period(one) for one in (invoice.period, *(one.period for one in invoice.adjustments))]
        self.since = min(period.start for period in periods)
        self.terms: Terms | None = None
        self.late: list[tuple[Adjustment, Terms | None, EntryCount, EntryCount]] = []
        contracts: dict[str, Contract] = {}
        with named(report):
            _expect_periods(invoice, periods)
            contracts = _contracts(invoice, texts)
            self.terms = _terms(invoice, invoice, periods[0], contracts)
        self.count = EntryCount(periods[0], pin.through_seq, self.terms)
        for adjustment, period in zip(invoice.adjustments, periods[1:], strict=True):
            terms = None
            with named(report):
                terms = _terms(invoice, adjustment, period, contracts)
            billed = EntryCount(period, pin.billed_through_seq, terms)
            now = EntryCount(period, pin.through_seq, terms, after_seq=pin.billed_through_seq)
            self.late.append((adjustment, terms, billed, now))

    @property
    def counts(self) -> list[EntryCount]:
        """Everything that is to be counted."""
        return [self.count, *(count for _, _, billed, now in self.late for count in (billed, now))]

    def late_months(self) -> list[LateMonth] | None:
        """The months that are adjusted, once the entries were counted; None when the terms of one are not known."""
        found = []
        for adjustment, terms, billed, now in self.late:
            pin = now.pin()
            if pin is None:
                raise ValueError(f"nothing came late for {adjustment.period.label}, which the invoice adjusts")
            if terms is None:
                return None
            found.append(LateMonth(adjustment.invoice_id, terms, billed.count(), now.count(), pin))
        return found


def _period(stated: InvoicePeriod) -> Period:
    return Period(stated.label, parse_instant(stated.start), parse_instant(stated.end))


def _expect_periods(invoice: Invoice, periods: Sequence[Period]) -> None:
    """Each is a month on the org's clocks, and none is there twice."""
    zone = invoice.period.time_zone
    for period in periods:
        if period != month_period(period.label, zone):
            raise ValueError(f"the period is not {period.label} on the clocks of {zone}")
    if len({period.label for period in periods}) != len(periods):
        raise ValueError("the invoice charges for a month twice")
    if any(one.period.time_zone != zone for one in invoice.adjustments):
        raise ValueError(f"the invoice adjusts a month on other clocks than those of {zone}")
    if not 0 <= invoice.ledger.billed_through_seq <= invoice.ledger.through_seq:
        raise ValueError(
            f"the invoice covers all up to entry {invoice.ledger.through_seq}, and says that the one before it covered "
            f"all up to {invoice.ledger.billed_through_seq}"
        )


def _contracts(invoice: Invoice, texts: Sequence[ContractText]) -> dict[str, Contract]:
    """The contracts by the hash of their content, read from their texts: those that the invoice names."""
    contracts = {one.sha256: one for one in (load_contract(text.source_text, text.source_name) for text in texts)}
    if len(texts) != len({section.sha256 for section in invoice.named_sections()}):
        raise ValueError("the proof has other contracts' texts than the invoice names")
    return contracts


def _terms(invoice: Invoice, of: Invoice | Adjustment, period: Period, contracts: Mapping[str, Contract]) -> Terms:
    """The terms of a month as the invoice states them, with the days counted again."""
    zone = invoice.period.time_zone
    known = of.contract.subscriptions_known if isinstance(of, Invoice) else of.subscriptions_known
    holdings = sorted(_holdings(of.sections, contracts), key=lambda one: one.start)
    if not holdings and len(of.sections) == 1:  # it was on no plan any more: the last one prices nothing that it used
        last = of.sections[0]
        ordinal = of.contract.subscription if isinstance(of, Invoice) else 0
        return make_left_terms(invoice.org_id, period, zone, _contract(last, contracts), last.plan, ordinal, known)
    if not holdings:
        raise ValueError(f"the invoice names no plan of {period.label}")
    for one, end in zip(holdings, [*(later.start for later in holdings[1:]), period.end], strict=True):
        if not (period.start <= one.start < one.end <= end):
            raise ValueError(
                f"plan {one.plan} cannot have been in force from {one.start} until {one.end} in the period"
            )
        if one.contract.effective_from > one.start:
            raise ValueError(
                f"the contract's version {one.contract.version} was not in force at {format_instant(one.start)}"
            )
    return make_terms(invoice.org_id, period, zone, holdings, known)


def _holdings(sections: Sequence[InvoiceSection], contracts: Mapping[str, Contract]) -> Iterator[Holding]:
    for section in sections:
        contract = _contract(section, contracts)
        for held in section.in_force:
            start, end = parse_instant(held.start), parse_instant(held.end)
            yield Holding(start, end, contract, section.plan, held.subscription)


def _contract(section: InvoiceSection, contracts: Mapping[str, Contract]) -> Contract:
    contract = contracts.get(section.sha256)
    if contract is None:
        raise ValueError(f"no contract's text hashes to {section.sha256}, which section {section.number} names")
    return contract
