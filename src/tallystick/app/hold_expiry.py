"""What comes to its end by itself: holds that nobody resolved, and credits that nobody spent, each by an entry.

A caller that dies between authorize and settle leaves a hold behind. It blocks its customer's credits for no longer
than its life: before the next decision on the org it is ended anyway, and for orgs that nobody asks for, the loop does
it (`app.account_loop`), or `tally holds expire`. Two who do it at once end each hold once: it is the org's head that is
locked, and an entry of the ledger that says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future

from tallystick.app.runtime import Runtime
from tallystick.journal.operations_due import orgs_due
from tallystick.journal.operations_writer import KeptUp

ORGS_AT_ONCE = 100
"""How many orgs one look takes: what one group of the writer holds, and no more."""


def expire_due(runtime: Runtime) -> int:
    """End every hold and every lot of credits whose life is over at this instant: how many entries that made.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, …; what was ended until then stays so.
    """
    return sum(expire_some(runtime))


def expire_some(runtime: Runtime) -> Iterator[int]:
    """The same, a number of orgs at a time: how many entries each turn made."""
    while True:
        with runtime.database.operator() as connection:
            orgs = orgs_due(connection, runtime.clock(), limit=ORGS_AT_ONCE)
        entries = keep_up_all(runtime, orgs)
        if not entries:
            return
        yield entries


def keep_up_all(runtime: Runtime, orgs: list[str]) -> int:
    """End what is over in these orgs' accounts, and give the month's included credits: how many entries that made."""
    futures: list[Future[KeptUp]] = [runtime.operations.keep_up(org_id) for org_id in orgs]
    return sum(future.result().entries for future in futures)
