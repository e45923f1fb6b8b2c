"""What the tests of accounts share: an org on a plan of the reference contract, and operations on it."""

from __future__ import annotations

import itertools
import os
from contextlib import closing
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import msgspec
import psycopg

from journal_helpers import query
from tallystick.app.contracts import apply_contract
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.contract.decision import Budget, LimitLooked
from tallystick.journal.operations_writer import OperationWork
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Denied,
    Grant,
    Held,
    Operation,
    Recorded,
    Refund,
    ReleaseHold,
    SetBudget,
    Settle,
    SettleEvent,
)
from tallystick.usage.event import UsageEvent

REFERENCE = (files("tallystick.contract") / "reference.yaml").read_text()
_numbers = itertools.count(1)


def subscribe(
    runtime: Runtime, *orgs: str, plan: str = "credits", contract: str = REFERENCE, zone: str = "UTC"
) -> None:
    """Put orgs on a plan of a contract, which is applied first."""
    applied = apply_contract(runtime, contract, "contract.yaml").contract
    for org in orgs:
        since = datetime(2026, 10, 1, tzinfo=UTC)
        set_subscription(runtime, org, contract=applied.name, plan=plan, time_zone=zone, effective_from=since)


def authorize(org: str = "acme", request_id: str | None = None, *, user: str = "u1", **request: Any) -> Operation:
    """A request to do something: by default to tailor a document, which costs 5 credits."""
    asked = {"feature": "documents", "environment": "production", "action": "tailor_document", **request}
    cost = asked.pop("worst_cost_pico", 0)
    return Operation(
        org_id=org,
        kind="hold",
        request_id=request_id or f"a{next(_numbers)}",
        request=Authorize(**asked),
        salt=os.urandom(16),
        user_id=user,
        session_id="s1",
        worst_cost_pico=cost,
    )


def event(org: str = "acme", request_id: str | None = None, **more: Any) -> UsageEvent:
    """A usage event."""
    members = {
        "time": datetime(2026, 11, 2, 11, 0, tzinfo=UTC),
        "user_id": "u1",
        "session_id": "s1",
        "feature": "documents",
        "environment": "production",
        "provider": "openai",
        "model": "gpt-4o",
        "meters": {"tokens_in": 1000, "tokens_out": 10},
    }
    return UsageEvent(org_id=org, request_id=request_id or f"e{next(_numbers)}", **{**members, **more})


def settle(hold: Recorded, *events: UsageEvent, outcome: Any = "success", charge_pico: int | None = None) -> Operation:
    """The end of a hold's work."""
    request = Settle(
        hold_seq=hold.seq, outcome=outcome, events=tuple(one.request_id for one in events), charge_pico=charge_pico
    )
    return Operation(
        org_id=hold.org_id,
        kind="settlement",
        request_id=f"h{hold.seq}",
        request=request,
        salt=os.urandom(16),
        events=tuple(SettleEvent(one) for one in events),
    )


def release(hold: Recorded, reason: str | None = None) -> Operation:
    """The end of a hold whose work was not done."""
    request = ReleaseHold(hold_seq=hold.seq, reason=reason)
    return Operation(
        org_id=hold.org_id, kind="release", request_id=f"h{hold.seq}", request=request, salt=os.urandom(16)
    )


def refund(settlement: Recorded, credits: int | None = None, request_id: str | None = None) -> Operation:
    """Charged credits to be given back."""
    request = Refund(
        settlement_seq=settlement.seq,
        amount_pico=None if credits is None else credits * CREDIT,
        author="ann",
        reason="it was of no use",
    )
    request_id = request_id or f"f{next(_numbers)}"
    return Operation(
        org_id=settlement.org_id, kind="refund", request_id=request_id, request=request, salt=os.urandom(16)
    )


def grant(org: str = "acme", credits: int = 100, request_id: str | None = None, **more: Any) -> Operation:
    """Credits to come in."""
    request = Grant(**{"source": "top_up", "amount_pico": credits * CREDIT, "author": "ann", "reason": "paid", **more})
    return Operation(
        org_id=org, kind="grant", request_id=request_id or f"g{next(_numbers)}", request=request, salt=os.urandom(16)
    )


