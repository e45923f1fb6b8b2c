"""Operations through the database: decided, written and answered, once each."""

from __future__ import annotations

import threading

import pytest

from account_operations import authorize, do, event, grant, settle, subscribe
from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.journal.steps import install
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


def test_an_org_that_was_forgotten_for_want_of_room_is_known_again(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallystick.journal.operations_writer._ORGS_REMEMBERED_MAX", 0)
    subscribe(runtime, "acme", "globex")
    do(runtime, grant("acme"))
    go = threading.Event()
    install(lambda step: bool(step == "operations.decided" and go.wait(10)))
    try:
        asked = [runtime.operations.submit(grant(org)) for org in ("acme", "acme", "globex")]
        go.set()  # the last two are one group: of acme, which is known, and of globex, which is new
        assert [future.result().org_id for future in asked] == ["acme", "acme", "globex"]
    finally:
        go.set()
        install(None)
