"""Checking the proof of an invoice with nothing but the proof: no database, no network, no trust in its maker.

A proof is one JSON document: the invoice, the contracts' texts, the org's ledger entries from just before the period
to the last that the invoice covers, and the hashes from them to a signed checkpoint (`ledger.proof.Evidence`).
Checking it answers, in this order: are these entries all that the ledger had, unchanged and without a gap? Do they
and the contracts give this invoice, to the cent and to the digest? Did the ledger commit to them in a signed log?
Entries are without personal data; the salted fingerprint stands for it. docs/proofs.md has the form and its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import BadInput, TallyError
from tallystick.core.instants import format_instant, parse_instant
from tallystick.core.json_text import read_json
from tallystick.core.periods import Period, month_period
from tallystick.invoice.build import build_invoice
from tallystick.invoice.compare import document_differences
from tallystick.invoice.digest import invoice_digest
from tallystick.invoice.model import Invoice, LedgerPin, parse_invoice
from tallystick.invoice.proof_entries import EntriesFound, read_entries
from tallystick.invoice.terms import Holding, Terms, make_terms
from tallystick.invoice.usage import PeriodFacts
from tallystick.ledger.checkpoint import Checkpoint, read_checkpoint
from tallystick.ledger.merkle import EMPTY_ROOT
from tallystick.ledger.notes import PublicKey, parse_public_key
from tallystick.ledger.proof import Evidence, block_sealed, expect_extends, expect_logged, org_sealed, root_through

FORMAT = "tallystick/proof/v2"
PROBLEMS_MAX = 20


class ContractText(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A contract version that priced the invoice, as the text that was applied."""

    source_name: str
    source_text: str


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A proof as its file has it; `evidence` is null only where the invoice covers no entry at all.

    `contracts` are those of the invoice's sections, each once. `entries` are the preimages of the leaves, from the last
    entry before the period to `through_seq`.
    """

    format: str
    invoice: msgspec.Raw
    contracts: list[ContractText]
    entries: list[msgspec.Raw]
    evidence: Evidence | None


@dataclass(slots=True)
class ProofReport:
    """What a check of a proof found. It is `valid` when there is no problem.

    Attributes:
        trusted_by: why the checkpoint's signature is believed: `key` (one that was given), `checkpoint` (one that was
            kept elsewhere), or None: only the key that the proof itself brings vouches for it.
        entries: how many ledger entries the proof has.
        events: how many requests of the period the invoice states.
        block: the block in which the entries were sealed.
        log_size: how many blocks the checkpoint covers.
        key: the public key that signed it.
        contract, contract_sha256, plan, time_zone: what the invoice says was agreed last in the month; `plans` has all
            that it says was agreed. The ledger commits to entries, not to terms: whether these are the ones is for the
            reader to compare.
        problems: a sentence each, the first of them.
    """

    invoice_id: str
    org_id: str
    period: str
    total_usd: str
    digest: str
    first_seq: int
    through_seq: int
    events: int
    entries: int = 0
    block: int | None = None
    sealed_at: str | None = None
    log_origin: str | None = None
    log_size: int | None = None
    key: str | None = None
    trusted_by: str | None = None
    contract: str = ""
    contract_sha256: str = ""
    plan: str = ""
    plans: list[str] = field(default_factory=list)
    time_zone: str = ""
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


def read_proof(data: bytes) -> Proof:
    """The proof that a file's bytes hold.

    Raises:
        BadInput: `invalid_proof`: they are not a proof's.
    """
    try:
        proof = msgspec.json.decode(data, type=Proof)
        read_json(_without_entries(data, proof.entries))
    except BadInput as error:
        raise _no_proof(error.detail) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise _no_proof(str(error)) from None
    if proof.format != FORMAT:
        raise _no_proof(f"its format is {proof.format!r}, and {FORMAT} is due")
    return proof


def _without_entries(data: bytes, entries: Sequence[msgspec.Raw]) -> bytes:
    """The document with null for its entries, which are looked at one by one: is any member in it named twice?"""
    if not entries:
        return data
    last = bytes(entries[-1])
    end = data.rindex(last) + len(last)
    return data[: data.rindex(bytes(entries[0]), 0, end)] + b"null" + data[end:]


def check_proof(
    proof: Proof,
    *,
    keys: Sequence[PublicKey] = (),
    kept: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> ProofReport:
    """Check everything that the proof says.

    Args:
        proof: what `read_proof` gave.
        keys: public keys that are trusted; none: the one in the proof is used, and the report says so.
        kept: the note of a checkpoint that was kept elsewhere; the proof's log must have grown out of it.
        progress: called with the number of entries read since the last call.

    Raises:
        BadInput: `invalid_invoice_document`: what should be the invoice is none; `invalid_note`, `invalid_checkpoint`:
            `kept` is no checkpoint.
    """
    if kept is not None:
        read_checkpoint(kept, None)
    invoice = parse_invoice(bytes(proof.invoice))
    pin = invoice.ledger
    report = ProofReport(
        invoice_id=invoice.invoice_id,
        org_id=invoice.org_id,
        period=invoice.period.label,
        total_usd=invoice.totals.total_usd,
        digest=invoice.digest,
        first_seq=pin.first_seq,
        through_seq=pin.through_seq,
        events=pin.events,
        entries=len(proof.entries),
        contract=f"{invoice.contract.name} {invoice.contract.version}",
        contract_sha256=invoice.contract.sha256,
        plan=invoice.contract.plan,
        plans=[f"{one.plan} of {one.contract} {one.version} ({one.sha256[:12]})" for one in invoice.sections],
        time_zone=invoice.period.time_zone,
    )
    with _named(report):
        if invoice_digest(invoice.document()) != invoice.digest:
            raise ValueError("the invoice's digest is not that of the document: the document was changed")
    period = Period(invoice.period.label, parse_instant(invoice.period.start), parse_instant(invoice.period.end))
    with _named(report):
        if period != month_period(period.label, invoice.period.time_zone):
            raise ValueError(f"the period is not {period.label} on the clocks of {invoice.period.time_zone}")
    terms: Terms | None = None
    with _named(report):
        terms = _terms(invoice, period, proof.contracts)
    found: EntriesFound | None = None
    with _named(report):
        found = read_entries(proof.entries, invoice.org_id, period, pin.through_seq, terms, progress)
    if found is not None:
        for problem in found.problems:
            report.add(problem)
        if terms is not None:
            with _named(report):
                _check_invoice(report, invoice, terms, proof.evidence, found)
        with _named(report):
            _check_sealed(report, invoice, proof.evidence, found, keys, kept)
    return report


def _check_invoice(
    report: ProofReport, invoice: Invoice, terms: Terms, evidence: Evidence | None, found: EntriesFound
) -> None:
    """The invoice again, from the entries and the contracts' texts alone."""
    pin = LedgerPin(
        through_seq=found.first_seq + len(found.leaves) - 1,
        first_seq=found.period_from_seq,
        events=found.events,
        entries_sha256=found.entries_sha256,
        tree_size=found.first_seq + len(found.leaves) - 1,
        root=(root_through(found.leaves, found.first_seq, evidence.left) if evidence else EMPTY_ROOT).hex(),
    )
    again = build_invoice(terms, PeriodFacts(found.sums, pin, found.wallet))
    for difference in document_differences(invoice.document(), again.document()):
        report.add(
            f"{difference.where}: {difference.field} is {difference.stored}, and {difference.recomputed} follows"
        )


