"""What a writer keeps of an org holds though others count, though it forgets, and though it serves ever more orgs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from account_operations import authorize, event, grant, release, settle, subscribe, wrongs
from journal_helpers import query
from kept_writers import NOW, Writers
from tallystick.app.orgs import set_subscription
from tallystick.app.runtime import Runtime
from tallystick.app.verify import verify_ledger
from tallystick.journal import operations_kept, operations_read
from tallystick.journal.operations_writer import Upkeep
from tallystick.ledger.operations import CREDIT, Held

CONTRACT = """\
contract: counted
version: "1"
effective_from: 2026-10-01T00:00:00Z
currency: USD
holds: {life: 5s}
credit: {name: credit, usd: "0.01"}
actions:
  tailor_document: {title: Tailor a document, price: {credits: 5}, charge_on: [success], shows: 5 credits.}
plans:
  small:
    title: Small
    kind: credits
    base: "0"
    top_up: true
    limits: [{meters: [tokens_in], max: 1000, per: day, kind: hard}]
"""


@pytest.fixture
def writers(runtime: Runtime) -> Iterator[Writers]:
    subscribe(runtime, "acme", plan="small", contract=CONTRACT)
    made = Writers(runtime, 2)
    yield made
    made.close()


def used(writers: Writers, number: int) -> int:
    """What the next decision takes the day's limit to be used for."""
    (looked,) = writers.one(number, authorize(meters={"tokens_in": 1})).result.decision.limits
    return int(looked.used)


def test_what_another_has_counted_without_an_entry_is_not_counted_again(writers: Writers) -> None:
    writers.one(0, grant())
    assert used(writers, 0) == 0
    writers.runtime.write([event(meters={"tokens_in": 100}, time=NOW)]).result()
    writers.one(1, grant())  # nothing is decided: what came in stays to be counted
    writers.write(0, Upkeep("acme"))  # which is done here, and makes no entry
    assert used(writers, 1) == 100
    assert used(writers, 0) == 100
    assert verify_ledger(writers.runtime, processes=1).findings.kept == []


def test_a_hold_that_is_kept_ends_however_many_were_made_since(writers: Writers) -> None:
    writers.works[0]._cache._holds_max = 1
    writers.one(0, grant())
    first = writers.one(0, authorize(user="ann"))
    for _ in range(3):
        writers.one(0, authorize())
    writers.now = first.result.expires_at
    after = writers.one(0, authorize())
    assert after.result.before.available_pico == 100 * CREDIT
    ended = query(
        writers.runtime, "select user_id, action from ledger_entries where kind = 'expiry' order by refers_to_seq"
    )
    assert ended == [("ann", "tailor_document"), *[("u1", "tailor_document")] * 3]
    assert wrongs(writers.runtime) == []


def test_the_same_settlement_twice_in_a_group_is_one_however_many_holds_were_made_since(writers: Writers) -> None:
    writers.works[0]._cache._holds_max = 1
    writers.one(0, grant())
    hold = writers.one(0, authorize())
    for _ in range(3):
        writers.one(0, authorize())
    once = settle(hold)
    first, again = writers.write(0, once, once)
    assert first.seq == again.seq


def test_a_hold_that_is_kept_is_settled_under_its_contract_however_many_were_read_since(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations_read, "_CONTRACTS_KEPT", 0)
    writers.one(0, grant())
    holds = [writers.one(0, authorize()) for _ in range(3)]
    assert writers.one(0, settle(holds[0], event(meters={"tokens_in": 100}, time=NOW))).result.charge_pico
    writers.one(0, release(holds[1]))
    writers.now = holds[2].result.expires_at
    assert isinstance(writers.one(0, authorize()).result, Held)


def test_a_clock_that_was_put_back_has_the_terms_of_its_instant(writers: Writers) -> None:
    writers.one(0, grant())
    later = NOW + timedelta(minutes=1)
    changed = CONTRACT.replace("counted", "other", 1)
    subscribe(writers.runtime, "else", plan="small", contract=changed)
    set_subscription(writers.runtime, "acme", contract="other", plan="small", time_zone="UTC", effective_from=later)
    for seconds, name in ((60, "other"), (59, "counted"), (61, "other")):
        writers.now = NOW + timedelta(seconds=seconds)
        assert writers.one(0, authorize()).result.decision.contract == name


def test_what_is_kept_of_all_orgs_together_is_bounded(writers: Writers, monkeypatch: pytest.MonkeyPatch) -> None:
    orgs = [f"org-{number}" for number in range(6)]
    subscribe(writers.runtime, *orgs, plan="small", contract=CONTRACT)
    alone = _kept_after(writers, orgs[:1])
    assert alone == orgs[:1]
    monkeypatch.setattr(operations_kept, "_WEIGHT_MAX", 3 * _weight(writers, orgs[0]))
    assert _kept_after(writers, orgs) == orgs[3:]
    for org in orgs[3:]:
        for _ in range(5):
            writers.one(0, authorize(org))
    assert len(_kept(writers)) < 3
    kept: Any = writers.works[0]._reader._kept
    assert kept.weight == sum(_weight(writers, org) for org in _kept(writers))


def _kept(writers: Writers) -> list[str]:
    return list(writers.works[0]._reader._kept._kept)


def _weight(writers: Writers, org: str) -> int:
    return operations_kept._weight(writers.works[0]._reader._kept._kept[org].org)


def _kept_after(writers: Writers, orgs: list[str]) -> list[str]:
    for org in orgs:
        writers.write(0, grant(org), Upkeep(org))
    return _kept(writers)


def test_terms_that_are_recorded_while_a_group_is_decided_hold_for_the_next(
    writers: Writers, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe(writers.runtime, "else", plan="small", contract=CONTRACT.replace("counted", "other", 1))
    writers.one(0, grant())

    def change(name: str) -> None:
        if name == "operations.decided":
            terms = {"contract": "other", "plan": "small", "time_zone": "UTC"}
            set_subscription(writers.runtime, "acme", **terms, effective_from=NOW)

    with monkeypatch.context() as patched:
        patched.setattr("tallystick.journal.operations_writer.reached", change)
        assert writers.one(0, authorize()).result.decision.contract == "counted"
    assert writers.one(0, authorize()).result.decision.contract == "other"
