"""What gives something away is done once, also when it is sent again after its entry has left for a block."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.app.entries import stream_entries
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.journal.accounts import claimed_by, entry_at
from tallystick.journal.operations_known import is_same, recorded_of
from tallystick.journal.operations_load import StoredOperation
from tallystick.ledger.operations import Operation, Recorded


def submit_once(runtime: Runtime, operation: Operation, *, if_new: Callable[[], None] | None = None) -> Recorded:
    """Have an operation decided and written, and wait for it; one whose id is claimed has the answer that it had first.

    Args:
        runtime: an open one.
        operation: a grant or an override.
        if_new: asked first when its id is not claimed; it raises what speaks against it.

    Raises:
        Conflict: `request_id_conflict`; `entries_missing`, when the entry that has claimed it is in no block.
        BadInput: of the block: `missing_block`, `broken_block`.
        TallyError: what `if_new` and `Runtime.operations.submit` raise.
    """
    org_id = operation.org_id
    with runtime.database.org(org_id) as connection:
        seq = claimed_by(connection, org_id, operation.kind, operation.request_id)
        has_left = seq is not None and entry_at(connection, org_id, seq) is None
    if seq is not None and has_left:
        return _from_block(runtime, operation, seq)
    if seq is None and if_new is not None:
        if_new()
    return runtime.operations.submit(operation).result()


def _from_block(runtime: Runtime, operation: Operation, seq: int) -> Recorded:
    org_id = operation.org_id
    (entry,) = stream_entries(runtime, org_id, seq, seq)
    stored = StoredOperation(
        seq=entry.seq,
        kind=entry.kind,
        request_id=entry.request_id,
        recorded_at=entry.recorded_at,
        user_id=entry.user_id,
        session_id=entry.session_id,
        attributes=entry.attributes,
        salt=entry.salt,
        fingerprint=entry.fingerprint or b"",
        leaf=entry.leaf,
        rate_version=entry.rate_version,
        refers_to_seq=entry.refers_to_seq,
        body=entry.body or "",
    )
    if not is_same(operation, stored, None):
        raise Conflict(
            "request_id_conflict",
            f"request id {operation.request_id!r} of {org_id!r} is stored already with other content, as entry {seq}",
            next_step="send another operation under an id of its own, and the same id only with the same content",
            where="request_id",
        )
    return recorded_of(org_id, stored, is_new=False)