def _terms(invoice: Invoice, period: Period, texts: Sequence[ContractText]) -> Terms:
    """The terms as the invoice states them, with the contracts read from their texts and the days counted again."""
    contracts = {one.sha256: one for one in (load_contract(text.source_text, text.source_name) for text in texts)}
    if len(texts) != len({section.sha256 for section in invoice.sections}):
        raise ValueError("the proof has other contracts' texts than the invoice names")
    holdings = sorted(_holdings(invoice, contracts), key=lambda one: one.start)
    if not holdings:
        raise ValueError("the invoice names no plan")
    for one, end in zip(holdings, [*(later.start for later in holdings[1:]), period.end], strict=True):
        if not (period.start <= one.start < one.end <= end):
            raise ValueError(
                f"plan {one.plan} cannot have been in force from {one.start} until {one.end} in the period"
            )
        if one.contract.effective_from > one.start:
            raise ValueError(
                f"the contract's version {one.contract.version} was not in force at {format_instant(one.start)}"
            )
    zone = invoice.period.time_zone
    return make_terms(invoice.org_id, period, zone, holdings, invoice.contract.subscriptions_known)


def _holdings(invoice: Invoice, contracts: Mapping[str, Contract]) -> Iterator[Holding]:
    for section in invoice.sections:
        contract = contracts.get(section.sha256)
        if contract is None:
            raise ValueError(f"no contract's text hashes to {section.sha256}, which section {section.number} names")
        for held in section.in_force:
            start, end = parse_instant(held.start), parse_instant(held.end)
            yield Holding(start, end, contract, section.plan, held.subscription)


