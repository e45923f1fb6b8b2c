"""Operations through the database: decided, written and answered, once each."""

from __future__ import annotations

from account_operations import authorize, do, event, grant, settle, subscribe
from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.ledger.operations import CREDIT, Held, Settled


def test_a_request_is_held_settled_and_charged(runtime: Runtime) -> None:
    subscribe(runtime, "acme")
    bought = do(runtime, grant(credits=100))
    assert bought.seq == 1
    hold = do(runtime, authorize())
    assert isinstance(hold.result, Held)
    assert hold.result.after.held_pico == 5 * CREDIT
    done = do(runtime, settle(hold, event()))
    assert isinstance(done.result, Settled)
    assert done.result.after.available_pico == 2595 * CREDIT
    assert done.result.after.held_pico == 0
    assert [receipt.status for receipt in done.usage] == ["accepted"]
    kinds = query(runtime, "select kind from ledger_entries order by seq")
    assert [kind for (kind,) in kinds] == ["grant", "grant", "hold", "usage", "settlement"]
