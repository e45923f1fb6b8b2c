"""Deciding a group of operations, one after the other, on what was read for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tallystick.contract.loader import REFUND_GRACE
from tallystick.core.errors import Conflict, NotFound, TallyError
from tallystick.core.instants import format_instant
from tallystick.journal.disputes_decide import dispute_steps
from tallystick.journal.disputes_group import DisputeGroup
from tallystick.journal.invoice_group import InvoiceGroup
from tallystick.journal.operations_asked import included_id, included_month
from tallystick.journal.operations_group import Appender, OrgWork, Who
from tallystick.journal.operations_known import is_same, recorded_of
from tallystick.journal.operations_load import HoldCache, HoldRow
from tallystick.journal.operations_read import Found
from tallystick.journal.operations_usage import SettledUsage
from tallystick.ledger.credit_operations import GiveCredit, RedeemPromo
from tallystick.ledger.dispute_operations import StepDispute
from tallystick.ledger.invoice_operations import CreditInvoice, IssueInvoice, Pay, VoidInvoice
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
from tallystick.ledger.org_machine import authorize, open_hold, release, settle, sweep
from tallystick.ledger.settlement_charge import free_environments
from tallystick.rates.pricing import RateCard


class Decider:
    """Answers the operations of one group, in order.

    Args:
        found: what was read for them; it changes as they are decided.
        now: the group's instant.
        card: prices the usage of settlements.
        random_bytes: where salts come from.
        cache: remembers the group's holds once it is committed.
        invoices: decides what becomes of invoices.
        disputes: decides what becomes of disputes.
        known_since: since when repeated events are known as such; None for ever.
    """

    def __init__(
        self,
        found: Found,
        now: datetime,
        card: RateCard,
        random_bytes: Callable[[int], bytes],
        cache: HoldCache,
        invoices: InvoiceGroup,
        disputes: DisputeGroup,
        *,
        known_since: datetime | None,
    ) -> None:
        self._found = found
        self._now = now
        self._cache = cache
        self._invoices = invoices
        self._disputes = disputes
        self._appender = Appender(now, card.version, random_bytes)
        self._usage = SettledUsage(found, self._appender, cache, card, random_bytes, known_since)
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
        """Price and encode the usage of all settlements at once."""
        self._usage.prepare(items)

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
        if isinstance(request, StepDispute):
            steps = self._disputed(org, operation, request)
        else:
            steps = self._changed(org, operation)
        return self._add(org, steps, operation, None)

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
            case IssueInvoice() | Pay() | CreditInvoice() | VoidInvoice() | GiveCredit() | RedeemPromo() as request:
                terms = (org.row.contract, org.row.plan)
                return [self._invoices.decide(org.org_id, seq, request, operation.request_id, terms)]
        raise TypeError(f"there is no operation {operation.kind}")

    def _disputed(self, org: OrgWork, operation: Operation, request: StepDispute) -> list[Step]:
        return dispute_steps(
            self._disputes,
            self._invoices.decide,
            org.org_id,
            org.account,
            request,
            operation.request_id,
            org.head.seq + 1,
            self._now,
            grace=_grace(org),
            taken=self._is_taken,
        )

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
            who = (operation.user_id, operation.session_id)
            told = (request, recorded.result)
            org.holds[recorded.seq] = HoldRow(org.org_id, recorded.seq, *who, leaf, "", is_open=True, told=told)
        return recorded

    def _settle(self, org: OrgWork, operation: Operation, request: Settle) -> Recorded:
        hold = open_hold(org.account, request.hold_seq, self._now)
        contract = self._found.contracts[hold.held.decision.contract_sha256]
        work = self._usage.weigh(org, hold, self._usage.of(operation), free_environments(hold, contract))
        steps = settle(
            org.account,
            org.head.seq + 1 + len(work.new),
            self._now,
            request,
            contract=contract,
            cost_pico=work.cost_pico,
            priced=work.priced,
            grace=contract.refund_grace,
        )
        for event, row in work.new:
            self._appender.add_usage(org, event.request_id, row)
            if org.counters is not None:
                org.counters.add_usage(org.account, event, row.our_cost_pico)
        recorded = self._add(org, steps, operation, hold)
        self._usage.settled(org, work, recorded.seq)
        settled: Any = recorded.result
        if org.counters is not None:
            spender = (hold.user_id, hold.request.api_key_id, hold.request.feature)
            org.counters.add_charge(org.account, self._now, settled.charge_pico, spender)
        return self._usage.with_receipts(recorded)

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

    def _is_taken(self, ids: Collection[tuple[str, str, str]]) -> bool:
        found = self._found
        return any(one in found.stored or one in found.claimed or one in self._appender.stored for one in ids)

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
            if (org_id, operation.kind, operation.request_id) in self._found.claimed:
                raise _has_left(operation)
            return None
        if stored.kind != operation.kind or not is_same(operation, stored, None if written is None else written[1]):
            if isinstance(request, Settle | ReleaseHold):
                return None  # that the hold is resolved otherwise is for the state machine to say
            raise Conflict(
                "request_id_conflict",
                f"request id {operation.request_id!r} of {org_id!r} is stored already with other content, as entry "
                f"{stored.seq}",
                next_step="send another operation under an id of its own, and the same id only with the same content",
                where="request_id",
            )
        is_new = stored.salt == operation.salt
        recorded = recorded_of(org_id, stored, is_new=is_new) if written is None else written[1]
        if recorded.is_new and not is_new:  # it was written for another who asked for the same in this very group
            recorded = msgspec.structs.replace(recorded, is_new=False)
        if isinstance(request, Settle):
            self._usage.check(self._usage.of(operation))
            return self._usage.with_receipts(recorded)
        return recorded

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


def _grace(org: OrgWork) -> timedelta:
    """For how long what goes back can be used where its grant is over: the contract's word, or what holds without."""
    return REFUND_GRACE if org.contract is None else org.contract.refund_grace


def _has_left(operation: Operation) -> Conflict:
    """What was stored under this id is in a block: whether this is the same is for whoever reads blocks to say."""
    return Conflict(
        "entry_has_left",
        f"request id {operation.request_id!r} of {operation.org_id!r} is that of an entry which has left the database",
        next_step="nothing moved; its answer is read from its block",
        where="request_id",
    )


def _no_terms(org: OrgWork) -> NotFound:
    return NotFound(
        "no_plan_in_force",
        f"{org.org_id} is on no plan at this instant, or its contract has no version in force, so nothing says what "
        "it may do",
        next_step=f"put it on a plan: tally orgs set {org.org_id} --contract NAME --plan PLAN --from TIME",
        where="org_id",
    )
