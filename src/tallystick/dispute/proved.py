"""Runs of an org's entries that a signed log covers: the proof of what is on no invoice, and of a dispute's own steps.

The form is that of an invoice's proof without an invoice: the preimages of a dense run of entries, and the hashes from
them to a signed checkpoint (`ledger.proof.Evidence`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.core.struct_types import work_out
from tallystick.ledger.checkpoint import read_checkpoint
from tallystick.ledger.entry import Entry
from tallystick.ledger.notes import PublicKey, parse_public_key
from tallystick.ledger.preimage import read_preimage
from tallystick.ledger.proof import Evidence, block_sealed, expect_extends, expect_logged, org_sealed

FORMAT: Final = "tallystick/entries/v1"


class EntriesProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run of entries as its file has it: the preimages of the leaves, one after the other."""

    format: str
    org_id: str
    entries: list[msgspec.Raw]
    evidence: Evidence


work_out(EntriesProof)


class ProvedEntries(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of entries proves.

    Attributes:
        entries: by place.
        sealed_at: when the block was sealed that they are in.
        key: the public key that the checkpoint is signed with.
        trusted_by: as in `invoice.proof_report`: `key`, `checkpoint`, or None: only the key in the file vouches for it.
    """

    entries: dict[int, Entry]
    sealed_at: str
    key: str
    trusted_by: str | None


def read_entries_proof(data: bytes) -> EntriesProof:
    """The run that a file's bytes hold.

    Raises:
        ValueError: they hold none.
    """
    try:
        proof = msgspec.json.decode(data, type=EntriesProof)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError(f"this is no proof of entries: {error}") from None
    if proof.format != FORMAT:
        raise ValueError(f"its format is {proof.format!r}, and {FORMAT} is due")
    return proof


def check_entries(
    proof: EntriesProof, org_id: str, keys: Sequence[PublicKey] = (), kept: str | None = None
) -> ProvedEntries:
    """Check that the entries are a dense run of the org's, in a block, in a signed log.

    Args:
        keys: public keys that are trusted; none: the one in the file is used.
        kept: the note of a checkpoint that was kept elsewhere.

    Raises:
        ValueError, BadInput: they are not; the sentence says what is wrong.
    """
    found: dict[int, Entry] = {}
    for raw in proof.entries:
        entry = read_preimage(raw)
        if entry.org_id != org_id or proof.org_id != org_id:
            raise ValueError(f"entry {entry.seq} belongs to {entry.org_id}, the dispute to {org_id}")
        if found and entry.seq - 1 not in found:
            raise ValueError(f"entry {entry.seq} does not follow the one before it")
        found[entry.seq] = entry
    if not found:
        raise ValueError("it has no entries")
    evidence = proof.evidence
    statement = org_sealed(evidence, [one.leaf for one in found.values()], min(found))
    if statement.org_id != org_id:
        raise ValueError(f"the sealed entries are those of {statement.org_id}, the dispute is {org_id}'s")
    block = block_sealed(evidence)
    inside = parse_public_key(evidence.key)
    checkpoint, _ = read_checkpoint(evidence.checkpoint, [inside])
    expect_logged(evidence, block, checkpoint)
    trusted = None
    if keys:
        read_checkpoint(evidence.checkpoint, keys)
        trusted = "key"
    if kept is not None:
        theirs, _ = read_checkpoint(kept, list(keys) or None)
        expect_extends(evidence, checkpoint, theirs)
        trusted = trusted or ("checkpoint" if theirs.size >= block.block or _signs(kept, inside) else None)
        if trusted is None:
            raise ValueError(f"the checkpoint that was kept ends before block {block.block}; give the key as well")
    return ProvedEntries(entries=found, sealed_at=format_instant(block.sealed_at), key=evidence.key, trusted_by=trusted)


def _signs(note: str, key: PublicKey) -> bool:
    try:
        read_checkpoint(note, [key])
    except BadInput:
        return False
    return True
