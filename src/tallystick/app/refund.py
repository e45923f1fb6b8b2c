"""Refund: charged credits go back to the grants that they came from."""

from __future__ import annotations

from concurrent.futures import Future

from tallystick.app.operate import new_salt
from tallystick.app.runtime import Runtime
from tallystick.ledger.account_checks import refund_operation
from tallystick.ledger.operations import Operation, Recorded


def submit_refund(runtime: Runtime, raw: object) -> Future[Recorded]:
    """Check a refund and have it written; it does not wait for that. The same request id again is the same refund.

    Args:
        runtime: an open one.
        raw: the decoded JSON value, with the members `ledger.account_checks.REFUND_MEMBERS`; without `credits` all
            goes back that has not gone back yet.

    Raises:
        BadInput, Problems: what is wrong with the request.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; also as the future's error.
        NotFound: `settlement_unknown`, as the future's error.
        Conflict: `refund_exceeds_charge`, `request_id_conflict`, as the future's error.
    """
    return runtime.operations.submit(checked_refund(runtime, raw))


def refund(runtime: Runtime, raw: object) -> Recorded:
    """As `submit_refund`, and waits for the answer."""
    return submit_refund(runtime, raw).result()


def checked_refund(runtime: Runtime, raw: object, _known_meters: frozenset[str] = frozenset()) -> Operation:
    """The operation that a request asks for; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `submit_refund`.
    """
    return refund_operation(raw, salt=new_salt(runtime))
