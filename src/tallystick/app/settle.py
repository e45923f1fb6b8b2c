"""Settle: the work of a hold is done; its usage is recorded, what the contract says is charged, the rest goes back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import new_salt, with_meters
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Problems
from tallystick.ledger.operations import Operation, Recorded
from tallystick.ledger.request_checks import settle_operation


def settle(runtime: Runtime, raw: object) -> Recorded:
    """Check a settlement, have it written, and wait for the answer.

    Args:
        runtime: an open one.
        raw: the decoded JSON value, see `ledger.request_checks.settle_operation`.

    Raises:
        BadInput, Problems: what is wrong with the request or with one of its events.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
        NotFound: `hold_unknown`.
        Conflict: `hold_expired`, `hold_resolved` (settled otherwise, or released), `settle_above_hold`,
            `request_id_conflict` (an event's id has other content), `usage_settled_already`, `usage_before_hold` (an
            event is not this hold's work). Nothing moved then.
        TallyError: of a hold that has left the database what `left_entries.answer_from_blocks` raises.
    """
    return submit_and_wait(runtime, with_meters(runtime, partial(settle_by_own_clock, runtime, raw)))


def checked_settle(runtime: Runtime, raw: object, known_meters: frozenset[str]) -> Operation:
    """The operation that a request asks for, by the machine's clock; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `settle`; `time_in_future` also where a test org's own clock is ahead.
    """
    return settle_operation(raw, salt=new_salt(runtime), known_meters=known_meters, now=runtime.clock())


def settle_by_own_clock(runtime: Runtime, raw: object, known_meters: frozenset[str]) -> Operation:
    """As `checked_settle`, but where an event is ahead of the machine's clock the org's own is looked at, which may ask
    the database: nothing for an event loop.
    """
    try:
        return checked_settle(runtime, raw, known_meters)
    except BadInput as error:
        problems = error.problems if isinstance(error, Problems) else (error,)
        if not isinstance(raw, Mapping) or all(problem.code != "time_in_future" for problem in problems):
            raise
        its_now = runtime.now(str(raw.get("org_id")))
        if its_now <= runtime.clock():
            raise
    return settle_operation(raw, salt=new_salt(runtime), known_meters=known_meters, now=its_now)
