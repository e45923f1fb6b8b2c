"""An unknown price is never zero: when it becomes known, a correction entry says what the event cost.

The entry itself stays as it was, unpriced, and the correction refers to it. What no rate card knows yet stays
listed, and is looked at again next time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tallystick.app.runtime import Runtime
from tallystick.journal.corrections import add_corrections, lock_org, orgs_with_unpriced, unpriced_entries
from tallystick.journal.prepare import fits
from tallystick.ledger.entry import entry_event
from tallystick.rates.steps import CostRow

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
    with runtime.database.operator() as connection:
        orgs = orgs_with_unpriced(connection)
    for org_id in orgs:
        after = 0
        while True:
            with runtime.database.writer() as connection:
                head = lock_org(connection, org_id)
                entries = unpriced_entries(connection, org_id, after_seq=after, limit=_BATCH_ENTRIES)
                priced = [
                    (entry, runtime.card.price_row(event))
                    for entry in entries
                    if (event := entry_event(entry)) is not None
                ]
                known = [(entry, cost) for entry, cost in priced if cost.total_pico is not None and _fits(cost)]
                add_corrections(connection, head, known, runtime.clock())
            corrected += len(known)
            corrected_pico += sum(cost.total_pico or 0 for _, cost in known)
            for entry, cost in priced:
                if cost.total_pico is None or not _fits(cost):
                    reason = cost.reason or "its cost is beyond what one entry can hold"
                    remaining[entry.provider, entry.model or "", reason] += 1
            if len(entries) < _BATCH_ENTRIES:
                break
            after = entries[-1].seq
    listed = [StillUnpriced(*key, requests) for key, requests in remaining.most_common()]
    return Repricing(runtime.card.version, corrected, corrected_pico, tuple(listed))


def _fits(cost: CostRow) -> bool:
    return fits(cost.total_pico, cost.amount_pico)
