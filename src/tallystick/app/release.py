"""Release: the work of a hold was not done, and all that it reserved goes back."""

from __future__ import annotations

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import new_salt
from tallystick.app.runtime import Runtime
from tallystick.ledger.operations import Operation, Recorded
from tallystick.ledger.request_checks import release_operation


def release(runtime: Runtime, raw: object) -> Recorded:
    """Check a release, have it written, and wait for the answer.

    Raises:
        BadInput, Problems: what is wrong with the request.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
        NotFound: `hold_unknown`.
        Conflict: `hold_expired`, `hold_resolved` (it is settled).
        TallyError: of a hold that has left the database what `left_entries.answer_from_blocks` raises.
    """
    return submit_and_wait(runtime, checked_release(runtime, raw))


def checked_release(runtime: Runtime, raw: object, _known_meters: frozenset[str] = frozenset()) -> Operation:
    """The operation that a request asks for; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `release`.
    """
    return release_operation(raw, salt=new_salt(runtime))
