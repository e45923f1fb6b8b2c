"""Checking the proof of an invoice with nothing but the proof: no database, no network, no trust in its maker.

A proof is one JSON document: the invoice, the contracts' texts, the org's ledger entries from just before the period
to the last that the invoice covers, and the hashes from them to a signed checkpoint (`ledger.proof.Evidence`).
Checking it answers, in this order: are these entries all that the ledger had, unchanged and without a gap? Do they
and the contracts give this invoice, to the cent and to the digest? Did the ledger commit to them in a signed log?
Entries are without personal data; the salted fingerprint stands for it. docs/proofs.md has the form and its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.json_text import read_json
from tallystick.core.struct_types import work_out
from tallystick.invoice.build import build_invoice
from tallystick.invoice.compare import document_differences
from tallystick.invoice.digest import invoice_digest
from tallystick.invoice.model import Invoice, LedgerPin, parse_invoice
from tallystick.invoice.proof_entries import EntriesFound, read_entries
from tallystick.invoice.proof_months import ContractText, ProofMonths
from tallystick.invoice.proof_report import ProofReport, named
from tallystick.invoice.usage import PeriodFacts
from tallystick.ledger.checkpoint import Checkpoint, read_checkpoint
from tallystick.ledger.merkle import EMPTY_ROOT
from tallystick.ledger.notes import PublicKey, parse_public_key
from tallystick.ledger.proof import Evidence, block_sealed, expect_extends, expect_logged, org_sealed, root_through

__all__ = ["FORMAT", "ContractText", "Proof", "ProofReport", "check_proof", "read_proof"]

FORMAT = "tallystick/proof/v3"


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


work_out(Proof)


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
        plans=list(
            dict.fromkeys(
                f"{one.plan} of {one.contract} {one.version} ({one.sha256[:12]})" for one in invoice.named_sections()
            )
        ),
        time_zone=invoice.period.time_zone,
    )
    with named(report):
        if invoice_digest(invoice.document()) != invoice.digest:
            raise ValueError("the invoice's digest is not that of the document: the document was changed")
    months = ProofMonths(invoice, proof.contracts, report)
    found: EntriesFound | None = None
    with named(report):
        found = read_entries(proof.entries, invoice.org_id, months.since, pin.through_seq, months.counts, progress)
    if found is not None:
        with named(report):
            _check_invoice(report, invoice, months, proof.evidence, found)
        with named(report):
            _check_sealed(report, invoice, proof.evidence, found, keys, kept)
    return report


def _check_invoice(
    report: ProofReport, invoice: Invoice, months: ProofMonths, evidence: Evidence | None, found: EntriesFound
) -> None:
    """The invoice again, from the entries and the contracts' texts alone."""
    for problem in dict.fromkeys(problem for count in months.counts for problem in count.problems):
        report.add(problem)
    count, facts, late = months.count, months.count.count(), months.late_months()
    if months.terms is None or late is None:
        return
    pin = LedgerPin(
        through_seq=found.first_seq + len(found.leaves) - 1,
        billed_through_seq=invoice.ledger.billed_through_seq,
        first_seq=count.first_seq,
        events=count.events,
        entries_sha256=count.hexdigest(),
        tree_size=found.first_seq + len(found.leaves) - 1,
        root=(root_through(found.leaves, found.first_seq, evidence.left) if evidence else EMPTY_ROOT).hex(),
    )
    again = build_invoice(months.terms, PeriodFacts(facts.sums, pin, facts.wallet), late)
    for difference in document_differences(invoice.document(), again.document()):
        report.add(
            f"{difference.where}: {difference.field} is {difference.stored}, and {difference.recomputed} follows"
        )


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


def _no_proof(why: str) -> BadInput:
    return BadInput(
        "invalid_proof",
        f"this is not the proof of an invoice: {why}",
        next_step="use the file as it was written, or have it made again: tally proof invoice ID",
    )
