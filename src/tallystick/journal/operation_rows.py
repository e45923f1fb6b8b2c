"""An operation on an org's account as a row of `ledger_entries`, with its leaf."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

import msgspec

from tallystick.journal.copy_rows import operation_tail, operation_texts, row_head
from tallystick.ledger.entry import preimage
from tallystick.ledger.operation_entry import operation_json


class OperationTexts(msgspec.Struct, frozen=True, gc=False):
    """The columns that an operation shares with usage, where its request has them."""

    feature: str | None = None
    environment: str | None = None
    provider: str | None = None
    model: str | None = None
    api_key_id: str | None = None
    action: str | None = None


NO_TEXTS = OperationTexts()


class OperationFields(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An operation's entry, but for what is known only under the head's lock: its place, and the body's result.

    Attributes:
        fingerprint: by `ledger.encoding.operation_fingerprint`, under `salt`.
        attributes: {} when there are none.
    """

    org_id: str
    kind: str
    request_id: str
    salt: bytes
    fingerprint: bytes
    refers_to_seq: int | None = None
    texts: OperationTexts = NO_TEXTS
    user_id: str | None = None
    session_id: str | None = None
    attributes: dict[str, str] = {}


class OperationRow(NamedTuple):
    """A row in COPY's binary format, and the entry's leaf (32 bytes)."""

    row: bytes
    leaf: bytes


def operation_row(
    fields: OperationFields,
    body: bytes,
    *,
    seq: int,
    time_max_us: int,
    time_max_json: bytes,
    recorded_us: int,
    recorded_json: bytes,
    rate_version: str,
) -> OperationRow:
    """The row of an operation.

    Args:
        body: as `ledger.operation_body.encode_body` writes it.
        time_max_us: the latest time of the org's entries up to and with this one, in microseconds (`copy_rows`).
        time_max_json: the same as `ledger.entry.instant_json` gives it.
        recorded_us, recorded_json: the present instant likewise; it is the operation's time, too.
        rate_version: the newest rate card's.
    """
    texts = fields.texts
    entry_json = operation_json(
        fields.kind,
        fields.org_id,
        fields.request_id,
        body,
        fields.fingerprint,
        rate_version,
        recorded_json,
        recorded_json,
        fields.refers_to_seq,
        action=texts.action,
        api_key_id=texts.api_key_id,
        environment=texts.environment,
        feature=texts.feature,
        model=texts.model,
        provider=texts.provider,
    )
    leaf = sha256(b"\x00" + preimage(entry_json, seq, time_max_json)).digest()
    tail = operation_tail(
        operation_texts(
            fields.org_id,
            fields.kind,
            texts.feature,
            texts.environment,
            texts.provider,
            texts.model,
            texts.api_key_id,
            texts.action,
            rate_version,
        ),
        fields.refers_to_seq,
        recorded_us,
        fields.request_id,
        fields.user_id,
        fields.session_id,
        fields.salt,
        fields.fingerprint,
        fields.attributes,
        body,
    )
    return OperationRow(row_head(seq, time_max_us, leaf) + tail, leaf)
