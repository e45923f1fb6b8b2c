"""What an operator sees of the spool, and does with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.app.spool_drain import drain
from tallystick.core.errors import NotFound
from tallystick.core.instants import Clock
from tallystick.journal.spool import RefusedEvent, Spool
from tallystick.journal.waiting_queue import QueueState
from tallystick.ledger.encoding import SALT_BYTES

_TURN_SECONDS = 0.1


class Drained(NamedTuple):
    """What became of the events that waited when draining began: how many, and of those how many were refused."""

    waited: int
    refused: int


def spool_contents(settings: Settings) -> tuple[QueueState, list[RefusedEvent]]:
    """How much waits, and what the ledger refused; no database is asked.

    Raises:
        Unavailable: `spool_unusable`.
    """
    with closing(_spool_of(settings)) as spool:
        return spool.state(), spool.refused()


def drain_all(runtime: Runtime, advance: Callable[[int], object] = lambda _: None) -> Drained:
    """Write everything that waits; what another process is draining is waited for.

    Raises:
        Unavailable: the database is away, or a disk is full; what was not written still waits.
    """
    with closing(runtime.open_spool()) as spool:
        before = left = spool.state()
        while left.waiting:
            if drain(spool, runtime.write, runtime.clock).busy:
                time.sleep(_TURN_SECONDS)
            now = spool.state()
            advance(max(0, left.waiting - now.waiting))
            left = now
        return Drained(before.waiting, max(0, left.refused - before.refused))


def retry_refused(settings: Settings, clock: Clock) -> int:
    """Let what was refused wait once more, to be offered again; how many events that are.

    Raises:
        Unavailable: `storage_full` or `spool_unusable`; then nothing has changed.
    """
    with closing(_spool_of(settings)) as spool:
        return spool.retry(lambda: os.urandom(SALT_BYTES), clock())


def dismiss_refused(runtime: Runtime, org_id: str, request_id: str) -> int:
    """Drop what was refused under an id, because somebody has seen to it; how many events that were.

    It is usage that is never recorded: that somebody has said so is on the audit trail, in the database.

    Raises:
        NotFound: `not_refused`.
        Unavailable: `storage_full`, `spool_unusable` or `database_unreachable`; then nothing has changed.
    """
    with closing(_spool_of(runtime.settings)) as spool:
        codes = [one.code for one in spool.refused() if (one.org_id, one.request_id) == (org_id, request_id)]
        with runtime.database.operator() as connection:
            after = {"events": len(codes), "code": codes[0] if codes else None}
            record_act(connection, Act("spool.dismiss", request_id, runtime.clock(), org_id, after=after))
            count = spool.dismiss(org_id, request_id)
            if not count:
                raise NotFound(
                    "not_refused",
                    f"no event {request_id!r} of {org_id!r} is among the refused",
                    next_step="see `tally spool` for those that are",
                )
    return count


def _spool_of(settings: Settings) -> Spool:
    return Spool(settings.data_dir, events_max=settings.spool_events_max)
