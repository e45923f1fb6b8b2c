"""One org's recorded history under a draft contract: what would be decided and charged otherwise. No I/O.

Requests that were authorized are decided again by the draft, on an account that goes its own way from the first entry
of the time on: the credits that came in are those that were recorded, what plans include is the draft's, and a
settlement charges what the draft says for the outcome and the cost that were recorded. Usage that was recorded without
asking is counted, as the server counts it, and looked at: would it have been allowed?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tallystick.contract.decision import Decision, Verdict
from tallystick.contract.model import Contract, LimitWindow
from tallystick.contract.policy import decide
from tallystick.contract.windows import window_at
from tallystick.core.errors import TallyError
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.entry import Entry
from tallystick.ledger.fold import FoldEntry, OrgFold
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operations import (
    Authorize,
    Expire,
    Grant,
    Refund,
    ReleaseHold,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
)
from tallystick.ledger.org_account import OrgAccount
from tallystick.ledger.org_changes import grant, refund, set_budget, set_override, set_standing
from tallystick.ledger.org_machine import authorize, policy_request, release, settle, sweep
from tallystick.ledger.org_state import org_state
from tallystick.ledger.refundable import charge_parts
from tallystick.simulate.counting import Counting, Spender
from tallystick.simulate.hits import Hits
from tallystick.simulate.month_credits import included_grant

PENDING_MAX = 2000
"""How many events wait at most to see whether a settlement that follows brought them."""
_WINDOWS_KEPT = 20_000
_LATE = timedelta(days=7)
"""What comes later than this may be counted as the first of its window, where windows are very many."""
_SHORT = ("minute:", "hour:")
_SETTLEMENTS_KEPT = 50_000
"""How many settlements are remembered, to be refunded; refunds of older ones are passed over."""
_OURS = 2**62
"""From here on are the places of what only the simulation writes."""

PlanAt = Callable[[datetime], str | None]
"""The org's plan at an instant; None while it is on none of the contract's."""


class OrgWhatIf:
    """One org's history under the draft. Add entries in ascending sequence.

    Args:
        draft: the contract.
        plan_at: the org's plan by time.
        zone: the org's IANA time zone.
        start, end: the time [start, end) whose requests are decided again; what comes before it is where it begins.
        budgets: whether a budget was ever set, so that it matters who spends how much.

    Attributes:
        hits: what the draft would deny, and the soft limits that would be passed.
        requests: how many authorized requests were decided again.
        denied: how many of those were denied then, or would have been, had denials not only been recorded.
        allowed_now: how many of those the draft allows.
        events: how many events were recorded without asking.
        charged_before_pico, charged_after_pico: the credits that settlements of the time charged, and would charge.
    """

    def __init__(
        self,
        draft: Contract,
        plan_at: PlanAt,
        zone: str,
        start: datetime,
        end: datetime,
        *,
        budgets: bool = True,
    ) -> None:
        self._draft = draft
        self._plan_at = plan_at
        self._zone = zone
        self._start = start
        self._end = end
        self._fold: OrgFold | None = OrgFold()
        self._account = OrgAccount()
        self._counting = Counting(self._account, draft, zone, spending=budgets)
        self._included: str | None = None
        self._ours = _OURS
        self._pending: list[Entry] = []
        self._unpriced: dict[int, tuple[Spender, tuple[str, ...]]] = {}
        self._finished_kept = _SETTLEMENTS_KEPT
        self._windows_kept = _WINDOWS_KEPT
        self.hits = Hits()
        self.requests = 0
        self.denied = 0
        self.allowed_now = 0
        self.events = 0
        self.charged_before_pico = 0
        self.charged_after_pico = 0

    def take(self, entry: Entry) -> None:
        """The org's next entry.

        Raises:
            DoesNotFollow: an operation from before the time does not follow from the ones before it.
        """
        if entry.kind == "usage":
            if self._pending and self._pending[-1].recorded_at != entry.recorded_at:
                self._flush()
            self._pending.append(entry)
            if len(self._pending) > PENDING_MAX:
                self._look(self._pending.pop(0))
        elif entry.kind == "correction":
            self._flush()
            self._corrected(entry)
        elif entry.body is not None:
            self._operation(entry)

    def finish(self) -> None:
        """There are no more entries."""
        self._flush()

    # ── usage ───────────────────────────────────────────────────────────────────────────────────

    def _flush(self, settled: Sequence[str] = (), *, count: bool = True) -> None:
        """Look at the events that wait: those that a settlement brought were asked for with its hold."""
        mine = set(settled)
        for entry in self._pending:
            if entry.request_id not in mine:
                self._look(entry)
            elif count:
                self._count(entry)
        self._pending.clear()

    def _look(self, entry: Entry) -> None:
        """An event that was recorded without asking: would it have been allowed?"""
        if self._start <= entry.time < self._end:
            self.events += 1
            self._begin()
            plan = self._plan_at(entry.time)
            if plan is not None and self._says_something(plan):
                asked = _as_request(entry)
                decision = self._decide(entry.time, asked, entry.user_id, entry.cost_pico, plan)
                self.hits.add(decision, entry.time, asked=False)
        self._count(entry)

    def _says_something(self, plan: str) -> bool:
        """Whether the draft could deny usage under that plan, or warn of it."""
        terms, said = self._draft.plans.get(plan), self._account.terms
        if terms is None or said.budgets or said.suspended is not None:
            return True
        return bool(terms.limits or terms.models.allow or terms.models.deny)

    def _count(self, entry: Entry) -> None:
        if entry.time >= self._end:
            return
        plan = self._plan_at(entry.time)
        meters = dict(zip(entry.meter_names or (), entry.meter_quantities or (), strict=True))
        ours_pico = (entry.cost_pico or 0) if entry.payer is None else 0
        spender = Spender(entry.user_id, entry.api_key_id, entry.feature, entry.environment or "")
        self._counting.use(entry.time, plan, meters, ours_pico, spender, self._windows(plan))
        if entry.status == "unpriced":
            self._unpriced[entry.seq] = (spender, tuple(meter for meter, quantity in meters.items() if quantity))
        self._forget_windows(entry.time)

    def _corrected(self, entry: Entry) -> None:
        """What had no price has one, for whose request it was; nobody is asked about anything."""
        of = self._unpriced.pop(entry.refers_to_seq or 0, None)
        if of is not None and entry.time < self._end and entry.payer is None:
            spender, meters = of
            plan = self._plan_at(entry.time)
            self._counting.change(entry.time, plan, {}, meters, entry.cost_pico or 0, spender, ())

    def _adjusted(self, entry: Entry, request: Adjust) -> None:
        """What the provider counted otherwise; of whose request it is, is not known here."""
        if entry.time >= self._end:
            return
        quantities = {line.meter: line.quantity for line in request.lines}
        spender = Spender(None, request.api_key_id, request.feature, request.environment)
        plan = self._plan_at(entry.time)
        windows = self._windows(plan)
        self._counting.change(entry.time, plan, quantities, (), request.our_cost_pico, spender, windows)

    def _windows(self, plan: str | None) -> tuple[LimitWindow, ...]:
        terms = self._draft.plans.get(plan or "")
        return () if terms is None else tuple({limit.per for limit in terms.limits})

    def _forget_windows(self, now: datetime) -> None:
        """Drop windows of a time long past, where there are very many: minutes add up in the course of months."""
        used = self._account.used
        if len(used) <= self._windows_kept:
            return
        starts = [window_at(per, self._zone, now).starts_at for per in ("month", "week")]
        oldest = min(starts) - _LATE
        for key in [key for key in used if key[1] < oldest or (key[0].startswith(_SHORT) and key[1] < now - _LATE)]:
            del used[key]
        self._windows_kept = max(_WINDOWS_KEPT, 2 * len(used))

    # ── operations ──────────────────────────────────────────────────────────────────────────────

    def _operation(self, entry: Entry) -> None:
        request, result = read_body(entry.kind, entry.body or "")
        if isinstance(request, Adjust):
            self._flush()
            self._adjusted(entry, request)
        if entry.time < self._start and self._fold is not None:
            self._flush(request.events if isinstance(request, Settle) else ())
            self._fold.add(
                FoldEntry(
                    entry.seq,
                    entry.kind,  # type: ignore[arg-type]
                    entry.recorded_at,
                    request,
                    result,
                    entry.refers_to_seq,
                    entry.user_id,
                )
            )
            if isinstance(request, Grant) and request.source == "included":
                self._included = request.period
            return
        if isinstance(request, Settle):
            self._flush(request.events)
        else:
            self._flush()
        self._begin()
        late = entry.time >= self._end
        match request:
            case Settle():
                self._settle(entry, request, result)
            case ReleaseHold() if request.hold_seq in self._account.holds:
                self._keep_up(entry.time)
                self._try(release, entry, request, grace=self._draft.refund_grace)
            case Authorize() if not late:
                self._authorize(entry, request, result)
            case _ if not late and not isinstance(request, Expire):
                self._changed(entry, request)

    def _begin(self) -> None:
        """The time begins: the account goes its own way from here on."""
        fold = self._fold
        if fold is None:
            return
        self._fold = None
        account = self._account
        account.wallet, account.terms = fold.wallet, fold.terms
        account.holds.update(fold.holds)
        account.finished.update(fold.finished)
        account.reserved.update(fold.reserved())

    def _authorize(self, entry: Entry, request: Authorize, result: Any) -> None:
        self._keep_up(entry.time)
        decided: Decision = result.decision
        plan = self._plan_at(entry.time)
        if plan is None:
            return
        cost_pico = decided.quote.worst_cost_pico
        self.requests += 1
        stopped = not _verdict(decided).allow
        if entry.kind == "denial":
            decision = self._decide(entry.time, request, entry.user_id, cost_pico, plan)
        else:
            (step,) = authorize(
                self._account,
                entry.seq,
                entry.time,
                request,
                user_id=entry.user_id,
                worst_cost_pico=cost_pico,
                contract=self._draft,
                plan=plan,
                zone=self._zone,
            )
            made: Any = step.result
            decision = made.decision
        self.denied += stopped
        self.allowed_now += stopped and _verdict(decision).allow
        self.hits.add(decision, entry.time, asked=True)

    def _decide(
        self, now: datetime, request: Authorize, user_id: str | None, cost_pico: int | None, plan: str | None
    ) -> Decision:
        """What the draft says, without holding anything."""
        draft = self._draft
        state = org_state(self._account, now, request, user_id, draft, plan, self._zone)
        return decide(draft, plan, state, policy_request(request, user_id, cost_pico, draft, plan))

    def _settle(self, entry: Entry, request: Settle, result: Settled) -> None:
        in_time = self._start <= entry.time < self._end
        if in_time:
            self.charged_before_pico += charge_parts(result).amount_pico
        self._keep_up(entry.time)
        hold = self._account.holds.get(request.hold_seq)
        if hold is None:
            return  # the draft has denied it, or let it end before
        bound_pico = request.charge_pico
        if bound_pico is not None:
            request = msgspec.structs.replace(request, charge_pico=min(bound_pico, hold.amount_pico))
        charged = self._try(
            settle,
            entry,
            request,
            contract=self._draft,
            cost_pico=result.cost_pico,
            priced=result.priced,
            grace=self._draft.refund_grace,
        )
        self._forget_settlements(entry.time)
        if charged is not None and in_time:
            self.charged_after_pico += charge_parts(charged).amount_pico
            asked = hold.request
            spender = Spender(hold.user_id, asked.api_key_id, asked.feature, asked.environment)
            self._counting.spend(entry.time, "charge", charged.charge_pico, spender)

    def _forget_settlements(self, now: datetime) -> None:
        """Memory does not grow with the history: what can be neither refunded here nor repeated any more is dropped."""
        account = self._account
        account.resolved.clear()
        account.newly_finished.clear()
        while len(account.charged) > _SETTLEMENTS_KEPT:
            del account.charged[next(iter(account.charged))]
        if len(account.finished) > self._finished_kept:
            last = max((one.repeat.within for one in self._draft.actions.values() if one.repeat), default=timedelta(0))
            over = [work for work, done in account.finished.items() if now - done.charged_at >= last]
            for work in over:
                del account.finished[work]
            self._finished_kept = 2 * len(account.finished) + _SETTLEMENTS_KEPT

    def _changed(self, entry: Entry, request: Any) -> None:
        self._keep_up(entry.time)
        match request:
            case Grant() if request.source not in {"included", "refund"}:
                self._try(grant, entry, request)
            case Refund():
                whole = msgspec.structs.replace(request, amount_pico=None)
                if self._try(refund, entry, request, grace=self._draft.refund_grace) is None:
                    self._try(refund, entry, whole, grace=self._draft.refund_grace)
            case SetBudget():
                self._try(set_budget, entry, request)
            case SetOverride():
                self._try(set_override, entry, request)
            case SetStanding():
                self._try(set_standing, entry, request)

    def _try(self, change: Callable[..., Any], entry: Entry, request: Any, **more: Any) -> Any:
        """What becomes of it on this account; None when it cannot be done here, where credits went another way."""
        try:
            steps = change(self._account, entry.seq, entry.time, request, **more)
        except TallyError:
            return None
        return steps[0].result

    def _keep_up(self, now: datetime) -> None:
        """What is over ends, and the month's included credits come in: the draft's."""
        self._ours += len(sweep(self._account, self._ours, now, grace=self._draft.refund_grace))
        included = included_grant(self._draft.plans.get(self._plan_at(now) or ""), self._zone, now, self._included)
        if included is not None:
            self._included = included.period
            grant(self._account, self._ours, now, included)
            self._ours += 1


def _verdict(decision: Decision) -> Decision | Verdict:
    """What enforcement answers."""
    return decision if decision.enforced is None else decision.enforced


def _as_request(entry: Entry) -> Authorize:
    """An event as somebody would have asked for it: what it used, and no action, since it was charged for none."""
    return Authorize(
        feature=entry.feature or "",
        environment=entry.environment or "",
        model=entry.model,
        provider=entry.provider,
        api_key_id=entry.api_key_id,
        meters=dict(zip(entry.meter_names or (), entry.meter_quantities or (), strict=True)),
        payer="customer" if entry.payer == "customer" else "seller",
    )
