"""The state machine of an org's account: what becomes of holds, in the order in which operations come.

Each function takes the account as it stands, under the org's lock, changes it, and gives the entries to append: the
operation's own first, then what follows from it. Or it raises a `TallyError`, and nothing has moved. What is allowed
and what is charged the policy decides (`contract.policy`, `contract.charging`); here is what becomes of the credits.
What else happens to an account is in `ledger.org_changes`.

`seq` is the place of the first entry, `now` the instant at which the operation is recorded. Before anything else at a
new instant, `sweep` ends what is over, so that a decision never counts credits that are gone, nor waits for a hold
that nobody will settle.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from tallystick.contract.charging import credits_text
from tallystick.contract.decision import Request
from tallystick.contract.model import Contract
from tallystick.contract.policy import decide, reserves
from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Ended,
    Expire,
    Held,
    Lot,
    ReleaseHold,
    Returned,
    Settle,
    Settled,
)
from tallystick.ledger.org_account import (
    Charged,
    FinishedWork,
    OpenHold,
    OrgAccount,
    Resolution,
    Step,
    split_lots,
)
from tallystick.ledger.org_changes import grants_again
from tallystick.ledger.org_state import org_state
from tallystick.ledger.settlement_charge import settlement_charge
from tallystick.usage.event import Payer


def sweep(account: OrgAccount, seq: int, now: datetime, *, grace: timedelta) -> list[Step]:
    """Ends the holds and the grants that have come to their end, the earliest first.

    It finds only holds that are loaded. Once it was done, nothing is over at that instant.

    Args:
        grace: for how long what a hold gives back can be used where its grant is over.
    """
    steps: list[Step] = []
    over = [hold for hold in account.holds.values() if hold.held.expires_at <= now]
    for hold in sorted(over, key=lambda hold: (hold.held.expires_at, hold.seq)) if over else ():
        steps += end_hold(account, seq + len(steps), now, hold.seq, grace=grace)
    while (ends_at := account.wallet.next_expiry()) is not None and ends_at <= now:
        before = account.wallet.state()
        lot = account.wallet.expire(now)
        if lot is None:
            break
        ended = Ended(lots=(lot,), before=before, after=account.wallet.state())
        request = Expire(what="grant", seq=lot.grant_seq)
        steps.append(
            Step(seq + len(steps), "expiry", request, ended, lot.grant_seq, operation_id("grant", lot.grant_seq))
        )
    return steps


def authorize(
    account: OrgAccount,
    seq: int,
    now: datetime,
    request: Authorize,
    *,
    user_id: str | None,
    worst_cost_pico: int | None,
    contract: Contract,
    plan: str | None,
    zone: str,
) -> list[Step]:
    """A hold when the policy allows the request, else a denial.

    Where denials are only recorded, what the wallet cannot cover is let pass all the same: its hold reserves no
    credits, and settling it charges none.

    Args:
        worst_cost_pico: what the request costs us at most; None when there is no price.
        contract, plan: the org's terms at `now`; None for an org that is on no plan.
        zone: the org's IANA time zone, on whose clocks limits and budgets begin anew.
    """
    asked = policy_request(request, user_id, worst_cost_pico, contract, plan)
    decision = decide(contract, plan, org_state(account, now, request, user_id, contract, plan, zone), asked)
    before = account.wallet.state()
    if not decision.allow:
        return [Step(seq, "denial", request, Denied(decision=decision, wallet=before))]
    lots = account.wallet.hold(decision.quote.reserve_pico)
    if lots is None:
        if not decision.shadow:
            raise RuntimeError("the policy allows what the wallet cannot cover")
        lots = ()
    cost_pico, charge_pico = reserves(contract, plan, asked, decision.quote)
    held = Held(
        decision=decision,
        lots=lots,
        cost_pico=cost_pico,
        charge_pico=charge_pico,
        billed=contract.charges(request.environment),
        expires_at=now + contract.hold_life,
        before=before,
        after=account.wallet.state(),
    )
    account.open(OpenHold(seq, request, user_id, held))
    return [Step(seq, "hold", request, held)]


def policy_request(
    request: Authorize, user_id: str | None, worst_cost_pico: int | None, contract: Contract, plan: str | None
) -> Request:
    """What the policy is asked: the request, whose it is, what it costs us at most (None: no price), and who pays."""
    return Request(
        feature=request.feature,
        environment=request.environment,
        user_id=user_id or "",
        action=request.action,
        model=request.model,
        provider=request.provider,
        api_key_id=request.api_key_id,
        work_key=request.work_key,
        meters=request.meters,
        worst_cost_pico=worst_cost_pico,
        payer=request.payer or payer_of(contract, plan),
    )


def payer_of(contract: Contract, plan: str | None) -> Payer:
    """Who pays providers where nobody says: the customer on a plan with a key of its own, else we."""
    terms = contract.plans.get(plan or "")
    return "customer" if terms is not None and terms.kind == "byok" else "seller"


def settle(
    account: OrgAccount,
    seq: int,
    now: datetime,
    request: Settle,
    *,
    contract: Contract,
    cost_pico: int,
    priced: bool,
    grace: timedelta,
) -> list[Step]:
    """The hold's work is done: its charge is taken out of the hold's lots in their order, the rest goes back to them.

    What the plan lets be charged beyond the hold is taken out of the wallet, and owed when there is less in it.

    Args:
        contract: the version that the hold was decided under: what was promised is what is charged.
        cost_pico: what the work cost us, in pico-USD: the sum over its usage that we pay for.
        priced: whether all of that usage has a price.
        grace: for how long what goes back can be used where its grant is over.

    Raises:
        NotFound: `hold_unknown`.
        Conflict: `hold_expired`, `hold_resolved`; `settle_above_hold`, when the caller's bound is more than is held.
    """
    hold = open_hold(account, request.hold_seq, now)
    held_pico, wallet, terms = hold.amount_pico, account.wallet, hold.held.decision
    bound_pico = request.charge_pico
    if bound_pico is not None and bound_pico > held_pico:
        raise Conflict(
            "settle_above_hold",
            f"{credits_text(bound_pico)} are more than the hold {operation_id('hold', hold.seq)} has reserved, "
            f"{credits_text(held_pico)}",
            next_step="settle for what is held at most, or leave the figure out: the contract says what is charged",
        )
    work = (hold.request.action or "", hold.request.work_key or "")
    done = account.finished.get(work)
    charge = settlement_charge(hold, request, contract, done, now, cost_pico=cost_pico, priced=priced)

    before = wallet.state()
    charged, returned = split_lots(hold.held.lots, min(charge.charged_pico, held_pico))
    wallet.unhold(hold.held.lots)
    beyond_pico = max(0, charge.charged_pico - held_pico)
    overage_pico = min(beyond_pico, wallet.available_pico)
    overage = wallet.take(overage_pico) or ()
    over = wallet.give_back(returned, now)
    settled = Settled(
        charged=charged,
        overage=overage,
        receivable_pico=beyond_pico - overage_pico,
        rounding_pico=charge.rounding_pico,
        returned=returned,
        expired_pico=sum([lot.amount_pico for lot in over]),
        finished=charge.finished,
        cost_pico=cost_pico,
        priced=priced,
        charge_pico=charge.charge_pico,
        why=charge.why,
        before=before,
        after=wallet.state(),
        contract=terms.contract,
        contract_version=terms.contract_version,
        contract_sha256=terms.contract_sha256,
        plan=terms.plan,
    )
    account.close(hold, Resolution(seq, "settlement", request, settled))
    account.charged[seq] = Charged(seq, settled, 0)
    if charge.finished:
        account.finish(hold.request, FinishedWork(now, seq))
    return [
        Step(seq, "settlement", request, settled, hold.seq),
        *grants_again(account, seq + 1, now, "settlement", seq, over, grace),
    ]


def release(account: OrgAccount, seq: int, now: datetime, request: ReleaseHold, *, grace: timedelta) -> list[Step]:
    """The hold's work was not done: all that it has reserved goes back.

    Raises:
        NotFound: `hold_unknown`.
        Conflict: `hold_expired`, `hold_resolved`.
    """
    hold = open_hold(account, request.hold_seq, now)
    returned, over = _return_all(account, hold, now)
    account.close(hold, Resolution(seq, "release", request, returned))
    return [
        Step(seq, "release", request, returned, hold.seq),
        *grants_again(account, seq + 1, now, "release", seq, over, grace),
    ]


def end_hold(account: OrgAccount, seq: int, now: datetime, hold_seq: int, *, grace: timedelta) -> list[Step]:
    """A hold's life is over, and nobody has settled or released it: all that it has reserved goes back.

    Raises:
        KeyError: it is not open, or not loaded.
        ValueError: its life is not over.
    """
    hold = account.holds[hold_seq]
    if hold.held.expires_at > now:
        raise ValueError(f"the hold {hold_seq} lives until {format_instant(hold.held.expires_at)}")
    request = Expire(what="hold", seq=hold_seq)
    returned, over = _return_all(account, hold, now)
    account.close(hold, Resolution(seq, "expiry", request, returned))
    return [
        Step(seq, "expiry", request, returned, hold_seq, operation_id("hold", hold_seq)),
        *grants_again(account, seq + 1, now, "expiry", seq, over, grace),
    ]


def _return_all(account: OrgAccount, hold: OpenHold, now: datetime) -> tuple[Returned, tuple[Lot, ...]]:
    wallet = account.wallet
    before, lots = wallet.state(), hold.held.lots
    wallet.unhold(lots)
    over = wallet.give_back(lots, now)
    expired_pico = sum([lot.amount_pico for lot in over])
    return Returned(returned=lots, expired_pico=expired_pico, before=before, after=wallet.state()), over


def open_hold(account: OrgAccount, hold_seq: int, now: datetime) -> OpenHold:
    """The hold, which can still be resolved.

    Raises:
        NotFound: `hold_unknown`.
        Conflict: `hold_expired`, `hold_resolved`.
    """
    hold, name = account.holds.get(hold_seq), operation_id("hold", hold_seq)
    if hold is not None and hold.held.expires_at > now:
        return hold
    by = account.resolved.get(hold_seq)
    if hold is None and by is None:
        raise NotFound(
            "hold_unknown",
            f"the org has no hold {name}",
            next_step="send the org and the hold's id as they were answered to the authorization",
            where="hold_id",
        )
    if by is None or by.kind == "expiry":
        since = "" if hold is None else f", at {format_instant(hold.held.expires_at)}"
        raise Conflict(
            "hold_expired",
            f"the hold {name} has come to its end{since}, and its credits went back",
            next_step="send the usage that there was as events; authorize again before any more work",
            where="hold_id",
        )
    how = "settled" if by.kind == "settlement" else "released"
    raise Conflict(
        "hold_resolved",
        f"the hold {name} is {how} already, by {operation_id(by.kind, by.seq)}",
        next_step="nothing moved; to charge for more work, authorize it anew",
        where="hold_id",
    )