def _check_sealed(
    report: ProofReport,
    invoice: Invoice,
    evidence: Evidence | None,
    found: EntriesFound,
    keys: Sequence[PublicKey],
    kept: str | None,
) -> None:
    """The entries are in a block, the block in a log, and the log in a checkpoint that is signed."""
    if evidence is None:
        if found.leaves or invoice.ledger.through_seq:
            raise ValueError("the proof has no evidence that its entries were ever sealed")
        if keys or kept is not None:
            raise ValueError(
                "the org had no entry when the invoice was made, so nothing in the proof is signed, and neither a key "
                "nor a checkpoint can vouch for it"
            )
        return  # nothing was used, and nothing is claimed of the ledger
    statement = org_sealed(evidence, found.leaves, found.first_seq)
    if statement.org_id != invoice.org_id:
        raise ValueError(f"the sealed entries are those of {statement.org_id}, the invoice is {invoice.org_id}'s")
    block = block_sealed(evidence)
    report.block, report.sealed_at = block.block, format_instant(block.sealed_at)
    inside = parse_public_key(evidence.key)
    checkpoint, _ = read_checkpoint(evidence.checkpoint, [inside])
    report.key, report.log_origin, report.log_size = evidence.key, checkpoint.origin, checkpoint.size
    expect_logged(evidence, block, checkpoint)
    if keys:
        read_checkpoint(evidence.checkpoint, keys)
        report.trusted_by = "key"
    if kept is not None:
        theirs, _ = read_checkpoint(kept, list(keys) or None)
        expect_extends(evidence, checkpoint, theirs)
        if theirs.size >= block.block or _signed_by(kept, inside) == theirs:
            report.trusted_by = report.trusted_by or "checkpoint"
        if (
            report.trusted_by is None
        ):  # whoever has a checkpoint can add a block to its log, and sign with a key of his own
            raise ValueError(
                f"the checkpoint that was kept ends before block {block.block}, and what came after it is signed with "
                f"another key, {evidence.key}: give that key as well (--key) if you had it from whoever runs the ledger"
            )


def _signed_by(note: str, key: PublicKey) -> Checkpoint | None:
    try:
        return read_checkpoint(note, [key])[0]
    except BadInput:
        return None


@contextmanager
def _named(report: ProofReport) -> Iterator[None]:
    """What a step of the check cannot accept becomes a problem of the report."""
    try:
        yield
    except TallyError as error:
        report.add(error.detail)
    except (ValueError, ArithmeticError, TypeError, KeyError) as error:
        report.add(str(error) or type(error).__name__)


def _no_proof(why: str) -> BadInput:
    return BadInput(
        "invalid_proof",
        f"this is not the proof of an invoice: {why}",
        next_step="use the file as it was written, or have it made again: tally proof invoice ID",
    )