def budget(name: str = "b", **more: Any) -> Operation:
    """A cost guard; a hard one of an org's daily cost unless said otherwise."""
    said = {"scope": "org", "subject": None, "of": "cost", "per": "day", "kind": "hard", "max_pico": 10**12, **more}
    guard = Budget(name=name, **said)
    return Operation(
        org_id="acme",
        kind="budget",
        request_id=os.urandom(8).hex(),
        request=SetBudget(name=name, budget=guard, author="ann"),
        salt=os.urandom(16),
    )


def looked(answer: Recorded) -> dict[str, LimitLooked]:
    """The limits and budgets that a decision looked at, by name."""
    assert isinstance(answer.result, Held | Denied)
    return {one.name: one for one in answer.result.decision.limits}


def do(runtime: Runtime, operation: Operation) -> Recorded:
    """Have it done, and wait for the answer."""
    return runtime.operations.submit(operation).result(20)


def in_one_group(runtime: Runtime, *items: Any, probe: bool = False) -> list[Any]:
    """Have all of them decided and written in one transaction, in order; errors are among the answers."""
    work = OperationWork(runtime.clock, lambda: runtime.card, os.urandom)
    with closing(runtime.database.connect_writer()) as connection:
        try:
            return list(work.write(connection, items, probe=probe))
        except psycopg.Error as error:
            if probe or not work.stored_already(error):
                raise
            connection.rollback()
            return list(work.write(connection, items, probe=True))


def told(answer: Recorded) -> bytes:
    """All that an answer says of what was recorded; whether that was now is left out."""
    return msgspec.json.encode(msgspec.structs.replace(answer, is_new=True), enc_hook=str)


def account_of(runtime: Runtime, org: str = "acme") -> dict[str, Any]:
    """What the tables of state say of an org, and what follows from its entries and transfers."""
    state: dict[str, Any] = {}
    state["grants"] = query(
        runtime, "select seq, available_pico from grants where org_id = %s and available_pico > 0 order by seq", org
    )
    state["open"] = query(runtime, "select seq from open_holds where org_id = %s order by seq", org)
    state["balances"] = dict(
        query(
            runtime,
            "select account, credit_pico - debit_pico from account_balances where org_id = %s and asset = 'CREDIT'",
            org,
        )
    )
    return state


def wrongs(runtime: Runtime, *orgs: str) -> list[str]:
    """What does not add up: balances against transfers, lots against balances, holds resolved twice, gaps."""
    return [f"{name}: {row}" for name, sql in CHECKS.items() for row in query(runtime, sql)]


CHECKS = {
    "balances are the sums of transfers": """
        select * from (
            select org_id, account, asset, sum(debit) as debit, sum(credit) as credit from (
                select org_id, debit_account as account, asset, amount_pico as debit, 0 as credit from transfers
                union all select org_id, credit_account, asset, 0, amount_pico from transfers
            ) as moved group by org_id, account, asset
        ) as sums full join account_balances using (org_id, account, asset)
        where coalesce(debit, 0) <> coalesce(debit_pico, -1) or coalesce(credit, 0) <> coalesce(credit_pico, -1)""",
    "lots are what is available": """
        select org_id, sum(available_pico), max(balance) from grants join (
            select org_id, credit_pico - debit_pico as balance from account_balances where account = 'wallet_available'
        ) as balances using (org_id) group by org_id having sum(available_pico) <> max(balance)""",
    "nothing is held without a hold": """
        select org_id, credit_pico - debit_pico from account_balances as balance
        where account = 'wallet_held' and credit_pico <> debit_pico
            and not exists (select from open_holds where open_holds.org_id = balance.org_id)""",
    "holds are open or resolved once": """
        select org_id, seq from ledger_entries as hold where kind = 'hold' and 1 <> (
            select count(*) from ledger_entries as entry
            where entry.org_id = hold.org_id and entry.refers_to_seq = hold.seq
                and kind in ('settlement', 'release', 'expiry')
        ) + (select count(*) from open_holds where open_holds.org_id = hold.org_id and open_holds.seq = hold.seq)""",
    "sequences are dense": """
        select head.org_id from org_heads as head left join ledger_entries as entry using (org_id)
        group by head.org_id, head.last_seq having count(entry.seq) <> head.last_seq""",
}
