"""The usage events of settlements: completed from their holds, priced, compared with what is stored, and told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.core.errors import BadInput, Conflict
from tallystick.journal.operations_group import Appender, OrgWork
from tallystick.journal.operations_load import HoldCache
from tallystick.journal.operations_read import Found
from tallystick.journal.prepare import Row, prepare, too_old
from tallystick.journal.writer import Stored, stored_as
from tallystick.ledger.encoding import SALT_BYTES, core_json, event_fingerprint
from tallystick.ledger.entry import ERASED
from tallystick.ledger.operations import Operation, Recorded
from tallystick.ledger.org_machine import payer_of
from tallystick.ledger.receipt import Receipt
from tallystick.ledger.request_checks import complete_event
from tallystick.rates.pricing import RateCard
from tallystick.usage.event import UsageEvent


class Prepared(NamedTuple):
    """An event of a settlement, whole, and as it will be written."""

    event: UsageEvent
    row: Row


class SettledUsage:
    """The usage of the settlements of one group.

    Args:
        found, appender: what was read, and what the group appends.
        cache: of holds.
        card: prices the events.
        random_bytes: where salts come from.
        known_since: since when repeated events are known as such; None for ever.
    """

    def __init__(
        self,
        found: Found,
        appender: Appender,
        cache: HoldCache,
        card: RateCard,
        random_bytes: Callable[[int], bytes],
        known_since: datetime | None,
    ) -> None:
        self._found = found
        self._appender = appender
        self._cache = cache
        self._card = card
        self._random_bytes = random_bytes
        self._known_since = known_since
        self._prepared: dict[int, list[Prepared]] = {}

    def prepare(self, items: Iterable[Any]) -> None:
        """Price and encode the events of all settlements at once, as far as their holds are known."""
        todo: list[tuple[int, list[UsageEvent]]] = []
        for item in items:
            if isinstance(item, Operation) and item.events and item.org_id in self._found.orgs:
                events = self._whole_events(item)
                if events is not None:
                    todo.append((id(item), events))
        rows = iter(self._rows([event for _, events in todo for event in events]))
        for place, events in todo:
            self._prepared[place] = [Prepared(event, next(rows)) for event in events]

    def of(self, operation: Operation) -> list[Prepared]:
        """A settlement's events, in the order given."""
        used = self._prepared.get(id(operation))
        if used is None:  # its hold was made in this very group
            events = self._whole_events(operation) or []
            used = [Prepared(*pair) for pair in zip(events, self._rows(events), strict=True)]
        return used

    def weigh(self, org: OrgWork, used: Iterable[Prepared]) -> tuple[list[Prepared], int, bool]:
        """Which of the events are new, what all of them cost us, and whether all of that has a price.

        Raises:
            Conflict: `request_id_conflict`: one is stored with other content.
            BadInput: one cannot be stored at all.
        """
        new, cost_pico, priced = [], 0, True
        for one in used:
            event, row = one
            stored = self._stored(org.org_id, event.request_id)
            if stored is None:
                _check_new(org, event, row)
                new.append(one)
                total_pico, status = row.cost_pico, row.status
            elif not self._is_same(event, row, stored):
                raise Conflict(
                    "request_id_conflict",
                    f"request id {event.request_id!r} of {org.org_id!r} is stored already with other content, as "
                    f"entry {stored.seq}",
                    next_step="send each event under an id of its own, and the same id only with the same content",
                    where="events",
                )
            else:
                total_pico, status = stored.cost_pico, stored.status
            if event.payer == "seller":
                cost_pico += total_pico or 0
                priced = priced and status != "unpriced"
        return new, cost_pico, priced

    def with_receipts(self, recorded: Recorded) -> Recorded:
        """A settlement's answer with the receipts of its events: the same whenever it is asked for.

        `accepted` are those that stand right before the settlement, recorded when it was.
        """
        request: Any = recorded.request
        if not request.events:
            return recorded
        found = {
            request_id: stored
            for request_id in request.events
            if (stored := self._stored(recorded.org_id, request_id)) is not None
        }
        seqs = {stored.seq: stored.recorded_at for stored in found.values()}
        first_seq = recorded.seq
        while seqs.get(first_seq - 1) == recorded.recorded_at:
            first_seq -= 1
        usage = tuple([_receipt(recorded.org_id, name, stored, first_seq) for name, stored in found.items()])
        return msgspec.structs.replace(recorded, usage=usage)

    def _stored(self, org_id: str, request_id: str) -> Stored | None:
        """What is stored under a request id, before or by this group, as far as it was looked for."""
        written = self._appender.usage.get((org_id, request_id))
        if written is None:
            return self._found.usage.get((org_id, request_id))
        return stored_as(*written)

    def _is_same(self, event: UsageEvent, row: Row, stored: Stored) -> bool:
        """Whether the event is the one that is stored; what was erased of that is left out of the comparison."""
        if stored.salt is None:
            return core_json(event) == self._found.cores.get((event.org_id, event.request_id))
        return stored.salt == row.salt or event_fingerprint(event, stored.salt) == stored.fingerprint

    def _whole_events(self, operation: Operation) -> list[UsageEvent] | None:
        """The events with what they left out; None when their hold is not known here."""
        request: Any = operation.request
        org = self._found.orgs[operation.org_id]
        row = org.holds.get(request.hold_seq)
        if row is None:
            return None
        hold = org.account.holds.get(request.hold_seq) or self._cache.read(row)
        asked, decision = hold.request, hold.held.decision
        payer = asked.payer
        if payer is None:
            contract = self._found.contracts.get(decision.contract_sha256)
            payer = "seller" if contract is None else payer_of(contract, decision.plan)
        members = {
            "user_id": ERASED if row.user_id is None else row.user_id,
            "session_id": ERASED if row.session_id is None else row.session_id,
            "feature": asked.feature,
            "environment": asked.environment,
            "action": asked.action,
            "api_key_id": asked.api_key_id,
            "payer": payer,
        }
        return [complete_event(event, members) for event in operation.events]

    def _rows(self, events: Sequence[UsageEvent]) -> list[Row]:
        if not events:
            return []
        salts = self._random_bytes(SALT_BYTES * len(events))
        return prepare(events, self._appender.now, self._card, salts, known_since=self._known_since).rows


def _check_new(org: OrgWork, event: UsageEvent, row: Row) -> None:
    refusal = row.refusal
    if refusal is None and row.time_us < org.head.known_since_us:
        refusal = too_old(org.head.known_since_us)
    if refusal is not None:
        raise BadInput(
            refusal.code,
            f"the event {event.request_id!r}: {refusal.reason}",
            next_step="mend the event, or settle without it",
            where="events",
        )


def _receipt(org_id: str, request_id: str, stored: Stored, first_seq: int) -> Receipt:
    return Receipt(
        status="accepted" if stored.seq >= first_seq else "duplicate",
        org_id=org_id,
        request_id=request_id,
        fingerprint=stored.fingerprint.hex(),
        seq=stored.seq,
        recorded_at=stored.recorded_at,
        leaf=stored.leaf.hex(),
        cost_pico=stored.cost_pico,
        cost_status=stored.status,
        rate_version=stored.rate_version,
        reason=stored.reason,
    )
