"""Whether an operation is one that is stored already, and the answer that it had."""

from __future__ import annotations

from tallystick.journal.operations_load import StoredOperation
from tallystick.ledger.encoding import operation_fingerprint, personal_json
from tallystick.ledger.operation_body import encode_part, read_body
from tallystick.ledger.operation_entry import body_request
from tallystick.ledger.operations import Operation, Recorded


def is_same(operation: Operation, stored: StoredOperation, written: Recorded | None) -> bool:
    """Whether the operation is the one that is stored."""
    request = encode_part(operation.request)
    if stored.salt is None:  # its personal data was erased: the rest is compared
        return request == (body_request(stored.body.encode()) if written is None else encode_part(written.request))
    user_id, session_id, attributes = operation.user_id, operation.session_id, operation.attributes
    if operation.kind in ("settlement", "release"):  # who does it is whose hold it is, unless somebody else says so
        user_id, session_id = user_id or stored.user_id, session_id or stored.session_id
    personal = personal_json(session_id, user_id, attributes)
    names = (operation.kind, operation.org_id, operation.request_id)
    return operation_fingerprint(stored.salt, *names, request, personal) == stored.fingerprint


def recorded_of(org_id: str, stored: StoredOperation, *, is_new: bool) -> Recorded:
    """The answer to an operation, from its entry."""
    request, result = read_body(stored.kind, stored.body)
    return Recorded(
        org_id=org_id,
        kind=stored.kind,
        seq=stored.seq,
        request_id=stored.request_id,
        recorded_at=stored.recorded_at,
        request=request,
        result=result,
        fingerprint=stored.fingerprint.hex(),
        leaf=stored.leaf.hex(),
        rate_version=stored.rate_version,
        refers_to_seq=stored.refers_to_seq,
        is_new=is_new,
    )
