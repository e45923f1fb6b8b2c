"""Deciding a group of operations, one after the other, on what was read for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from tallystick.contract.loader import REFUND_GRACE
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError
from tallystick.core.instants import format_instant
from tallystick.journal.operations_group import Appender, OrgWork, Who
from tallystick.journal.operations_load import HoldCache, HoldRow, StoredOperation
from tallystick.journal.operations_read import Found, included_id, included_month
from tallystick.journal.prepare import Row, prepare, too_old
from tallystick.journal.writer import Stored
from tallystick.ledger.encoding import SALT_BYTES, event_fingerprint, operation_fingerprint, personal_json
from tallystick.ledger.entry import ERASED, body_request
from tallystick.ledger.operation_body import encode_part, read_body
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Expire,
    Grant,
    Held,
    Operation,
    Recorded,
    Refund,
    ReleaseHold,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
)
from tallystick.ledger.org_account import OpenHold, Step
from tallystick.ledger.org_changes import SELF, grant, refund, set_budget, set_override, set_standing
from tallystick.ledger.org_machine import authorize, open_hold, payer_of, release, settle, sweep
from tallystick.ledger.receipt import Receipt
from tallystick.ledger.request_checks import complete_event
from tallystick.rates.pricing import RateCard
from tallystick.usage.event import UsageEvent


class _Prepared(NamedTuple):
    """An event of a settlement, whole, and as it will be written."""

    event: UsageEvent
    row: Row


class Decider:
    """Answers the operations of one group, in order.

    Args:
        found: what was read for them; it changes as they are decided.
        now: the group's instant.
        card: prices the usage of settlements.
        random_bytes: where salts come from.
        cache: remembers the group's holds once it is committed.
        known_since: since when repeated events are known as such; None for ever.
    """

    def __init__(
        self,
        found: Found,
        now: datetime,
        card: RateCard,
        random_bytes: Callable[[int], bytes],
        cache: HoldCache,
        *,
        known_since: datetime | None,
    ) -> None:
        self._found = found
        self._now = now
        self._card = card
        self._random_bytes = random_bytes
        self._cache = cache
        self._known_since = known_since
        self._appender = Appender(now, card.version, random_bytes)
        self._prepared: dict[int, list[_Prepared]] = {}
        self._made: list[tuple[str, int, bytes, Authorize, Held]] = []
        self._resolved: list[HoldRow] = []

    @property
    def rows(self) -> list[bytes]:
        """The rows of the entries to append."""
        return self._appender.rows

    def remember(self) -> None:
        """The group is committed: its holds need not be read to be settled."""
        for hold in self._made:
            self._cache.add(*hold)
        for row in self._resolved:
            self._cache.drop(row)

    def prepare(self, items: Sequence[Any]) -> None:
        """Price and encode the usage of all settlements at once, as far as their holds are known."""
        todo: list[tuple[int, list[UsageEvent]]] = []
        for item in items:
            if isinstance(item, Operation) and item.events and item.org_id in self._found.orgs:
                events = self._whole_events(item)
                if events is not None:
                    todo.append((id(item), events))
        rows = iter(self._rows([event for _, events in todo for event in events]))
        for place, events in todo:
            self._prepared[place] = [_Prepared(event, next(rows)) for event in events]

    def answer(self, item: Any) -> Recorded | TallyError:
        """What becomes of the operation: its entry, or why there is none."""
        try:
            return self._answer(item)
        except TallyError as error:
            return error.with_traceback(None)

    def keep_up(self, org_id: str) -> int:
        """End what is over in the org's account, and give the month's included credits: how many entries that made."""
        org = self._found.orgs[org_id]
        before = org.head.seq
        self._sweep(org)
        self._include(org)
        return org.head.seq - before

    # ── one operation ───────────────────────────────────────────────────────────────────────────

    def _answer(self, operation: Operation) -> Recorded:
        org, request = self._found.orgs[operation.org_id], operation.request
        known = self._known(operation)
        if known is not None:
            return known
        self._sweep(org)
        match request:
            case Authorize():
                return self._authorize(org, operation, request)
            case Settle():
                return self._settle(org, operation, request)
            case ReleaseHold():
                hold = open_hold(org.account, request.hold_seq, self._now)
                grace = self._found.contracts[hold.held.decision.contract_sha256].refund_grace
                steps = release(org.account, org.head.seq + 1, self._now, request, grace=grace)
                return self._add(org, steps, operation, hold)
            case Expire():
                return self._expired(org, operation, request)
        return self._add(org, self._changed(org, operation), operation, None)

    def _changed(self, org: OrgWork, operation: Operation) -> list[Step]:
        account, seq, now = org.account, org.head.seq + 1, self._now
        match operation.request:
            case Grant() as request:
                return grant(account, seq, now, request)
            case Refund() as request:
                return refund(account, seq, now, request, grace=_grace(org))
            case SetBudget() as request:
                return set_budget(account, seq, now, request)
            case SetOverride() as request:
                return set_override(account, seq, now, request)
            case SetStanding() as request:
                return set_standing(account, seq, now, request)
        raise TypeError(f"there is no operation {operation.kind}")

    def _authorize(self, org: OrgWork, operation: Operation, request: Authorize) -> Recorded:
        if org.contract is None:
            raise _no_terms(org)
        self._include(org)
        steps = authorize(
            org.account,
            org.head.seq + 1,
            self._now,
            request,
            user_id=operation.user_id,
            worst_cost_pico=operation.worst_cost_pico,
            contract=org.contract,
            plan=org.row.plan,
            zone=org.row.time_zone or "UTC",
        )
        recorded = self._add(org, steps, operation, None)
        if isinstance(recorded.result, Held):
            leaf = bytes.fromhex(recorded.leaf)
            self._made.append((org.org_id, recorded.seq, leaf, request, recorded.result))
            row = HoldRow(org.org_id, recorded.seq, operation.user_id, operation.session_id, leaf, "", True)
            org.holds[recorded.seq] = row
        return recorded

    def _settle(self, org: OrgWork, operation: Operation, request: Settle) -> Recorded:
        hold = open_hold(org.account, request.hold_seq, self._now)
        used = self._prepared.get(id(operation))
        if used is None and operation.events:
            events = self._whole_events(operation) or []
            used = [_Prepared(*pair) for pair in zip(events, self._rows(events), strict=True)]
        new, cost_pico, priced = self._usage(org, used or [])
        contract = self._found.contracts[hold.held.decision.contract_sha256]
        steps = settle(
            org.account,
            org.head.seq + 1 + len(new),
            self._now,
            request,
            contract=contract,
            cost_pico=cost_pico,
            priced=priced,
            grace=contract.refund_grace,
        )
        for event, row in new:
            self._appender.add_usage(org, event.request_id, row)
            if org.counters is not None:
                org.counters.add_usage(org.account, event, row.our_cost_pico)
        recorded = self._add(org, steps, operation, hold)
        settled: Any = recorded.result
        if org.counters is not None:
            spender = (hold.user_id, hold.request.api_key_id, hold.request.feature)
            org.counters.add_charge(org.account, self._now, settled.charge_pico, spender)
        return self._with_usage(recorded)

    def _usage(self, org: OrgWork, used: Iterable[_Prepared]) -> tuple[list[_Prepared], int, bool]:
        """Which of the events are new, what all of them cost us, and whether all of that has a price.

        Raises:
            Conflict: `request_id_conflict`: one is stored with other content.
            BadInput: one cannot be stored at all.
        """
        new, cost_pico, priced = [], 0, True
        for one in used:
            event, row = one
            stored = self._stored_usage(org.org_id, event.request_id)
            total_pico, status = row.cost_pico, row.status
            if stored is not None:
                if not _same_event(event, row, stored):
                    raise Conflict(
                        "request_id_conflict",
                        f"request id {event.request_id!r} of {org.org_id!r} is stored already with other content, as "
                        f"entry {stored.seq}",
                        next_step="send each event under an id of its own, and the same id only with the same content",
                        where="events",
                    )
                total_pico, status = stored.cost_pico, stored.status
            else:
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
                new.append(one)
            if event.payer == "seller":
                cost_pico += total_pico or 0
                priced = priced and status != "unpriced"
        return new, cost_pico, priced

    def _expired(self, org: OrgWork, operation: Operation, request: Expire) -> Recorded:
        written = self._appender.stored.get((org.org_id, "expiry", operation.request_id))
        if written is not None:
            return written[1]
        raise Conflict(
            "not_over_yet",
            f"the {request.what} {operation.request_id} is not open, or its life is not over at "
            f"{format_instant(self._now)}",
            next_step="release a hold that nobody needs any more; a grant ends at its expiry",
        )

    def _add(self, org: OrgWork, steps: list[Step], operation: Operation, hold: OpenHold | None) -> Recorded:
        who = Who(operation.user_id, operation.session_id, operation.attributes)
        if hold is not None:
            row = org.holds[hold.seq]
            self._resolved.append(row)
            who = Who(operation.user_id or row.user_id, operation.session_id or row.session_id, operation.attributes)
        return self._appender.add_steps(org, steps, operation, who, None if hold is None else hold.request)

    # ── what was there before ───────────────────────────────────────────────────────────────────

    def _known(self, operation: Operation) -> Recorded | None:
        """The answer that the same operation had before; None when it is new.

        Raises:
            Conflict: `request_id_conflict`.
        """
        org_id, request = operation.org_id, operation.request
        written = self._appender.stored.get((org_id, operation.kind, operation.request_id))
        if isinstance(request, Settle | ReleaseHold):
            stored = self._found.resolutions.get((org_id, request.hold_seq))
        else:
            stored = self._found.stored.get((org_id, operation.kind, operation.request_id))
        if written is not None:
            stored = written[0]
        if stored is None:
            return None
        if stored.kind != operation.kind or not _same(operation, stored, None if written is None else written[1]):
            if isinstance(request, Settle | ReleaseHold):
                return None  # that the hold is resolved otherwise is for the state machine to say
            raise Conflict(
                "request_id_conflict",
                f"request id {operation.request_id!r} of {org_id!r} is stored already with other content, as entry "
                f"{stored.seq}",
                next_step="send another operation under an id of its own, and the same id only with the same content",
                where="request_id",
            )
        recorded = _recorded(org_id, stored, is_new=stored.salt == operation.salt) if written is None else written[1]
        if isinstance(request, Settle):
            used = self._prepared_again(operation, stored)
            self._usage(self._found.orgs[org_id], used)
            return self._with_usage(recorded)
        return recorded

    def _prepared_again(self, operation: Operation, stored: StoredOperation) -> list[_Prepared]:
        """The events of a settlement that is stored, as they would be written: to be compared."""
        events = self._whole_events(operation) or []
        return [_Prepared(*pair) for pair in zip(events, self._rows(events), strict=True)]

    def _stored_usage(self, org_id: str, request_id: str) -> Stored | None:
        """What is stored under a request id, before or by this group, as far as it was looked for."""
        written = self._appender.usage.get((org_id, request_id))
        if written is None:
            return self._found.usage.get((org_id, request_id))
        row, receipt = written
        return Stored(
            receipt.seq or 0,
            self._now,
            row.fingerprint,
            row.salt,
            bytes.fromhex(receipt.leaf or ""),
            row.cost_pico,
            row.status,
            row.rate_version,
            row.reason,
        )

    def _with_usage(self, recorded: Recorded) -> Recorded:
        """A settlement's answer with the receipts of its events: the same whenever it is asked for.

        `accepted` are those that stand right before the settlement, recorded when it was.
        """
        request: Any = recorded.request
        if not request.events:
            return recorded
        found = {
            request_id: stored
            for request_id in request.events
            if (stored := self._stored_usage(recorded.org_id, request_id)) is not None
        }
        seqs = {stored.seq: stored.recorded_at for stored in found.values()}
        first_seq = recorded.seq
        while seqs.get(first_seq - 1) == recorded.recorded_at:
            first_seq -= 1
        usage = tuple([_receipt(recorded.org_id, name, stored, first_seq) for name, stored in found.items()])
        return msgspec.structs.replace(recorded, usage=usage)

    # ── what follows by itself ──────────────────────────────────────────────────────────────────

    def _sweep(self, org: OrgWork) -> None:
        """End what is over, once in a group."""
        if org.is_kept_up:
            return
        org.is_kept_up = True
        for step in sweep(org.account, org.head.seq + 1, self._now, grace=_grace(org)):
            request = step.request
            row = org.holds.get(request.seq) if isinstance(request, Expire) and request.what == "hold" else None
            who = Who() if row is None else Who(row.user_id, row.session_id)
            asked = None if row is None else self._cache.read(row).request
            self._appender.add_steps(org, [step], None, who, asked)

    def _include(self, org: OrgWork) -> None:
        """Give the credits that the plan includes this month, once."""
        due = included_month(org, self._now)
        if due is None or org.contract is None or org.row.plan is None:
            return
        month, ends_at = due
        request_id = included_id(month)
        if (org.org_id, "grant", request_id) not in self._found.stored:
            credits = org.contract.plans[org.row.plan].included_credits
            request = Grant(
                source="included",
                amount_pico=credits * CREDIT,
                expires_at=ends_at,
                period=month,
                author=SELF,
                reason=f"included in the plan {org.row.plan} for {month}",
            )
            (step,) = grant(org.account, org.head.seq + 1, self._now, request)
            self._appender.add_steps(org, [step._replace(request_id=request_id)], None)
        org.progress.included = month

    # ── usage of settlements ────────────────────────────────────────────────────────────────────

    def _whole_events(self, operation: Operation) -> list[UsageEvent] | None:
        """The events with what they left out; None when their hold is not known here."""
        request: Any = operation.request
        row = self._found.orgs[operation.org_id].holds.get(request.hold_seq)
        if row is None:
            return None
        hold = self._found.orgs[operation.org_id].account.holds.get(request.hold_seq) or self._cache.read(row)
        asked, decision = hold.request, hold.held.decision
        contract = self._found.contracts.get(decision.contract_sha256)
        payer = asked.payer
        if payer is None:
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
        return prepare(events, self._now, self._card, salts, known_since=self._known_since).rows


def _same(operation: Operation, stored: StoredOperation, written: Recorded | None) -> bool:
    """Whether the operation is the one that is stored."""
    request = encode_part(operation.request)
    if stored.salt is None:  # its personal data was erased: the rest is compared
        return request == (body_request(stored.body.encode()) if written is None else encode_part(written.request))
    user_id, session_id, attributes = operation.user_id, operation.session_id, operation.attributes
    if operation.kind in ("settlement", "release"):  # who does it is whose hold it is, unless somebody else says so
        user_id, session_id = user_id or stored.user_id, session_id or stored.session_id
    personal = personal_json(session_id, user_id, attributes)
    names = (operation.kind, operation.org_id, operation.request_id)
    return operation_fingerprint(stored.salt, *names, request, personal) == stored.fingerprint


def _same_event(event: UsageEvent, row: Row, stored: Stored) -> bool:
    """Whether the event is the one that is stored; of one whose personal data was erased, its id says so."""
    if stored.salt is None or stored.salt == row.salt:
        return True
    return event_fingerprint(event, stored.salt) == stored.fingerprint


def _recorded(org_id: str, stored: StoredOperation, *, is_new: bool) -> Recorded:
    request, result = read_body(stored.kind, stored.body)
    return Recorded(
        org_id=org_id,
        kind=stored.kind,
        seq=stored.seq,
        request_id=stored.request_id,
        recorded_at=stored.recorded_at,
        request=request,
        result=result,
        fingerprint=stored.fingerprint.hex(),
        leaf=stored.leaf.hex(),
        rate_version=stored.rate_version,
        refers_to_seq=stored.refers_to_seq,
        is_new=is_new,
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


def _grace(org: OrgWork) -> timedelta:
    """For how long what goes back can be used where its grant is over: the contract's word, or what holds without."""
    return REFUND_GRACE if org.contract is None else org.contract.refund_grace


def _no_terms(org: OrgWork) -> NotFound:
    return NotFound(
        "no_plan_in_force",
        f"{org.org_id} is on no plan at this instant, or its contract has no version in force, so nothing says what "
        "it may do",
        next_step=f"put it on a plan: tally orgs set {org.org_id} --contract NAME --plan PLAN --from TIME",
        where="org_id",
    )
