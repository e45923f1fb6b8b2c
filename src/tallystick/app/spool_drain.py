"""Emptying the spool: its events go through the journal in the order in which they came, one process at a time.

An event leaves the spool only when the journal has answered for it. A process that dies before that leaves it where it
is; it is offered again, and the journal knows what it has. So an event is in the ledger once however often it was
offered, and by how many.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import NamedTuple

from tallystick.app.spool_keeper import Answer
from tallystick.core.errors import TallyError, Unavailable
from tallystick.core.instants import Clock
from tallystick.journal.spool import Spool, Waiting
from tallystick.journal.steps import reached
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

Write = Callable[[Sequence[UsageEvent], bytes], Answer]
"""Hands events to the journal, with the salts of their fingerprints, one after the other."""

DRAIN_EVENTS = 2000
"""Events that leave the spool together: one transaction of the journal, and one of the spool."""
LOOK_SECONDS = 0.5
"""How often a running process looks whether anything waits, and whether the database is back."""
_REFUSED_LOGGED_MAX = 20

_log = logging.getLogger("tallystick.spool")
_Refusal = tuple[Waiting, str, str]


class DrainReport(NamedTuple):
    """What draining did.

    Attributes:
        written: events that are in the ledger now and wait no more.
        refused: events that the ledger did not take; they are kept in the spool, apart.
        busy: another process was draining, and nothing was done here.
    """

    written: int = 0
    refused: int = 0
    busy: bool = False


def drain(
    spool: Spool,
    write: Write,
    clock: Clock,
    *,
    advance: Callable[[int], object] = lambda _: None,
    stopping: Callable[[], bool] = lambda: False,
) -> DrainReport:
    """Write what waits, until nothing does.

    Args:
        spool: of the calling thread.
        write: offers events to the journal.
        clock: the present instant.
        advance: is called with the number of events that have left the spool.
        stopping: whether to leave the rest to somebody else.

    Raises:
        Unavailable: the database is away, or a disk is full; what was not written still waits.
    """
    written = refused = 0
    with spool.drain_lock() as ours:
        if not ours:
            return DrainReport(busy=True)
        while not stopping() and (batch := spool.first(DRAIN_EVENTS)):
            reached("drain.read")
            done, refusals = _offer(write, batch)
            reached("drain.written")
            spool.settle(done, refusals, clock())
            reached("drain.settled")
            _log_refused(refusals)
            written += len(done)
            refused += len(refusals)
            advance(len(batch))
        spool.tidy()
    return DrainReport(written, refused)


def _offer(write: Write, batch: Sequence[Waiting]) -> tuple[list[Waiting], list[_Refusal]]:
    try:
        receipts = write([one.event for one in batch], b"".join(one.salt for one in batch)).result()
    except TallyError:
        raise
    except Exception:
        # Not a matter of the database being away: one of them does harm. Find out which, and write the others.
        return _offer_each(write, batch)
    done: list[Waiting] = []
    refusals: list[_Refusal] = []
    for one, receipt in zip(batch, receipts, strict=True):
        _sort(one, receipt, done, refusals)
    return done, refusals


def _offer_each(write: Write, batch: Sequence[Waiting]) -> tuple[list[Waiting], list[_Refusal]]:
    """Offer one at a time. Where none can be written it is not theirs to answer for: all of them go on waiting."""
    done: list[Waiting] = []
    refusals: list[_Refusal] = []
    broken: list[tuple[Waiting, Exception]] = []
    for one in batch:
        try:
            receipts = write([one.event], one.salt).result()
        except TallyError:
            raise
        except Exception as error:
            broken.append((one, error))
        else:
            _sort(one, receipts[0], done, refusals)
    if len(broken) == len(batch):
        raise broken[0][1]
    refusals += [(one, "internal_error", f"{type(error).__name__}: {error}"[:500]) for one, error in broken]
    return done, refusals


def _sort(one: Waiting, receipt: Receipt, done: list[Waiting], refusals: list[_Refusal]) -> None:
    if receipt.status in ("accepted", "duplicate"):
        done.append(one)
    else:
        refusals.append((one, receipt.code or receipt.status, receipt.reason or ""))


def _log_refused(refusals: Sequence[_Refusal]) -> None:
    for one, code, reason in refusals[:_REFUSED_LOGGED_MAX]:
        _log.warning("the ledger refused an event from the spool (%s): %s", code, reason or one.event.request_id)
    if len(refusals) > _REFUSED_LOGGED_MAX:
        _log.warning("and %s more; `tally spool` lists them", len(refusals) - _REFUSED_LOGGED_MAX)


class Drainer:
    """A thread that drains the spool whenever something waits and the database is there, until `stop()`."""

    def __init__(self, open_spool: Callable[[], Spool], write: Write, clock: Clock) -> None:
        self._open_spool = open_spool
        self._write = write
        self._clock = clock
        self._stopping = threading.Event()
        self._tell_what_waits()
        self._thread = threading.Thread(target=self._run, name="tally-spool-drain", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin no more; what is being written is finished."""
        self._stopping.set()
        self._thread.join()

    def _tell_what_waits(self) -> None:
        """A loss of power may have taken the flag, and left the events that it stands for."""
        with closing(self._open_spool()) as spool:
            try:
                spool.tidy()
            except Unavailable as error:
                _log.error("the spool cannot be looked into: %s", error.detail)

    def _run(self) -> None:
        spool = self._open_spool()
        trouble = ""
        while not self._stopping.is_set():
            if spool.may_hold_any():
                try:
                    report = drain(spool, self._write, self._clock, stopping=self._stopping.is_set)
                    if report.written or report.refused:
                        _log.warning("drained the spool: %s written, %s refused", report.written, report.refused)
                    trouble = ""
                except Unavailable as error:
                    # That the database is away is why events wait; it has been said, and is not said every time.
                    if error.code not in (trouble, "database_unreachable"):
                        _log.warning("the spool cannot be drained: %s", error.detail)
                    trouble = error.code
                except Exception as error:
                    if repr(error) != trouble:
                        _log.exception("the spool cannot be drained")
                    trouble = repr(error)
            self._stopping.wait(LOOK_SECONDS)
        spool.close()
