"""Taking in events while the database is away: they wait in a spool on this machine's disk, and are written later.

One rule keeps the answers consistent: **an id that waits in the spool is answered from the spool.** The same content
again is `spooled` again, other content is a conflict. Every other id goes to the journal, and into the spool only when
the journal says that the database cannot be reached. Where one leaves the spool, the ledger has answered for it:

    submit  ─► waits in the spool? ─► yes: `spooled`, or a conflict
                                   └► no: the journal ─► its receipts
                                                      └► database away ─► into the spool, on disk ─► `spooled`
    drain   ─► the oldest that wait ─► the journal ─► taken out only when it has answered

What dies between the last two steps is written again, and the journal knows it for a duplicate. Whether an id has
other content *in the ledger* can only be found out by asking it: such an event is kept among the refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.app.spool_keeper import Answer, Key, SpoolKeeper, key_of, new_answer, receipt_of
from tallystick.core.errors import Unavailable
from tallystick.core.instants import Clock
from tallystick.journal.spool import Spool, Waiting
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

Write = Callable[[Sequence[UsageEvent]], Answer]
"""Hands events to the journal."""
OpenSpool = Callable[[], Spool]

AWAY = "database_unreachable"


class SpoolGate:
    """Between who brings events and the journal: what the journal cannot take because it is away waits on disk.

    A gate that does not spool (`spools` is False) still heeds what an earlier run has left in the spool.
    """

    def __init__(
        self, open_spool: OpenSpool, write: Write, clock: Clock, *, spools: bool, queue_events_max: int
    ) -> None:
        self.spools = spools
        self._write = write
        self._look = open_spool()
        self._keeper = SpoolKeeper(open_spool(), clock, queue_events_max=queue_events_max)

    def submit(self, events: Sequence[UsageEvent]) -> Answer:
        """Receipts for checked events, in order, when each is on disk: in the ledger, or `spooled`.

        Raises:
            Unavailable: what the journal or the spool raises; also as the future's error.
        """
        if self._look.may_hold_any():
            return self._submit_after_looking(events)
        return self._to_journal(events) if self.spools else self._write(events)

    def close(self) -> None:
        """Finish what was begun; nothing may be submitted after."""
        self._keeper.close()
        self._look.close()

    def _submit_after_looking(self, events: Sequence[UsageEvent]) -> Answer:
        answer = new_answer()

        def found(waiting: dict[Key, Waiting]) -> None:
            rest = [event for event in events if key_of(event) not in waiting]

            def in_order(receipts: Sequence[Receipt]) -> list[Receipt]:
                of_rest = iter(receipts)
                waits = (waiting.get(key_of(event)) for event in events)
                return [
                    next(of_rest) if one is None else receipt_of(event, one)
                    for event, one in zip(events, waits, strict=True)
                ]

            if rest:
                _chain(self._to_journal(rest), answer, in_order)
            else:
                answer.set_result(in_order(()))

        self._keeper.find(events, answer, found)
        return answer

    def _to_journal(self, events: Sequence[UsageEvent]) -> Answer:
        answer = new_answer()

        def done(written: Answer) -> None:
            error = written.exception()
            if error is None:
                answer.set_result(written.result())
            elif self._is_for_the_spool(error):
                # Perhaps it was written, and only the answer was lost: then the journal knows it when it is drained.
                self._keeper.add(events, answer)
            else:
                answer.set_exception(error)

        try:
            written = self._write(events)
        except Unavailable as error:
            if not self._is_for_the_spool(error):
                raise
            self._keeper.add(events, answer)
        else:
            written.add_done_callback(done)
        return answer

    def _is_for_the_spool(self, error: BaseException) -> bool:
        return self.spools and isinstance(error, Unavailable) and error.code == AWAY


def _chain(source: Answer, target: Answer, change: Callable[[list[Receipt]], list[Receipt]]) -> None:
    def done(future: Answer) -> None:
        error = future.exception()
        if error is None:
            target.set_result(change(future.result()))
        else:
            target.set_exception(error)

    source.add_done_callback(done)
