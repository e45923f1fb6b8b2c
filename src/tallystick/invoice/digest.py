"""The hashes that an invoice states, and the exact bytes that each one covers.

Every hash is SHA-256 over a tag that names its purpose, ended by a line feed, and then the content: bytes
hashed for one purpose can never be taken for another's. `docs/invoice.md` repeats the rules with a worked
example, so that a reader can check an invoice without this program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from tallystick.invoice.canonical import canonical_json

ID_TAG = b"tallystick/invoice-id/v1\n"
ENTRIES_TAG = b"tallystick/invoice-entries/v2\n"
INTERNAL_TAG = b"tallystick/invoice-internal/v1\n"
INVOICE_TAG = b"tallystick/invoice/v4\n"

LEAF_BYTES = 32
MARK_BYTES = 8 + LEAF_BYTES
"""One entry's part of the entries hash: its sequence number (8 bytes, big-endian) and its leaf."""


def invoice_id(org_id: str, contract: str, label: str) -> str:
    """The id that this org's invoice under this contract for this month always has: `inv_` and 32 hex digits."""
    return "inv_" + hashlib.sha256(ID_TAG + canonical_json([org_id, contract, label])).hexdigest()[:32]


class EntriesHash:
    """The hash over every ledger entry of a period, fed in ascending sequence; it holds no more than one state.

    Entries are usage, charged or not, and corrections, whose time lies in the period (a correction has the time of
    the entry that it refers to) and whose sequence the invoice's `through_seq` covers.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(ENTRIES_TAG)
        self._last = 0

    def add(self, seq: int, leaf: bytes) -> None:
        """One entry. `seq` must rise from call to call.

        Raises:
            ValueError: out of order, or a leaf that is not 32 bytes long.
        """
        if seq <= self._last or len(leaf) != LEAF_BYTES:
            raise ValueError(f"entry {seq} after {self._last} with a leaf of {len(leaf)} bytes")
        self._hash.update(seq.to_bytes(8, "big") + leaf)
        self._last = seq

    def add_block(self, block: bytes | memoryview) -> None:
        """Many entries at once, already written as 40 bytes each, in ascending sequence.

        Raises:
            ValueError: out of order, or not a whole number of entries.
        """
        if not len(block):
            return
        first = int.from_bytes(block[:8], "big")
        if len(block) % MARK_BYTES or first <= self._last:
            raise ValueError(f"a block of {len(block)} bytes from entry {first} on, after entry {self._last}")
        self._hash.update(block)
        self._last = int.from_bytes(block[-MARK_BYTES:-LEAF_BYTES], "big")

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()


def entries_sha256(entries: Iterable[tuple[int, bytes]]) -> str:
    """The entries hash of (sequence, leaf) pairs in ascending sequence."""
    running = EntriesHash()
    for seq, leaf in entries:
        running.add(seq, leaf)
    return running.hexdigest()


def internal_sha256(internal: dict[str, Any]) -> str:
    """The hash of the internal section: it stands in the invoice in its place when the section is left out."""
    return hashlib.sha256(INTERNAL_TAG + canonical_json(internal)).hexdigest()


def invoice_digest(document: dict[str, Any]) -> str:
    """The digest of an invoice document, with or without its `digest` and `internal` members.

    Both members are left out before hashing; `internal_sha256` remains and ties the section to the digest.
    """
    covered = {key: value for key, value in document.items() if key not in ("digest", "internal")}
    return "sha256:" + hashlib.sha256(INVOICE_TAG + canonical_json(covered)).hexdigest()
