"""Processes read their clocks before they wait for each other: what is over stays over all the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from account_operations import authorize, event, grant, release, settle, subscribe, wrongs
from journal_helpers import query
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.core.errors import TallyError
from tallystick.journal.operations_writer import OperationWork
from tallystick.ledger.operations import CREDIT, Denied, Held, Operation

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
CONTRACT = """\
contract: clocks
version: "1"
effective_from: 2026-10-01T00:00:00Z
currency: USD
credit: {name: credit, usd: "0.01"}
actions:
  tailor_document: {title: Tailor a document, price: {credits: 5}, charge_on: [success], shows: 5 credits.}
plans:
  wallet: {title: Wallet, kind: credits, base: "0", top_up: true}
"""


class Process:
    """A writer with a clock of its own."""

    def __init__(self, runtime: Runtime) -> None:
        self.now = NOON
        self._connection = runtime.database.connect_writer()
        self._work = OperationWork(lambda: self.now, lambda: runtime.card, runtime.random_bytes)

    def do(self, operation: Operation, at: datetime):
        self.now = at
        (answer,) = self._work.write(self._connection, [operation], probe=False)
        assert not isinstance(answer, TallyError), answer
        return answer

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def processes(runtime: Runtime):
    subscribe(runtime, "acme", plan="wallet", contract=CONTRACT)
    made = [Process(runtime) for _ in range(2)]
    yield made
    for one in made:
        one.close()


@pytest.mark.parametrize("end", ["release", "settle"])
def test_a_grant_that_has_ended_takes_nothing_back_whose_clock_ever_is_behind(
    runtime: Runtime, processes: list[Process], end: str
) -> None:
    first, second = processes
    ends_at = NOON + timedelta(minutes=5)
    first.do(grant(credits=10, expires_at=ends_at), NOON)
    hold = first.do(authorize(), NOON + timedelta(minutes=4))
    assert isinstance(first.do(authorize(), ends_at).result, Denied)  # what was left of the grant is over
    back = release(hold) if end == "release" else settle(hold, event(), outcome="failure")
    late = second.do(back, ends_at - timedelta(milliseconds=5))
    assert late.result.expired_pico == 5 * CREDIT
    assert isinstance(second.do(grant(), ends_at - timedelta(milliseconds=1)).result.after.available_pico, int)
    assert isinstance(first.do(authorize(), ends_at + timedelta(minutes=1)).result, Held)
    ((count,),) = query(runtime, "select count(*) from ledger_entries where kind = 'expiry' and request_id = 'g1'")
    assert count == 1
    assert wrongs(runtime) == []
    assert verify_ledger(runtime, processes=1).findings.kept == []
