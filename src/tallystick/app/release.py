"""Release: the work of a hold was not done, and all that it reserved goes back."""

from __future__ import annotations

from concurrent.futures import Future

from tallystick.app.operate import new_salt
from tallystick.app.runtime import Runtime
from tallystick.ledger.operations import Operation, Recorded
from tallystick.ledger.request_checks import release_operation


def submit_release(runtime: Runtime, raw: object) -> Future[Recorded]:
    """Check a release and have it written; it does not wait for that.

    Raises:
        BadInput, Problems: what is wrong with the request.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; also as the future's error.
        NotFound: `hold_unknown`, as the future's error.
        Conflict: `hold_expired`, `hold_resolved` (it is settled), as the future's error.
    """
    return runtime.operations.submit(checked_release(runtime, raw))


def release(runtime: Runtime, raw: object) -> Recorded:
    """As `submit_release`, and waits for the answer."""
    return submit_release(runtime, raw).result()


def checked_release(runtime: Runtime, raw: object, _known_meters: frozenset[str] = frozenset()) -> Operation:
    """The operation that a request asks for; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `submit_release`.
    """
    return release_operation(raw, salt=new_salt(runtime))
