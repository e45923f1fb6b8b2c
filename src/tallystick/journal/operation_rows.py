"""An operation on an org's account as a row of `ledger_entries`, with its leaf."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from tallystick.journal.copy_rows import operation_tail, operation_texts, row_head
from tallystick.ledger.entry import preimage
from tallystick.ledger.operation_entry import operation_json

Texts = tuple[str | None, str | None, str | None, str | None, str | None, str | None]
"""The columns that an operation shares with usage: feature, environment, provider, model, API key, action."""
NO_TEXTS: Texts = (None,) * 6


class OperationRow(NamedTuple):
    """A row in COPY's binary format, and the entry's leaf (32 bytes)."""

    row: bytes
    leaf: bytes


def operation_row(
    org_id: str,
    kind: str,
    request_id: str,
    body: bytes,
    *,
    texts: Texts,
    user_id: str | None,
    session_id: str | None,
    attributes: Mapping[str, str],
    salt: bytes,
    fingerprint: bytes,
    refers_to_seq: int | None,
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
        texts: where its request has them.
        fingerprint: by `ledger.encoding.operation_fingerprint`, under `salt`.
        time_max_us: the latest time of the org's entries up to and with this one, in microseconds (`copy_rows`).
        time_max_json: the same as `ledger.entry.instant_json` gives it.
        recorded_us, recorded_json: the present instant likewise; it is the operation's time, too.
        rate_version: the newest rate card's.
    """
    feature, environment, provider, model, api_key_id, action = texts
    entry_json = operation_json(
        kind,
        org_id,
        request_id,
        body,
        fingerprint,
        rate_version,
        recorded_json,
        recorded_json,
        refers_to_seq,
        action=action,
        api_key_id=api_key_id,
        environment=environment,
        feature=feature,
        model=model,
        provider=provider,
    )
    leaf = sha256(b"\x00" + preimage(entry_json, seq, time_max_json)).digest()
    tail = operation_tail(
        operation_texts(org_id, kind, *texts, rate_version),
        refers_to_seq,
        recorded_us,
        request_id,
        user_id,
        session_id,
        salt,
        fingerprint,
        attributes,
        body,
    )
    return OperationRow(row_head(seq, time_max_us, leaf) + tail, leaf)
