"""Making the proof of an invoice: all that is needed to check it without this program's database, in one JSON file.

The entries are streamed into it: `proof_pieces` holds no more than a few at a time. docs/proofs.md has the form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import msgspec

from tallystick.app.entries import stream_entries
from tallystick.app.invoices import find_invoice
from tallystick.app.pinned import stored_version
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.invoice.model import Invoice, parse_invoice
from tallystick.invoice.proof import FORMAT, ContractText
from tallystick.journal.checkpoints import checkpoint_covering, latest_checkpoint, list_signing_keys
from tallystick.journal.invoices import StoredInvoice
from tallystick.journal.proofs import (
    SealedRange,
    block_statements,
    checkpoint_sizes,
    org_statements,
    sealed_range,
    sealed_tree,
)
from tallystick.ledger.checkpoint import read_checkpoint
from tallystick.ledger.entry import entry_preimage
from tallystick.ledger.merkle import Frontier, Span, consistency_spans, inclusion_spans, leaf_hash, prove, span_hash
from tallystick.ledger.notes import PublicKey
from tallystick.ledger.proof import Evidence, sides

EARLIER_MAX = 64
"""For how many earlier checkpoints a proof shows that the log only grew; one can be asked for by name."""
_PIECE_ENTRIES = 200


def proof_pieces(
    runtime: Runtime,
    reference: str,
    *,
    kept: str | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> Iterator[bytes]:
    """The proof of a closed invoice, piece by piece.

    Everything that can be refused is refused before the first piece is given.

    Args:
        runtime: the running system.
        reference: an invoice id, or ORG/MONTH.
        kept: the note of an earlier checkpoint that the proof is to be comparable with; the newest 64 always are.
        progress: called with the number of entries written since the last call.

    Raises:
        NotFound: `unknown_invoice`, `unknown_contract_version`.
        Conflict: `invoice_not_sealed`: its entries are not in a sealed block yet.
        BadInput: `invalid_invoice_document`; `invalid_note`, `invalid_checkpoint`: `kept` is no checkpoint.
        Unavailable: `database_unreachable`.
    """
    wanted = None if kept is None else read_checkpoint(kept, None)[0].size
    stored = find_invoice(runtime, reference)
    invoice = parse_invoice(stored.document)
    contracts = _contracts(runtime, invoice)
    sealed = _sealed(runtime, stored) if invoice.ledger.through_seq else None
    return _pieces(runtime, stored, invoice, contracts, sealed, wanted, progress)


def run_evidence(runtime: Runtime, org_id: str, first: int, last: int) -> Evidence | None:
    """From the org's entries `first` to `last` to the newest signed checkpoint; None while they are not all sealed.

    Raises:
        Conflict: `entries_missing`.
        BadInput: `missing_block`, `broken_block`.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        sealed = sealed_range(connection, org_id, last)
        if sealed is None or checkpoint_covering(connection, sealed.block) is None:
            return None
    return _evidence(runtime, org_id, first, last, sealed, None)


def proof_entries(invoice: Invoice) -> int:
    """How many entries the proof of an invoice has."""
    return invoice.ledger.through_seq - _first_seq(invoice) + 1 if invoice.ledger.through_seq else 0


def _pieces(
    runtime: Runtime,
    stored: StoredInvoice,
    invoice: Invoice,
    contracts: list[ContractText],
    sealed: SealedRange | None,
    wanted: int | None,
    progress: Callable[[int], object],
) -> Iterator[bytes]:
    # Members that are read first come first; what is known only after the entries were read comes last.
    head = {"format": FORMAT, "contracts": msgspec.to_builtins(contracts)}
    text = json.dumps(head, ensure_ascii=False)[:-1]
    yield f'{text}, "invoice": {stored.document},\n"entries": ['.encode()
    first, last = _first_seq(invoice), invoice.ledger.through_seq
    if sealed is not None:
        batch: list[bytes] = []
        for entry in stream_entries(runtime, invoice.org_id, first, last):
            batch.append((b"\n" if entry.seq == first else b",\n") + entry_preimage(entry))
            if len(batch) == _PIECE_ENTRIES:
                yield b"".join(batch)
                progress(len(batch))
                batch.clear()
        yield b"".join(batch)
    evidence = None if sealed is None else _evidence(runtime, invoice.org_id, first, last, sealed, wanted)
    yield b'\n],\n"evidence": ' + msgspec.json.encode(evidence) + b"}\n"


