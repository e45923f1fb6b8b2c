"""Events of payment providers that wait are tried again by themselves: killed on their way, or of invoices that were
not issued yet. What only a person can say the invoice of waits for that person. Nothing is asked of a provider, and
what is counted is counted once, however often it is tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from tallystick.app.payment_events import retry_event
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Unavailable
from tallystick.journal.payment_events import Place, waiting_events

MAY_COME = ("invoice_not_issued", "unknown_invoice", "payment_not_counted")
"""Why an event waits for what may come by itself."""
FOR = timedelta(days=90)
"""For how long after it was received it is tried."""
_PAGE = 500
_log = logging.getLogger("tallystick.payments")


@dataclass(slots=True)
class Retried:
    """How many events came to an end, how many wait still, and what went wrong with single ones."""

    settled: int = 0
    waiting: int = 0
    errors: list[Exception] = field(default_factory=list)


def retry_waiting(runtime: Runtime, is_stopping: Callable[[], bool] = lambda: False) -> Retried:
    """Try each event once more that is pending, or waits for what may come by itself, those first that came first.

    One that goes wrong keeps no other waiting; it is among `errors`.

    Raises:
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; what is left is the next time's.
    """
    done = Retried()
    since = runtime.clock() - FOR
    after: Place | None = None
    while not is_stopping():
        with runtime.database.operator() as connection:
            page = waiting_events(connection, codes=MAY_COME, since=since, after=after, limit=_PAGE)
        if not page:
            break
        for place in page:
            if is_stopping():
                break
            _retry(runtime, place, done)
        after = page[-1]
    return done


def _retry(runtime: Runtime, place: Place, done: Retried) -> None:
    try:
        stored = retry_event(runtime, place.provider, place.event_id)
    except Unavailable:
        raise
    except Exception as error:
        _log.exception("the event %s of %s could not be tried again", place.event_id, place.provider)
        done.errors.append(error)
        done.waiting += 1
        return
    if stored.state in ("pending", "unmatched"):
        done.waiting += 1
    else:
        done.settled += 1
