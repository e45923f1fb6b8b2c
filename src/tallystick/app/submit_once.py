"""What must not be done twice is asked about before its terms are: sent again, it has the answer that it had first."""

from __future__ import annotations

from collections.abc import Callable

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.runtime import Runtime
from tallystick.journal.accounts import claimed_by
from tallystick.ledger.operations import Operation, Recorded


def submit_once(runtime: Runtime, operation: Operation, *, if_new: Callable[[], None]) -> Recorded:
    """Have an operation decided and written, and wait for it; one whose id is claimed has the answer that it had first.

    Args:
        runtime: an open one.
        operation: a grant or an override.
        if_new: asked first when its id is not claimed; it raises what speaks against it.

    Raises:
        TallyError: what `if_new` and `left_entries.submit_and_wait` raise.
    """
    with runtime.database.org(operation.org_id) as connection:
        seq = claimed_by(connection, operation.org_id, operation.kind, operation.request_id)
    if seq is None:
        if_new()
    return submit_and_wait(runtime, operation)
