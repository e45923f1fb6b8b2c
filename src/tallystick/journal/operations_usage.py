"""The usage events of settlements: completed from their holds, priced, compared with what is stored, and told of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from tallystick.core.errors import BadInput, Conflict
from tallystick.journal.operations_group import Appender, OrgWork
from tallystick.journal.operations_load import HoldCache
from tallystick.journal.operations_read import Found
from tallystick.journal.prepare import Row, prepare, too_old
from tallystick.journal.usage_found import FoundUsage
from tallystick.journal.writer import Stored, stored_as
from tallystick.ledger.encoding import SALT_BYTES, core_json, event_fingerprint
from tallystick.ledger.entry import ERASED
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Operation, Recorded
from tallystick.ledger.org_account import OpenHold
from tallystick.ledger.org_machine import payer_of
from tallystick.ledger.receipt import Receipt
from tallystick.ledger.request_checks import complete_event
from tallystick.rates.pricing import RateCard
from tallystick.usage.event import UsageEvent


class NotLookedFor(Exception):
    """An event is taken only if it is stored already, and was not looked for: the group is to be read once more."""


class Prepared(NamedTuple):
    """An event of a settlement, whole, and as it will be written."""

    event: UsageEvent
    row: Row


class Work(NamedTuple):
    """What the work of a hold was, as its settlement tells it.

    Attributes:
        new: events that the settlement brings.
        before: those that were stored before: request id and sequence.
        cost_pico: what it cost us, in pico-USD, as far as that counts and has a price.
        priced: whether all of what counts has one.
    """

    new: list[Prepared]
    before: list[tuple[str, int]]
    cost_pico: int
    priced: bool


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
        self._settled: dict[tuple[str, str], int] = {}  # by this group: the settlement, by org and request id
        self._before: set[tuple[str, str]] = set()  # of those, what was stored before the settlement that names it

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

    def weigh(
        self, org: OrgWork, hold: OpenHold, used: Iterable[Prepared], free_environments: AbstractSet[str]
    ) -> Work:
        """What a hold's work was, as these events tell it.

        Of it is what was recorded after the hold, and is no other settlement's. What an entry was corrected to before
        counts as its cost.

        Args:
            free_environments: those whose usage does not count (`settlement_charge.free_environments`).

        Raises:
            Conflict: `request_id_conflict`: one is stored with other content; `usage_settled_already`: one is another
                settlement's; `usage_before_hold`: one is stored since before the hold was made.
            BadInput: one cannot be stored at all.
            NotLookedFor: one is too old to be taken, unless it is stored.
        """
        new, before, cost_pico, priced = [], [], 0, True
        for one in used:
            event, row = one
            found = self._found_of(org.org_id, event.request_id)
            if found is None:
                self._check_new(org, event, row)
                new.append(one)
                total_pico = row.cost_pico
            else:
                self._check_same(event, row, found.stored)
                _check_free(event, hold, found)
                before.append((event.request_id, found.stored.seq))
                total_pico = found.cost_pico
            if event.payer == "seller" and event.environment not in free_environments:
                cost_pico += total_pico or 0
                priced = priced and total_pico is not None
        return Work(new, before, cost_pico, priced)

    def settled(self, org: OrgWork, work: Work, seq: int) -> None:
        """The work is that of the settlement with this sequence: no other can name any of it."""
        for event, _ in work.new:
            self._settled[org.org_id, event.request_id] = seq
        for request_id, usage_seq in work.before:
            self._settled[org.org_id, request_id] = seq
            self._before.add((org.org_id, request_id))
            org.settled.append((usage_seq, seq))

    def check(self, used: Iterable[Prepared]) -> None:
        """Whether a settlement that is known brings the events that it brought then.

        Raises:
            Conflict: `request_id_conflict`.
        """
        for event, row in used:
            found = self._found_of(event.org_id, event.request_id)
            if found is not None:  # else it has left the database, and cannot be compared
                self._check_same(event, row, found.stored)

    def with_receipts(self, recorded: Recorded) -> Recorded:
        """A settlement's answer with the receipts of its events: the same whenever it is asked for.

        `accepted` are those that it has stored itself, `duplicate` those that were stored before.
        """
        request: Any = recorded.request
        org_id, usage = recorded.org_id, []
        for request_id in request.events:
            written, is_own = self._appender.usage.get((org_id, request_id)), (org_id, request_id) not in self._before
            if written is not None and is_own:
                usage.append(written[1])
                continue
            found = self._found_of(org_id, request_id)
            if found is not None:
                is_own = is_own and found.claimed_by is None
                usage.append(_receipt(org_id, request_id, found.stored, is_own=is_own))
        return msgspec.structs.replace(recorded, usage=tuple(usage)) if usage else recorded

    def _found_of(self, org_id: str, request_id: str) -> FoundUsage | None:
        """What is stored under a request id, before or by this group, as far as it was looked for."""
        key = (org_id, request_id)
        written = self._appender.usage.get(key)
        if written is not None:
            return FoundUsage(stored_as(*written), written[0].cost_pico, None, self._settled.get(key))
        found = self._found.usage.get(key)
        settled_by = self._settled.get(key)
        return found if found is None or settled_by is None else found._replace(settled_by=settled_by)

    def _check_same(self, event: UsageEvent, row: Row, stored: Stored) -> None:
        """The event is the one that is stored; what was erased of that is left out of the comparison."""
        if stored.salt is None:
            same = core_json(event) == self._found.cores.get((event.org_id, event.request_id))
        else:
            same = stored.salt == row.salt or event_fingerprint(event, stored.salt) == stored.fingerprint
        if not same:
            raise Conflict(
                "request_id_conflict",
                f"request id {event.request_id!r} of {event.org_id!r} is stored already with other content, as "
                f"entry {stored.seq}",
                next_step="send each event under an id of its own, and the same id only with the same content; what an "
                "event of a settlement leaves out is its hold's",
                where="events",
            )

    def _check_new(self, org: OrgWork, event: UsageEvent, row: Row) -> None:
        refusal = row.refusal
        if refusal is None and row.time_us < org.head.known_since_us:
            refusal = too_old(org.head.known_since_us)
        if refusal is not None:
            if not self._found.is_probed:
                raise NotLookedFor
            raise BadInput(
                refusal.code,
                f"the event {event.request_id!r}: {refusal.reason}",
                next_step="mend the event, or settle without it",
                where="events",
            )

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


def _check_free(event: UsageEvent, hold: OpenHold, found: FoundUsage) -> None:
    name, seq = operation_id("hold", hold.seq), found.stored.seq
    if found.settled_by is not None:
        raise Conflict(
            "usage_settled_already",
            f"the event {event.request_id!r}, entry {seq}, is the work of another hold, and settled by "
            f"{operation_id('settlement', found.settled_by)}",
            next_step=f"nothing moved; settle {name} without it, or under an id of its own where it is another call",
            where="events",
        )
    if seq < hold.seq:
        raise Conflict(
            "usage_before_hold",
            f"the event {event.request_id!r} is stored as entry {seq}, before the hold {name} was made: it is none of "
            "its work",
            next_step=f"nothing moved; settle {name} without it: it is recorded and costed already",
            where="events",
        )


def _receipt(org_id: str, request_id: str, stored: Stored, *, is_own: bool) -> Receipt:
    return Receipt(
        status="accepted" if is_own else "duplicate",
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
