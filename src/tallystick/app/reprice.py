"""An unknown price is never zero: when it becomes known, a correction entry says what the event cost.

The entry itself stays as it was, unpriced, and the correction refers to it. What no rate card knows yet stays
listed, and is looked at again next time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tallystick.app.runtime import Runtime
from tallystick.journal.corrections import add_corrections, lock_org, orgs_with_unpriced, unpriced_facts
from tallystick.journal.writer import fits

_BATCH_ENTRIES = 2000


@dataclass(frozen=True, slots=True)
class StillUnpriced:
    """Requests that still have no price: how many, of which model, and why."""

    provider: str | None
    model: str
    reason: str
    requests: int


@dataclass(frozen=True, slots=True)
class Repricing:
    """What a run did: `corrected` entries for `corrected_pico` pico-USD together, and what remains."""

    rate_version: str
    corrected: int
    corrected_pico: int
    still_unpriced: tuple[StillUnpriced, ...]


def reprice(runtime: Runtime) -> Repricing:
    """Price every unpriced entry that has no correction with the newest rate card; running it again does no more.

    Raises:
        Unavailable: the database is gone; what was corrected stays, and running it again is safe.
    """
    corrected = corrected_pico = 0
    remaining: Counter[tuple[str | None, str, str]] = Counter()
    with runtime.database.connection() as connection:
        orgs = orgs_with_unpriced(connection)
    for org_id in orgs:
        after = 0
        while True:
            with runtime.database.connection() as connection:
                last_seq = lock_org(connection, org_id)
                facts = unpriced_facts(connection, org_id, after_seq=after, limit=_BATCH_ENTRIES)
                priced = [(seq, event, runtime.card.price_event(event)) for seq, event in facts]
                known = [one for one in priced if one[2].total_pico is not None and fits(one[2])]
                add_corrections(connection, org_id, last_seq, known, runtime.clock())
            corrected += len(known)
            corrected_pico += sum(cost.total_pico or 0 for _, _, cost in known)
            for _, event, cost in priced:
                if cost.total_pico is None or not fits(cost):
                    reason = cost.reason or "its cost is beyond what one entry can hold"
                    remaining[event.provider, event.model, reason] += 1
            if len(facts) < _BATCH_ENTRIES:
                break
            after = facts[-1][0]
    listed = [StillUnpriced(*key, requests) for key, requests in remaining.most_common()]
    return Repricing(runtime.card.version, corrected, corrected_pico, tuple(listed))
