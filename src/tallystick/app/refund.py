"""Refund: charged credits go back to the grants that they came from."""

from __future__ import annotations

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import new_salt
from tallystick.app.runtime import Runtime
from tallystick.ledger.account_checks import refund_operation
from tallystick.ledger.operations import Operation, Recorded


def refund(runtime: Runtime, raw: object) -> Recorded:
    """Give charged credits back, however old the charge is; the same request id again is the same refund.

    A charge whose entry has left the database is read from its block.

    Args:
        runtime: an open one.
        raw: the decoded JSON value, with the members `ledger.account_checks.REFUND_MEMBERS`; without `credits` all
            goes back that has not gone back yet.

    Raises:
        BadInput, Problems: what is wrong with the request; of a block: `missing_block`, `broken_block`.
        NotFound: `settlement_unknown`.
        Conflict: `refund_exceeds_charge`, `request_id_conflict`; `entries_missing`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    return submit_and_wait(runtime, checked_refund(runtime, raw))


def checked_refund(runtime: Runtime, raw: object, _known_meters: frozenset[str] = frozenset()) -> Operation:
    """The operation that a request asks for; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `refund`.
    """
    return refund_operation(raw, salt=new_salt(runtime))
