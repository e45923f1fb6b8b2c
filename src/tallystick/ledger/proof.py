"""From a run of one org's entries to a signed checkpoint: the chain of hashes that a proof of an invoice carries.

    entries first_seq … through_seq  ─ left, right ─►  root of the org's tree, as a block states it
    org statement                    ─ org path ────►  orgs_root of the block statement
    block statement                  ─ log path ────►  root of the log, as a checkpoint states it
    checkpoint                       ─ signature ───►  a key that somebody trusts

Nothing here asks where the parts came from: they hold together or they do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tallystick.ledger.checkpoint import Checkpoint
from tallystick.ledger.merkle import (
    HASH_BYTES,
    Span,
    leaf_hash,
    range_spans,
    root_from_inclusion,
    root_from_range,
    verify_consistency,
)
from tallystick.ledger.statements import BlockStatement, OrgStatement, parse_block_statement, parse_org_statement

Hash = str
"""32 bytes as 64 hex digits."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything between a run of entries and a checkpoint.

    Attributes:
        left: the hashes of the largest full subtrees before the run, from the left.
        right: those of the subtrees after it, up to the size that the block states.
        org_statement: what the block states of the org, byte for byte.
        org_index: its place among the block's org statements, from 0.
        org_path: from it up to `orgs_root`.
        block_statement: byte for byte.
        log_path: from it up to the root of the log.
        checkpoint: the signed note over the log.
        key: the public key that the maker of the proof says it is signed with.
        earlier: for checkpoints over fewer blocks, that the log only grew since: the hashes of RFC 9162's consistency
            proof, by the earlier one's size.
    """

    left: tuple[Hash, ...]
    right: tuple[Hash, ...]
    org_statement: str
    org_index: int
    org_path: tuple[Hash, ...]
    block_statement: str
    log_path: tuple[Hash, ...]
    checkpoint: str
    key: str
    earlier: Mapping[str, tuple[Hash, ...]]


def sides(first_seq: int, last_seq: int, size: int) -> tuple[list[Span], list[Span]]:
    """The spans of leaves whose hashes are `left` and `right` of the entries first_seq to last_seq."""
    spans = range_spans(first_seq - 1, last_seq, size)
    return [one for one in spans if one[1] < first_seq], [one for one in spans if one[0] >= last_seq]


def root_through(leaves: Sequence[bytes], first_seq: int, left: Sequence[Hash]) -> bytes:
    """The root of the org's tree when it ended with the last of these leaves.

    Raises:
        ValueError: `left` is not what a tree has before `first_seq`.
    """
    return root_from_range(leaves, first_seq - 1, first_seq - 1 + len(leaves), _hashes(left))


def org_sealed(evidence: Evidence, leaves: Sequence[bytes], first_seq: int) -> OrgStatement:
    """The org's statement in a block, when its root follows from the entries.

    Raises:
        ValueError: it does not; the sentence says what is wrong.
    """
    statement = parse_org_statement(evidence.org_statement)
    hashes = _hashes((*evidence.left, *evidence.right))
    found = root_from_range(leaves, first_seq - 1, statement.last_seq, hashes)
    if found != statement.root:
        raise ValueError(
            f"entries {first_seq} to {first_seq - 1 + len(leaves)} do not give the root that the block states for "
            f"{statement.org_id}: an entry was changed, added or left out"
        )
    return statement


def block_sealed(evidence: Evidence) -> BlockStatement:
    """The block's statement, when the org's statement is one of those that it covers.

    Raises:
        ValueError: it is not.
    """
    block = parse_block_statement(evidence.block_statement)
    leaf = leaf_hash(evidence.org_statement.encode())
    found = root_from_inclusion(leaf, evidence.org_index, block.orgs, _hashes(evidence.org_path))
    if found != block.orgs_root:
        raise ValueError(f"the org's statement is not in block {block.block}: one of both was changed")
    return block


def expect_logged(evidence: Evidence, block: BlockStatement, checkpoint: Checkpoint) -> None:
    """The block is in the log that the checkpoint is of.

    Raises:
        ValueError: it is not.
    """
    leaf = leaf_hash(evidence.block_statement.encode())
    found = root_from_inclusion(leaf, block.block - 1, checkpoint.size, _hashes(evidence.log_path))
    if found != checkpoint.root:
        raise ValueError(f"block {block.block} is not in the log of the checkpoint of size {checkpoint.size}")


def expect_extends(evidence: Evidence, checkpoint: Checkpoint, kept: Checkpoint) -> None:
    """The log of the proof's checkpoint is that of one that was kept elsewhere, grown.

    Raises:
        ValueError: it is not, or the proof does not carry what is needed to tell; the sentence says which.
    """
    if kept.origin != checkpoint.origin:
        raise ValueError(f"the checkpoint that was kept is of another log: {kept.origin}, not {checkpoint.origin}")
    if kept.size > checkpoint.size:
        raise ValueError(
            f"the checkpoint that was kept covers {kept.size} blocks and the proof's only {checkpoint.size}: "
            "have the proof made again"
        )
    proof = evidence.earlier.get(str(kept.size), ())
    if not proof and kept.size < checkpoint.size:
        raise ValueError(
            f"the proof does not say how its log grew out of the checkpoint of size {kept.size}: "
            "have it made again with --checkpoint FILE"
        )
    if not verify_consistency(kept.size, checkpoint.size, kept.root, checkpoint.root, _hashes(proof)):
        raise ValueError(
            f"the log was rewritten: the one of {checkpoint.size} blocks does not begin with the {kept.size} blocks "
            "of the checkpoint that was kept"
        )


def _hashes(texts: Sequence[Hash]) -> list[bytes]:
    hashes = [bytes.fromhex(text) for text in texts]
    if any(len(one) != HASH_BYTES or one.hex() != text for one, text in zip(hashes, texts, strict=True)):
        raise ValueError("a hash is 64 hex digits")
    return hashes