def _first_seq(invoice: Invoice) -> int:
    """The entry before the first of the period and of every month that is adjusted.

    Its latest time shows that nothing earlier belongs to any of them.
    """
    firsts = [invoice.ledger.first_seq, *(one.ledger.first_seq for one in invoice.adjustments)]
    first = min((seq for seq in firsts if seq), default=0)
    return max(1, first - 1) if first else invoice.ledger.through_seq


def _contracts(runtime: Runtime, invoice: Invoice) -> list[ContractText]:
    """Those of the invoice's sections, and of the months that it adjusts, each once."""
    found: dict[tuple[str, str], ContractText] = {}
    for section in invoice.named_sections():
        with runtime.database.operator() as connection:
            version = stored_version(connection, section.contract, section.version)
        text = ContractText(source_name=version.source_name, source_text=version.source_text)
        found.setdefault((section.contract, section.version), text)
    return list(found.values())


def _sealed(runtime: Runtime, stored: StoredInvoice) -> SealedRange:
    """The block in which the invoice's last entry was sealed, and that a checkpoint covers."""
    row = stored.row
    with runtime.database.operator() as connection:
        found = sealed_range(connection, row.org_id, row.through_seq)
        covered = found is not None and checkpoint_covering(connection, found.block) is not None
    if found is None or not covered:
        raise Conflict(
            "invoice_not_sealed",
            f"the entries of {row.invoice_id} up to {row.through_seq} are not all in a sealed, signed block yet",
            next_step="seal first: `tally proof invoice ID --seal`, or `tally seal --all`; a server seals by itself",
            where=row.invoice_id,
        )
    return found


def _evidence(
    runtime: Runtime, org_id: str, first: int, last: int, sealed: SealedRange, wanted: int | None
) -> Evidence:
    with runtime.database.operator() as connection:
        note = latest_checkpoint(connection)
        if note is None:  # there was one a moment ago, and none is ever removed
            raise LookupError("no checkpoint")
        keys = list_signing_keys(connection)
        statements = org_statements(connection, sealed.block)
        log = block_statements(connection, note.size)
        sizes = checkpoint_sizes(connection, note.size)
        tree = sealed_tree(connection, org_id, first - 1)
    left, right = _sides(runtime, org_id, tree, first, last, sealed.last_seq)
    orgs = [leaf_hash(one.encode()) for one in statements]
    place = [one.org_id for one in statements].index(org_id)
    leaves = [leaf_hash(text.encode()) for text in log]
    earlier = {size for size in sizes if size == wanted} | set(sizes[-EARLIER_MAX:])
    return Evidence(
        left=left,
        right=right,
        org_statement=statements[place].encode().decode(),
        org_index=place,
        org_path=_hex(_path(orgs, inclusion_spans(place, len(orgs)))),
        block_statement=log[sealed.block - 1],
        log_path=_hex(_path(leaves, inclusion_spans(sealed.block - 1, len(leaves)))),
        checkpoint=note.note,
        key=str(_signer(note.note, keys)),
        earlier={str(size): _hex(_path(leaves, consistency_spans(size, len(leaves)))) for size in sorted(earlier)},
    )


def _sides(
    runtime: Runtime, org_id: str, tree: Frontier, first: int, last: int, size: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The hashes left and right of the entries; what comes before grows from the tree as it was sealed."""
    before, after = sides(first, last, size)
    for entry in stream_entries(runtime, org_id, tree.size + 1, first - 1):
        tree.add(entry.leaf)
    peaks = tree.to_bytes()
    left = tuple(peaks[at * 32 : at * 32 + 32].hex() for at in range(len(before)))
    right = []
    for begin, end in after:
        part = Frontier()
        for entry in stream_entries(runtime, org_id, begin + 1, end):
            part.add(entry.leaf)
        right.append(part.root().hex())
    return left, tuple(right)


def _path(leaves: Sequence[bytes], spans: Sequence[Span]) -> list[bytes]:
    return prove(spans, lambda span: span_hash(leaves, span))


def _hex(hashes: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(one.hex() for one in hashes)


def _signer(note: str, keys: Sequence[PublicKey]) -> PublicKey:
    _, signers = read_checkpoint(note, keys)
    return signers[0]
