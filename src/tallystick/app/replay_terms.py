"""The terms of closed months chosen again, and what came late for them counted again, to compare with an invoice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tallystick.app.billing_terms import Versions, choose_terms, load_stored_contract, org_period
from tallystick.app.late_months import billed_through, late_months_of
from tallystick.app.period_source import open_period
from tallystick.app.pinned import stored_version
from tallystick.app.replay_recount import RecheckedMonth, Recount, missing
from tallystick.app.replay_report import ReplayReport
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound, TallyError
from tallystick.invoice.compare import Difference
from tallystick.invoice.late_months import LateMonth
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.terms import Terms, make_left_terms
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.database import Connection
from tallystick.journal.invoices import InvoiceRow, invoice_by_month, list_invoice_rows
from tallystick.journal.period_scope import Scope, read_head
from tallystick.journal.subscriptions import Subscription, list_subscriptions


def terms_again(connection: Connection, invoice: Invoice, report: ReplayReport) -> Terms | None:
    """The terms of the invoice's month, chosen again from the subscriptions and contract versions known then.

    None when they cannot be; the report says why.
    """
    known = invoice.contract.subscriptions_known
    subscriptions = [one for one in list_subscriptions(connection, invoice.org_id) if one.ordinal <= known]
    pinned: dict[str, datetime] = {}  # of each contract, since when the newest version that the invoice names has held
    hashes: dict[str, str] = {}
    for section in invoice.sections:
        applied = {one.version: one for one in list_contract_versions(connection, section.contract)}
        version = applied.get(section.version)
        if version is None:
            named = f"version {section.version} of contract {section.contract}"
            report.add(Difference(named, "the contract", None, "in the database"))
            return None
        hashes[f"{section.contract} {section.version}"] = version.sha256
        pinned[section.contract] = max(version.effective_from, pinned.get(section.contract, version.effective_from))

    def versions(contract: str) -> list[ContractVersion]:
        # A version that was applied later holds from later: an earlier one is refused.
        found = list_contract_versions(connection, contract) if contract in pinned else []
        return [version for version in found if version.effective_from <= pinned[contract]]

    try:
        terms = _chosen(connection, invoice, subscriptions, versions)
    except TallyError as error:
        report.add(Difference("the invoice", "contract and plan", invoice.contract.plan, f"nothing: {error.detail}"))
        return None
    for one in terms.sections:
        sha256 = hashes.get(f"{one.contract.name} {one.contract.version}")
        if sha256 is not None and sha256 != one.contract.sha256:
            report.add(Difference("the stored contract", "sha256", sha256, one.contract.sha256))
    return terms


def _chosen(
    connection: Connection, invoice: Invoice, subscriptions: Sequence[Subscription], versions: Versions
) -> Terms:
    label = invoice.period.label
    try:
        return choose_terms(invoice.org_id, label, subscriptions, versions)
    except NotFound:
        if not subscriptions or len(invoice.sections) != 1 or invoice.sections[0].in_force:
            raise
    # It was on no plan any more, which the subscriptions say too; its last plan is named, and prices nothing.
    (last,) = invoice.sections
    period, zone = org_period(subscriptions, label)
    contract = load_stored_contract(stored_version(connection, last.contract, last.version))
    ordinal = invoice.contract.subscription
    return make_left_terms(invoice.org_id, period, zone, contract, last.plan, ordinal, len(subscriptions))


def late_again(
    runtime: Runtime, connection: Connection, row: InvoiceRow, invoice: Invoice, recount: Recount, report: ReplayReport
) -> list[LateMonth] | None:
    """The closed months that the invoice has to adjust, each entry of them computed again.

    None when the terms of one cannot be chosen again; the report says why. Which months those are follows from the
    ledger and from the invoices that were there, not from what the invoice says.
    """
    org_id, after_seq = row.org_id, invoice.ledger.billed_through_seq
    others = [one for one in list_invoice_rows(connection, org_id) if one.period != row.period]
    closed = [one for one in others if one.through_seq <= after_seq]
    if billed_through(closed) != after_seq:
        due = str(billed_through(closed))
        report.add(Difference("the invoice", "ledger.billed_through_seq", str(after_seq), due))
    head, found = read_head(connection, org_id), []
    for label in sorted(late_months_of(runtime, connection, head, closed, after_seq, row.through_seq)):
        stored = invoice_by_month(connection, org_id, label)
        if stored is None:
            raise LookupError(f"the invoice of {label}, which was there a moment ago")
        own = parse_invoice(stored.document)
        terms = terms_again(connection, own, report)
        if terms is None:
            return None
        period = terms.period
        scope = Scope(org_id, period.start, period.end, row.through_seq)
        source = open_period(runtime, connection, scope, own.ledger.first_seq or own.ledger.through_seq + 1)
        now = RecheckedMonth(period.start, period.end, terms, row.through_seq, after_seq=after_seq)
        billed = RecheckedMonth(period.start, period.end, terms, after_seq)
        recount.run(source, scope, [now, billed])
        report.add(*missing(source))
        first_seq, _ = source.place()
        pin = now.pin(first_seq)
        if pin is not None:
            found.append(LateMonth(own.invoice_id, terms, billed.count(), now.count(), pin))
    return found
