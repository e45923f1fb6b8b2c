"""Replay: compute a closed invoice again, from raw facts and versions only, and compare to the last bit.

Nothing that was computed before is believed. Every fact is read as it was stored, its leaf, its fingerprint and its
cost are computed again under its own rate version, quantities are summed here and not by the database, the root of
the org's Merkle tree is computed again, the contract's text is hashed and read again, the terms are chosen again, and
the invoice is built again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from tallystick.app.invoices import find_invoice, scope_of
from tallystick.app.period_source import open_period
from tallystick.app.replay_recount import RecheckedMonth, Recount, missing
from tallystick.app.replay_report import DIFFERENCES_MAX, ReplayReport
from tallystick.app.replay_terms import late_again, terms_again
from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.core.instants import format_instant
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.compare import Difference, document_differences
from tallystick.invoice.digest import internal_sha256, invoice_digest
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.usage import PeriodFacts
from tallystick.journal.database import Connection
from tallystick.journal.invoices import StoredInvoice
from tallystick.journal.period_facts import ledger_pin
from tallystick.journal.period_scope import begin_reading
from tallystick.journal.rate_versions import list_rate_versions, read_cards

__all__ = ["DIFFERENCES_MAX", "ReplayReport", "replay_invoice"]


def replay_invoice(
    runtime: Runtime, reference: str, *, progress: Callable[[int], object] | None = None
) -> ReplayReport:
    """Recompute the closed invoice and report `identical`, or every difference.

    Args:
        runtime: the running system.
        reference: an invoice id, or ORG/MONTH.
        progress: called with the number of requests rechecked since the last call.

    Raises:
        NotFound: `unknown_invoice`.
        BadInput: `invalid_invoice_document`, when what is stored is no invoice at all.
        Unavailable: `database_unreachable`.
    """
    stored = find_invoice(runtime, reference)
    invoice = parse_invoice(stored.document)
    row = stored.row
    report = ReplayReport(row.invoice_id, row.org_id, row.period, row.digest)
    report.add(*_record_differences(stored, invoice))
    with runtime.database.org(row.org_id) as connection:
        begin_reading(connection)
        report.add(*_card_differences(connection, invoice))
        scope = scope_of(row)
        source = open_period(runtime, connection, scope, invoice.ledger.first_seq)
        terms = terms_again(connection, invoice, report)
        recount = Recount(runtime, connection, report, progress)
        month = RecheckedMonth(scope.start, scope.end, terms, row.through_seq)
        recount.run(source, scope, [month])
        first_seq, tree = source.place()
        report.add(*missing(source))
        late = late_again(runtime, connection, stored.row, invoice, recount, report)
    if terms is None or late is None:
        return report
    pin = ledger_pin(
        first_seq, row.through_seq, month.events, month.hexdigest(), tree, invoice.ledger.billed_through_seq
    )
    try:
        again = build_invoice(terms, PeriodFacts(month.sums, pin, month.wallet), late)
    except TallyError as error:
        report.add(Difference("the invoice", "lines", "priced", f"nothing: {error.detail}"))
        return report
    report.recomputed, report.recomputed_digest = again, again.digest
    report.add(*document_differences(invoice.document(), again.document()))
    return report


def _record_differences(stored: StoredInvoice, invoice: Invoice) -> list[Difference]:
    """Whether the stored row is in keeping with itself: its form, its hashes, and its columns."""
    document = invoice.document()
    row = stored.row
    canonical = canonical_json(json.loads(stored.document)).decode()
    sides: list[tuple[str, object, object]] = [
        ("form of the document", "canonical", "canonical" if canonical == stored.document else "not canonical"),
        ("digest of the document", invoice.digest, invoice_digest(document)),
        ("internal_sha256 of the document", invoice.internal_sha256, internal_sha256(document["internal"])),
        ("column invoice_id", row.invoice_id, invoice.invoice_id),
        ("column org_id", row.org_id, invoice.org_id),
        ("column period", row.period, invoice.period.label),
        ("column period_start", format_instant(row.period_start), invoice.period.start),
        ("column period_end", format_instant(row.period_end), invoice.period.end),
        ("column contract", row.contract, invoice.contract.name),
        ("column contract_version", row.contract_version, invoice.contract.version),
        ("column contract_sha256", row.contract_sha256, invoice.contract.sha256),
        ("column plan", row.plan, invoice.contract.plan),
        ("column through_seq", row.through_seq, invoice.ledger.through_seq),
        ("ledger.tree_size of the document", invoice.ledger.tree_size, invoice.ledger.through_seq),
        ("column digest", row.digest, invoice.digest),
        ("column total_cents", row.total_cents, invoice.total_cents),
    ]  # fmt: skip
    return [
        Difference("the stored invoice", field, str(here), str(there)) for field, here, there in sides if here != there
    ]


def _card_differences(connection: Connection, invoice: Invoice) -> list[Difference]:
    """Whether the rate cards that the invoice names are in the database, byte for byte as they were loaded."""
    cards = dict(zip(list_rate_versions(connection), read_cards(connection), strict=True))
    differences = [
        Difference(f"rate card {version.version}", "sha256", version.sha256, hashlib.sha256(card).hexdigest())
        for version, card in cards.items()
        if hashlib.sha256(card).hexdigest() != version.sha256
    ]
    known = {version.version for version in cards}
    differences += [
        Difference(f"rate card {use.rate_version}", "the card", None, None)
        for use in dict.fromkeys([*invoice.rates, *(use for one in invoice.adjustments for use in one.rates)])
        if use.rate_version not in known
    ]
    return differences
