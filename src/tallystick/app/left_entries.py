"""Operations that refer to what has left the database: they are answered as they would be if it were there.

The writer knows only what is in the database. What it refuses because an entry is not there, and may have left for a
block, is looked at here once more: a charge is refunded however old it is, a hold that was resolved long ago gives the
answer that it had, and what was said under a request id is not said twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait

import msgspec

from tallystick.app.entries import stream_entries
from tallystick.app.referring import referring_entries
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.journal.accounts import claimed_by, first_kept_seq
from tallystick.journal.operations_known import is_same, recorded_of
from tallystick.journal.operations_load import StoredOperation, resolution_of
from tallystick.ledger.encoding import core_json, event_fingerprint
from tallystick.ledger.entry import ERASED, Entry, entry_event
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import Operation, Recorded, Refund, ReleaseHold, Settle, Settled
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.org_machine import open_hold
from tallystick.ledger.receipt import Receipt
from tallystick.ledger.request_checks import complete_event

_CODES = frozenset({"entry_has_left", "hold_unknown", "settlement_unknown"})


def may_have_left(error: BaseException) -> bool:
    """Whether an operation was refused for an entry that may be in a block: `answer_from_blocks` says."""
    return isinstance(error, TallyError) and error.code in _CODES


def submit_and_wait(runtime: Runtime, operation: Operation) -> Recorded:
    """Have an operation decided and written, and wait for its answer, wherever what it refers to is.

    Raises:
        TallyError: what `Runtime.operations.submit` and `answer_from_blocks` raise.
    """
    try:
        return runtime.operations.submit(operation).result()
    except TallyError as error:
        if not may_have_left(error):
            raise
        return answer_from_blocks(runtime, operation, error)


def submit_together(runtime: Runtime, operations: Iterable[Operation]) -> list[Recorded | TallyError]:
    """Have operations decided and written in as few commits as may be: what became of each, in their order.

    Raises:
        Unavailable: the first that is; those that were taken come to their end all the same.
    """
    waiting: list[tuple[Operation, Future[Recorded]]] = []
    for operation in operations:
        waiting.append((operation, _submit(runtime, operation, [future for _, future in waiting])))
    return [_answer(runtime, operation, future) for operation, future in waiting]


def _submit(runtime: Runtime, operation: Operation, before: Sequence[Future[Recorded]]) -> Future[Recorded]:
    """Have it written; where the queue is full of those before it, once they are."""
    try:
        return runtime.operations.submit(operation)
    except Unavailable as error:
        if error.code != "journal_busy" or not before:
            raise
    wait(before)
    return runtime.operations.submit(operation)


def _answer(runtime: Runtime, operation: Operation, future: Future[Recorded]) -> Recorded | TallyError:
    try:
        try:
            return future.result()
        except TallyError as error:
            if not may_have_left(error):
                raise
            return answer_from_blocks(runtime, operation, error)
    except Unavailable:
        raise
    except TallyError as error:
        return error


def answer_from_blocks(runtime: Runtime, operation: Operation, error: BaseException) -> Recorded:
    """What becomes of an operation that was refused with `error`; it may wait for files and the database.

    Raises:
        BaseException: `error`, where it is as it says: nothing of that kind is in a block either.
        Conflict: `request_id_conflict`, `refund_exceeds_charge`, `hold_resolved`, `hold_expired`; `entries_missing`.
        BadInput: of a block: `missing_block`, `broken_block`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    request, code = operation.request, getattr(error, "code", "")
    if code == "entry_has_left":
        return _claimed(runtime, operation, error)
    if isinstance(request, Refund):
        entry = _left(runtime, operation.org_id, request.settlement_seq, "settlement")
        if entry is None:
            raise error
        settled: Settled = read_body("settlement", entry.body or "")[1]
        return runtime.operations.submit_here(msgspec.structs.replace(operation, settled=settled)).result()
    if isinstance(request, Settle | ReleaseHold):
        hold = _left(runtime, operation.org_id, request.hold_seq, "hold")
        if hold is not None:
            return _resolved(runtime, operation, hold)
    raise error


def _left(runtime: Runtime, org_id: str, seq: int, kind: str) -> Entry | None:
    """The entry at that place, if it is of that kind and has left the database."""
    with runtime.database.org(org_id) as connection:
        if not 1 <= seq < first_kept_seq(connection, org_id):
            return None
    (entry,) = stream_entries(runtime, org_id, seq, seq)
    return entry if entry.kind == kind else None


