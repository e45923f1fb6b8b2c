"""Checking an evidence bundle with nothing but the bundle: no database, no network, no trust in its maker. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from tallystick.core.errors import BadInput, TallyError
from tallystick.core.instants import format_instant
from tallystick.core.json_text import read_json
from tallystick.core.money import divide_half_even, pico_to_usd
from tallystick.dispute import bundle
from tallystick.dispute.check_files import (
    check_contracts,
    check_dispute,
    check_names,
    check_signed,
    check_sums,
    check_words,
)
from tallystick.dispute.evidence import FORMAT, cost_line_members
from tallystick.dispute.proved import check_entries, read_entries_proof
from tallystick.invoice.explain import explain_line
from tallystick.invoice.facts import StoredFact, stored_lines
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.proof import check_proof, read_proof
from tallystick.ledger.dispute_operations import DISPUTE, StepDispute
from tallystick.ledger.entry import Entry
from tallystick.ledger.notes import PublicKey
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.preimage import read_preimage
from tallystick.ledger.proof import Evidence

PROBLEMS_MAX = 20
_STATED = "provider_cost_adjustment"
"""The meter of the line that brings a cost to what the provider itself stated: it has no rate."""


@dataclass(slots=True)
class BundleReport:
    """What a check of a bundle found. It is `valid` when there is no problem.

    Attributes:
        evidence_sha256: of the evidence in it.
        proved: whether the invoice or the requests are shown to be in a signed log.
        steps_proved: whether the ledger is shown to bear the evidence's hash.
        trusted_by: why the log's signature is believed: `key`, `checkpoint`, or None: only the key in the bundle.
        key: the public key that signed it; None where nothing is proved.
        problems: a sentence each, the first of them.
    """

    dispute_id: str = ""
    org_id: str = ""
    evidence_sha256: str = ""
    requests: int = 0
    differences: int = 0
    proposed_usd: str = "0.00"
    proved: bool = False
    steps_proved: bool = False
    trusted_by: str | None = None
    key: str | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Note a problem, unless there are enough."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {"valid": self.valid, **asdict(self)}


def check_bundle(
    files: Mapping[str, bytes], *, keys: Sequence[PublicKey] = (), kept: str | None = None
) -> BundleReport:
    """Check everything that a bundle says.

    Args:
        files: its files by name.
        keys: public keys that are trusted; none: the one in the bundle is used, and the report says so.
        kept: the note of a checkpoint that was kept elsewhere.

    Raises:
        BadInput: `invalid_bundle`: there is no evidence in it.
    """
    document = _document(files)
    dispute = document["dispute"]
    report = BundleReport(
        dispute_id=str(dispute["dispute_id"]),
        org_id=str(dispute["org_id"]),
        evidence_sha256=hashlib.sha256(files[bundle.EVIDENCE]).hexdigest(),
        requests=len(document["requests"]),
        differences=document["difference_count"],
        proposed_usd=document["proposed_usd"],
    )
    entries: dict[int, Entry] = {}
    evidences: list[Evidence] = []
    steps: list[Callable[[], object]] = [
        lambda: check_names(files, document),
        lambda: check_sums(files),
        lambda: check_dispute(files, document, report.evidence_sha256),
        lambda: check_words(files, document),
        lambda: check_contracts(files, document),
        lambda: _check_invoice(files, document, report, entries, evidences, keys, kept),
        lambda: _check_entries(files, document, report, entries, evidences, keys, kept),
        lambda: _check_requests(files, document, entries, report),
        lambda: _check_steps(files, report, evidences, keys, kept),
        lambda: check_signed(files, evidences),
    ]
    for step in steps:
        try:
            step()
        except TallyError as error:
            report.add(error.detail)
        except (ValueError, ArithmeticError, TypeError, KeyError, LookupError) as error:
            report.add(str(error) or type(error).__name__)
    if (keys or kept is not None) and not report.proved:
        report.add(
            "nothing in the bundle is sealed in a signed log yet, so that neither a key nor a checkpoint vouches"
        )
    return report


def _document(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        document = read_json(files[bundle.EVIDENCE])
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']!r}, and {FORMAT} is due")
        for name in ("dispute_id", "org_id"):
            document["dispute"][name]
        for name in ("requests", "lines", "months", "settlements", "difference_count", "proposed_usd", "versions"):
            document[name]
    except (KeyError, TypeError, ValueError, BadInput) as error:
        raise BadInput(
            "invalid_bundle",
            f"this is no evidence bundle of a dispute: {error}",
            next_step="use the file as it was written, or have it made again: tally dispute bundle ID",
        ) from None
    found: dict[str, Any] = document
    return found


def _check_invoice(
    files: Mapping[str, bytes],
    document: Mapping[str, Any],
    report: BundleReport,
    entries: dict[int, Entry],
    evidences: list[Evidence],
    keys: Sequence[PublicKey],
    kept: str | None,
) -> None:
    stated = document["invoice"]
    if stated is None:
        return
    document_of_invoice = json.loads(files[bundle.INVOICE])
    if document_of_invoice["digest"] != stated["digest"] or document_of_invoice["invoice_id"] != stated["invoice_id"]:
        raise ValueError("invoice.json is not the invoice that the evidence names")
    if bundle.PROOF not in files:
        return
    proof = read_proof(files[bundle.PROOF])
    evidences += [] if proof.evidence is None else [proof.evidence]
    found = check_proof(proof, keys=keys, kept=kept)
    for problem in found.problems:
        report.add(problem)
    invoice = parse_invoice(bytes(proof.invoice))
    for name in ("invoice_id", "digest"):
        if getattr(invoice, name) != stated[name]:
            raise ValueError(f"the proof and the evidence are of different invoices: {name} differs")
    proved = json.loads(bytes(proof.invoice))
    proved.pop("internal", None)
    if proved != document_of_invoice:
        raise ValueError("invoice.json is not the invoice that the proof is of")
    if invoice.org_id != report.org_id or invoice.totals.total_usd != stated["total_usd"]:
        raise ValueError("the proof is of another org's invoice, or of another total")
    _check_lines(invoice, document)
    for raw in proof.entries:
        entry = read_preimage(raw)
        entries[entry.seq] = entry
    report.proved = found.valid and proof.evidence is not None
    report.key, report.trusted_by = found.key, found.trusted_by


def _check_lines(invoice: Invoice, document: Mapping[str, Any]) -> None:
    for one in document["lines"]:
        line = invoice.line(one["number"])
        explained = list(explain_line(invoice, line).sentences)
        if (one["amount_usd"], one["exact_usd"], one["explanation"]) != (line.amount_usd, line.exact_usd, explained):
            raise ValueError(f"what the evidence says of line {line.number} does not follow from the invoice")


def _check_entries(
    files: Mapping[str, bytes],
    document: Mapping[str, Any],
    report: BundleReport,
    entries: dict[int, Entry],
    evidences: list[Evidence],
    keys: Sequence[PublicKey],
    kept: str | None,
) -> None:
    if bundle.ENTRIES not in files or document["invoice"] is not None:
        return
    proof = read_entries_proof(files[bundle.ENTRIES])
    evidences.append(proof.evidence)
    found = check_entries(proof, report.org_id, keys, kept)
    entries |= found.entries
    report.proved, report.key, report.trusted_by = True, found.key, found.trusted_by


def _check_requests(
    files: Mapping[str, bytes], document: Mapping[str, Any], entries: Mapping[int, Entry], report: BundleReport
) -> None:
    """Each request is one of the proved entries, and its cost follows from its quantities and the rates."""
    rates = json.loads(files[bundle.RATES])
    for one in document["requests"]:
        _check_cost(one)
        _check_rates(one, rates)
        if not report.proved:
            continue
        entry = entries.get(one["seq"])
        if entry is None:
            raise ValueError(f"request {one['request_id']} is not among the proved entries")
        correction = entries.get(one["correction_seq"] or 0)
        if one["correction_seq"] is not None and (correction is None or correction.refers_to_seq != entry.seq):
            raise ValueError(f"the correction of request {one['request_id']} is not among the proved entries")
        if _proved(entry, correction) != {name: one[name] for name in _proved(entry, correction)}:
            raise ValueError(f"what the evidence says of request {one['request_id']} is not what its entry says")


def _proved(entry: Entry, correction: Entry | None) -> dict[str, Any]:
    fact = StoredFact(entry, correction)
    priced = fact.priced
    return {
        "request_id": entry.request_id,
        "leaf": entry.leaf.hex(),
        "time": format_instant(entry.time),
        "feature": entry.feature,
        "environment": entry.environment,
        "provider": entry.provider,
        "model": entry.model,
        "action": entry.action,
        "outcome": entry.outcome,
        "payer": entry.payer or "seller",
        "meters": fact.meters,
        "rate_version": priced.rate_version,
        "cost_status": priced.status,
        "cost_usd": None if priced.cost_pico is None else pico_to_usd(priced.cost_pico),
        "cost_lines": [cost_line_members(line) for line in stored_lines(priced)],
    }


def _check_cost(request: Mapping[str, Any]) -> None:
    total = 0
    for line in request["cost_lines"]:
        if line["amount_usd"] is None:
            return
        amount = _pico(line["amount_usd"])
        total += amount
        if line["meter"] == _STATED:
            continue
        if divide_half_even(line["quantity"] * _pico(line["price_usd"]), line["per"]) != amount:
            raise ValueError(f"the {line['meter']} of request {request['request_id']} do not come to their amount")
    if request["cost_usd"] is not None and _pico(request["cost_usd"]) != total:
        raise ValueError(f"the lines of request {request['request_id']} do not come to its cost")


def _pico(usd: str) -> int:
    pico = Fraction(usd) * 10**12
    if pico.denominator != 1:
        raise ValueError(f"{usd} USD is finer than amounts are")
    return int(pico)


def _check_rates(request: Mapping[str, Any], rates: Sequence[Mapping[str, Any]]) -> None:
    for line in request["cost_lines"]:
        if line["price_usd"] in (None, "0") or line["meter"] == _STATED:
            continue
        unit = Fraction(line["price_usd"]) / line["per"]
        rows = [row for one in rates if one["rate_version"] == request["rate_version"] for row in one["rows"]]
        prices = [
            Fraction(price) / row["per"]
            for row in rows
            if row["meter"] == line["meter"]
            for price in (row["price_usd"], *(tier["price_usd"] for tier in row["tiers"]))
        ]
        if unit not in prices:
            raise ValueError(f"the price of {line['meter']} of request {request['request_id']} is none of the rates")


def _check_steps(
    files: Mapping[str, bytes],
    report: BundleReport,
    evidences: list[Evidence],
    keys: Sequence[PublicKey],
    kept: str | None,
) -> None:
    """The ledger bears the hash of the evidence."""
    if bundle.STEPS not in files:
        return
    proof = read_entries_proof(files[bundle.STEPS])
    evidences.append(proof.evidence)
    found = check_entries(proof, report.org_id, keys, kept)
    for entry in found.entries.values():
        if entry.kind != DISPUTE:
            continue
        request: StepDispute = read_body(DISPUTE, entry.body or "")[0]
        named = f"q{request.dispute_seq if request.dispute_seq is not None else entry.seq}"
        if request.evidence is not None and named == report.dispute_id:
            if request.evidence.sha256 != report.evidence_sha256:
                raise ValueError("the evidence is not the one whose hash the ledger bears")
            report.steps_proved = True
            report.key, report.trusted_by = found.key, found.trusted_by
            return
    raise ValueError("no entry of the ledger attaches this evidence")
