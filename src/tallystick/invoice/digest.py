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
FACTS_TAG = b"tallystick/invoice-facts/v1\n"
INTERNAL_TAG = b"tallystick/invoice-internal/v1\n"
INVOICE_TAG = b"tallystick/invoice/v1\n"

FINGERPRINT_BYTES = 32
FACT_BYTES = 8 + FINGERPRINT_BYTES
"""One fact's part of the facts hash: its sequence number (8 bytes, big-endian) and its fingerprint."""


def invoice_id(org_id: str, contract: str, label: str) -> str:
    """The id that this org's invoice under this contract for this month always has: `inv_` and 32 hex digits."""
    return "inv_" + hashlib.sha256(ID_TAG + canonical_json([org_id, contract, label])).hexdigest()[:32]


class FactsHash:
    """The hash over every fact of a period, fed in ascending sequence; it holds no more than one state.

    Facts are those whose time lies in the period and whose sequence the invoice's `through_seq` covers,
    charged or not.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(FACTS_TAG)
        self._last = 0
        self.events = 0

    def add(self, seq: int, fingerprint: bytes) -> None:
        """One fact. `seq` must rise from call to call.

        Raises:
            ValueError: out of order, or a fingerprint that is not 32 bytes long.
        """
        if seq <= self._last or len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"fact {seq} after {self._last} with a fingerprint of {len(fingerprint)} bytes")
        self._hash.update(seq.to_bytes(8, "big") + fingerprint)
        self._last = seq
        self.events += 1

    def add_block(self, block: bytes | memoryview) -> None:
        """Many facts at once, already written as 40 bytes each, in ascending sequence.

        Raises:
            ValueError: out of order, or not a whole number of facts.
        """
        if not len(block):
            return
        first = int.from_bytes(block[:8], "big")
        if len(block) % FACT_BYTES or first <= self._last:
            raise ValueError(f"a block of {len(block)} bytes from fact {first} on, after fact {self._last}")
        self._hash.update(block)
        self._last = int.from_bytes(block[-FACT_BYTES:-FINGERPRINT_BYTES], "big")
        self.events += len(block) // FACT_BYTES

    def hexdigest(self) -> str:
        """64 hex digits."""
        return self._hash.hexdigest()


def facts_sha256(facts: Iterable[tuple[int, bytes]]) -> str:
    """The facts hash of (sequence, fingerprint) pairs in ascending sequence."""
    running = FactsHash()
    for seq, fingerprint in facts:
        running.add(seq, fingerprint)
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