def _claimed(runtime: Runtime, operation: Operation, error: BaseException) -> Recorded:
    """The answer of the operation that has claimed this one's id, if this is the same."""
    org_id = operation.org_id
    with runtime.database.org(org_id) as connection:
        seq = claimed_by(connection, org_id, operation.kind, operation.request_id)
    if seq is None:
        raise error
    (entry,) = stream_entries(runtime, org_id, seq, seq)
    stored = _stored(entry)
    if not is_same(operation, stored, None):
        raise Conflict(
            "request_id_conflict",
            f"request id {operation.request_id!r} of {org_id!r} is stored already with other content, as entry {seq}",
            next_step="send another operation under an id of its own, and the same id only with the same content",
            where="request_id",
        )
    return recorded_of(org_id, stored, is_new=False)


def _resolved(runtime: Runtime, operation: Operation, hold: Entry) -> Recorded:
    """The answer of what has resolved a hold, if this is the same; else why it cannot be resolved once more."""
    later = referring_entries(runtime, operation.org_id, hold.seq, "hold")
    account = OrgAccount()
    if later:
        stored = _stored(later[0])
        if stored.kind == operation.kind and is_same(operation, stored, None):
            recorded = recorded_of(operation.org_id, stored, is_new=False)
            used = _used(runtime, operation, hold, stored)
            return msgspec.structs.replace(recorded, usage=used) if used else recorded
        account.resolved[hold.seq] = resolution_of(stored)
    open_hold(account, hold.seq, runtime.clock())  # raises: no hold leaves the database before it is resolved
    raise AssertionError(f"{hold.seq} of {operation.org_id} is open, and has left the database")


def _used(runtime: Runtime, operation: Operation, hold: Entry, settlement: StoredOperation) -> tuple[Receipt, ...]:
    """The receipts of a settlement's events, in the order given.

    Raises:
        Conflict: `request_id_conflict`: one of them has other content than was settled.
    """
    if not operation.events:
        return ()
    found: dict[str, Entry] = {}
    own_from = hold.seq  # what a settlement brings is of its instant, with no other operation between
    names = {one.event.request_id for one in operation.events}
    for entry in stream_entries(runtime, operation.org_id, hold.seq + 1, settlement.seq - 1):
        if entry.body is not None:
            own_from = entry.seq
        elif entry.kind == "usage" and entry.request_id in names:
            found[entry.request_id] = entry
    members = _members_of(hold)
    receipts = []
    for one in operation.events:
        stored = found.get(one.event.request_id)
        if stored is None:
            continue
        event = complete_event(one, {**members, "payer": stored.payer or "seller"})  # what its plan then said
        same = (
            core_json(event) == _core(stored)
            if stored.salt is None
            else event_fingerprint(event, stored.salt) == stored.fingerprint
        )
        if not same:
            raise Conflict(
                "request_id_conflict",
                f"request id {stored.request_id!r} of {stored.org_id!r} is stored already with other content, as "
                f"entry {stored.seq}",
                next_step="send each event under an id of its own, and the same id only with the same content",
                where="events",
            )
        is_own = stored.seq > own_from and stored.recorded_at == settlement.recorded_at
        receipts.append(_receipt(stored, is_own=is_own))
    return tuple(receipts)


def _members_of(hold: Entry) -> Mapping[str, object]:
    """What an event of its settlement has of a hold where it leaves that out."""
    request, _held = read_body("hold", hold.body or "")
    return {
        "user_id": ERASED if hold.user_id is None else hold.user_id,
        "session_id": ERASED if hold.session_id is None else hold.session_id,
        "feature": request.feature,
        "environment": request.environment,
        "action": request.action,
        "api_key_id": request.api_key_id,
    }


def _core(stored: Entry) -> bytes:
    event = entry_event(stored)
    return b"" if event is None else core_json(event)


def _receipt(stored: Entry, *, is_own: bool) -> Receipt:
    return Receipt(
        status="accepted" if is_own else "duplicate",
        org_id=stored.org_id,
        request_id=stored.request_id,
        fingerprint=(stored.fingerprint or b"").hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        leaf=stored.leaf.hex(),
        cost_pico=stored.cost_pico,
        cost_status=stored.status,  # type: ignore[arg-type]
        rate_version=stored.rate_version,
        reason=stored.reason,
    )


def _stored(entry: Entry) -> StoredOperation:
    return StoredOperation(
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
