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
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from tallystick.app.billing_terms import choose_terms
from tallystick.app.invoices import find_invoice, scope_of
from tallystick.app.period_source import PeriodSource, open_period
from tallystick.app.runtime import Runtime
from tallystick.core.errors import NotFound, TallyError
from tallystick.core.instants import format_instant
from tallystick.invoice.adjusted import add_operation
from tallystick.invoice.build import build_invoice
from tallystick.invoice.canonical import canonical_json
from tallystick.invoice.compare import Difference, document_differences
from tallystick.invoice.digest import EntriesHash, internal_sha256, invoice_digest
from tallystick.invoice.facts import Corrections, Rechecked, StoredFact, name_of, recheck, recheck_leaf
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.terms import Terms
from tallystick.invoice.usage import PeriodFacts, PeriodSums, empty_sums
from tallystick.invoice.wallet import WalletMonth
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.database import Connection
from tallystick.journal.invoices import StoredInvoice
from tallystick.journal.period_entries import unrecorded_erasures
from tallystick.journal.period_facts import ledger_pin
from tallystick.journal.period_scope import Scope, begin_reading
from tallystick.journal.rate_versions import list_rate_versions, read_cards
from tallystick.journal.subscriptions import list_subscriptions
from tallystick.ledger.entry import Entry
from tallystick.rates.card import RateCard

DIFFERENCES_MAX = 1000
"""How many differences a report spells out; all are counted."""
_PROGRESS_EVENTS = 1000
_ERASED_AT_ONCE = 10_000


@dataclass(slots=True)
class ReplayReport:
    """What a replay found. `identical` only when everything agreed: every request, every line, the digest."""

    invoice_id: str
    org_id: str
    period: str
    digest: str
    recomputed_digest: str | None = None
    events: int = 0
    erased: int = 0
    """Requests whose personal data was erased: all of them but the opening of their fingerprint was checked."""
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.difference_count == 0 and self.digest == self.recomputed_digest

    def add(self, *differences: Difference) -> None:
        """Count differences, and keep as many as a report spells out."""
        self.difference_count += len(differences)
        self.differences += differences[: DIFFERENCES_MAX - len(self.differences)]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "invoice_id": self.invoice_id,
            "org_id": self.org_id,
            "period": self.period,
            "identical": self.identical,
            "digest": self.digest,
            "recomputed_digest": self.recomputed_digest,
            "events": self.events,
            "erased": self.erased,
            "difference_count": self.difference_count,
            "differences": [one.as_dict() for one in self.differences],
        }


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
        terms = _terms_again(connection, invoice, report)
        facts = _recount(runtime, connection, source, scope, terms, report, progress)
        report.add(*_missing(source))
    if terms is None:
        return report
    try:
        again = build_invoice(terms, facts)
    except TallyError as error:
        report.add(Difference("the invoice", "lines", "priced", f"nothing: {error.detail}"))
        return report
    report.recomputed_digest = again.digest
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
        for use in invoice.rates
        if use.rate_version not in known
    ]
    return differences


def _recount(
    runtime: Runtime,
    connection: Connection,
    source: PeriodSource,
    scope: Scope,
    terms: Terms | None,
    report: ReplayReport,
    progress: Callable[[int], object] | None,
) -> PeriodFacts:
    """Every entry once more, one at a time."""
    sums, entries_hash = empty_sums(len(terms.sections) if terms else 0), EntriesHash()
    section_of = terms.section_of if terms else lambda _: 0
    wallet = WalletMonth()
    card_of = _cards(runtime)
    corrections = Corrections(source.corrections())
    erased: list[int] = []
    for entry in source.entries():
        inside = scope.start <= entry.time < scope.end
        if inside and entry.kind == "usage":
            again = recheck(StoredFact(entry, corrections.of(entry.seq)), card_of)
            leaf = again.leaf
            report.add(*again.differences)
            _add(sums[section_of(entry.time)], again)
            report.events += 1
            if progress is not None and report.events % _PROGRESS_EVENTS == 0:
                progress(_PROGRESS_EVENTS)
            if entry.salt is None:
                report.erased += 1
                erased.append(entry.seq)
                if len(erased) == _ERASED_AT_ONCE:
                    report.add(*_unrecorded(connection, scope, erased))
                    erased.clear()
        else:  # a correction, priced again with its request; or an entry that lies between those of the period
            leaf, differs = recheck_leaf(entry)
            if differs is not None:
                report.add(differs)
            if inside and entry.kind != "correction":
                section = section_of(entry.time)
                report.add(*_add_operation(sums[section], wallet, entry, section))
        if inside:
            entries_hash.add(entry.seq, leaf)
    report.add(*_unrecorded(connection, scope, erased))
    for astray in corrections.finish():
        report.add(Difference(name_of(astray), "refers_to_seq", str(astray.refers_to_seq), "a request of the period"))
    first_seq, tree = source.place()
    pin = ledger_pin(first_seq, scope.through_seq, report.events, entries_hash.hexdigest(), tree)
    return PeriodFacts(sums, pin, wallet)


def _unrecorded(connection: Connection, scope: Scope, erased: list[int]) -> list[Difference]:
    """What to say of personal data that went in another way than by erasing a person."""
    return [
        Difference(f"entry {seq}", "personal data", None, "there, or recorded as erased")
        for seq in (unrecorded_erasures(connection, scope.org_id, erased) if erased else ())
    ]


def _add(sums: PeriodSums, again: Rechecked) -> None:
    if again.cost is None:
        sums.add_uncosted(again.event)
    else:
        sums.add_request(again.event, again.cost)


def _add_operation(sums: PeriodSums, wallet: WalletMonth, entry: Entry, section: int) -> list[Difference]:
    """Add an operation of the period; what to say when it cannot be read."""
    try:
        add_operation(sums, wallet, entry.kind, entry.body, section)
    except ValueError as error:
        return [Difference(name_of(entry), "body", str(error), f"that of a {entry.kind}")]
    return []


def _cards(runtime: Runtime) -> Callable[[str], RateCard]:
    """Gives the card of each version once; one that another process has loaded since is read from the database."""

    @cache
    def card_of(version: str) -> RateCard:
        try:
            return runtime.cards.at(version)
        except NotFound:
            runtime.reload_cards()
            return runtime.cards.at(version)

    return card_of


def _missing(source: PeriodSource) -> list[Difference]:
    """What the ledger should hold and does not."""
    return [
        Difference(f"entry {first}" if first == last else f"entries {first} to {last}", "ledger", None, "in the ledger")
        for first, last in source.gaps()
    ]


def _terms_again(connection: Connection, invoice: Invoice, report: ReplayReport) -> Terms | None:
    """The terms chosen again from the subscriptions and contract versions that were known then."""
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
        terms = choose_terms(invoice.org_id, invoice.period.label, subscriptions, versions)
    except TallyError as error:
        report.add(Difference("the invoice", "contract and plan", invoice.contract.plan, f"nothing: {error.detail}"))
        return None
    for one in terms.sections:
        sha256 = hashes.get(f"{one.contract.name} {one.contract.version}")
        if sha256 is not None and sha256 != one.contract.sha256:
            report.add(Difference("the stored contract", "sha256", sha256, one.contract.sha256))
    return terms
