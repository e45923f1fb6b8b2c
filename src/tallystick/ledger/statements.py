"""What sealing states of a block, byte for byte: one statement for each org in it, one for the block.

    org     {"first_seq":1,"last_seq":9,"org_id":"acme","root":"<hex>"}
    block   {"block":1,"entries":9,"file_sha256":"<hex>","merkle_root":"<hex>","orgs":2,"orgs_root":"<hex>",
             "sealed_at":"…Z"}

Both are RFC 8785 JSON: sorted members, no white space. `orgs_root` is the root of a tree over the org statements, in
the order of their org ids; the log that checkpoints sign is a tree over the block statements, in their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from tallystick.core.instants import format_instant
from tallystick.core.struct_types import work_out
from tallystick.ledger.merkle import leaf_hash, root

_HEX = re.compile(r"[0-9a-f]{64}")
_Members = TypeVar("_Members")


@dataclass(frozen=True, slots=True)
class OrgStatement:
    """A block holds the org's entries first_seq to last_seq, and the org's tree of size last_seq has this root."""

    org_id: str
    first_seq: int
    last_seq: int
    root: bytes

    def encode(self) -> bytes:
        """The statement's bytes, a leaf of `orgs_root`."""
        return _canonical(
            {"first_seq": self.first_seq, "last_seq": self.last_seq, "org_id": self.org_id, "root": self.root.hex()}
        )


@dataclass(frozen=True, slots=True)
class BlockStatement:
    """What a sealed block is: hashes are 32 bytes each.

    Attributes:
        block: its number, from 1; its place in the log is one less.
        entries: how many entries it holds.
        file_sha256: of the Parquet file.
        merkle_root: over the leaves of its entries in the file's order.
        orgs: how many org statements it has: a root alone does not say of how many leaves it is.
        orgs_root: over the org statements.
        sealed_at: when, in UTC.
    """

    block: int
    entries: int
    file_sha256: bytes
    merkle_root: bytes
    orgs: int
    orgs_root: bytes
    sealed_at: datetime

    def encode(self) -> bytes:
        """The statement's bytes, a leaf of the log."""
        return _canonical(
            {
                "block": self.block,
                "entries": self.entries,
                "file_sha256": self.file_sha256.hex(),
                "merkle_root": self.merkle_root.hex(),
                "orgs": self.orgs,
                "orgs_root": self.orgs_root.hex(),
                "sealed_at": format_instant(self.sealed_at),
            }
        )


def orgs_root(statements: Iterable[OrgStatement]) -> bytes:
    """The root over a block's org statements, whichever order they come in."""
    return root(leaf_hash(one.encode()) for one in sorted(statements, key=lambda one: one.org_id))


def parse_org_statement(data: bytes | str) -> OrgStatement:
    """The statement from its bytes.

    Raises:
        ValueError: these are not the bytes of an org statement.
    """
    found = _decode(data, _OrgMembers)
    statement = OrgStatement(found.org_id, found.first_seq, found.last_seq, _hash(found.root))
    if statement.encode() != _bytes(data) or not 1 <= statement.first_seq <= statement.last_seq:
        raise ValueError("this is not the statement of an org in a block")
    return statement


def parse_block_statement(data: bytes | str) -> BlockStatement:
    """The statement from its bytes.

    Raises:
        ValueError: these are not the bytes of a block statement.
    """
    found = _decode(data, _BlockMembers)
    statement = BlockStatement(
        found.block,
        found.entries,
        _hash(found.file_sha256),
        _hash(found.merkle_root),
        found.orgs,
        _hash(found.orgs_root),
        datetime.fromisoformat(found.sealed_at),
    )
    if statement.encode() != _bytes(data) or statement.block < 1 or statement.entries < 1:
        raise ValueError("this is not the statement of a block")
    return statement


class _OrgMembers(msgspec.Struct):
    first_seq: int
    last_seq: int
    org_id: str
    root: str


class _BlockMembers(msgspec.Struct):
    block: int
    entries: int
    file_sha256: str
    merkle_root: str
    orgs: int
    orgs_root: str
    sealed_at: str


work_out(_OrgMembers, _BlockMembers)


def _canonical(members: dict[str, Any]) -> bytes:
    # Keys are ASCII and given in order; Python's escapes of text are those of RFC 8785.
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def _decode(data: bytes | str, form: type[_Members]) -> _Members:
    try:
        return msgspec.json.decode(data, type=form)
    except (msgspec.DecodeError, UnicodeError) as error:  # a DecodeError is a ValueError, but not one of our words
        raise ValueError(f"this is not a statement: {error}") from None


def _hash(text: str) -> bytes:
    if not _HEX.fullmatch(text):
        raise ValueError("a hash in a statement is 64 hex digits")
    return bytes.fromhex(text)


def _bytes(data: bytes | str) -> bytes:
    return data.encode() if isinstance(data, str) else data
