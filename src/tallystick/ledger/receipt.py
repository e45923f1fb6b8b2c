"""A receipt: what became of one event that was offered to the ledger."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from tallystick.rates.model import CostStatus

ReceiptStatus = Literal["accepted", "duplicate", "conflict", "rejected", "spooled"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one event. Only `accepted` wrote anything.

    Attributes:
        status: `accepted`: stored now, durably; `duplicate`: the same content was stored before (the rest
            of the receipt is the original's); `conflict`: other content is stored under this request id;
            `rejected`: it cannot be stored at all; `spooled`: the database is away, and the event waits for it on
            disk (it has no place in the ledger yet).
        org_id: the customer.
        request_id: with the org, the identity of the event.
        fingerprint: the salted SHA-256 of the content, in hex; for a conflict, of the content offered, under the
            salt of what is stored, so that the two can be compared.
        seq: its place in the org's dense sequence, starting at 1; for a conflict, that of the stored event.
        recorded_at: when the stored event was recorded.
        leaf: hash of the stored entry, in hex: its leaf in the org's Merkle tree, at place `seq`.
        cost_pico: what it cost us, in pico-USD; None when unpriced.
        cost_status: `final`, `partial`, `estimated` or `unpriced`.
        rate_version: the rate-card version that priced it.
        stored_fingerprint: for a conflict, the fingerprint of what is stored.
        reason: a sentence: why it is unpriced, in conflict or rejected.
        code: for `conflict` and `rejected`, the stable error code.
    """

    status: ReceiptStatus
    org_id: str
    request_id: str
    fingerprint: str
    seq: int | None = None
    recorded_at: datetime | None = None
    leaf: str | None = None
    cost_pico: int | None = None
    cost_status: CostStatus | None = None
    rate_version: str | None = None
    stored_fingerprint: str | None = None
    reason: str | None = None
    code: str | None = None
