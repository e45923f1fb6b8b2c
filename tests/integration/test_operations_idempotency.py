"""The same operation, however often and however it comes: one effect, one answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from account_operations import (
    account_of,
    authorize,
    do,
    event,
    grant,
    in_one_group,
    refund,
    release,
    settle,
    subscribe,
    told,
    wrongs,
)
from journal_helpers import count, query
from tallystick.app.erase import erase_person
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError
from tallystick.journal import steps
from tallystick.ledger.operations import CREDIT, Denied, Held, Operation, Recorded, Settled

Make = Callable[[Runtime], Operation]


def _authorize(_: Runtime) -> Operation:
    return authorize(request_id="same", meters={"tokens_in": 100})


def _settle(runtime: Runtime) -> Operation:
    return settle(do(runtime, authorize()), event(), event())


def _release(runtime: Runtime) -> Operation:
    return release(do(runtime, authorize()), "not needed")


def _refund(runtime: Runtime) -> Operation:
    return refund(do(runtime, settle(do(runtime, authorize()), event())), 2)


def _grant(_: Runtime) -> Operation:
    return grant(credits=7)


operations = pytest.mark.parametrize("make", [_authorize, _settle, _release, _refund, _grant])


@pytest.fixture
def account(runtime: Runtime) -> Runtime:
    """An org with 100 credits bought, and those that its plan includes."""
    subscribe(runtime, "acme")
    do(runtime, grant(credits=100))
    do(runtime, authorize())
    return runtime


@pytest.fixture
def others(account: Runtime, tmp_path: Path) -> Iterator[list[Runtime]]:
    """Three processes' worth of writers on one database."""
    with ExitStack() as stack:
        more = [stack.enter_context(open_runtime(account.settings, account.clock)) for _ in range(2)]
        yield [account, *more]


@operations
def test_sent_three_times_in_one_group_it_has_one_effect_and_one_answer(account: Runtime, make: Make) -> None:
    operation = make(account)
    entries = count(account, "ledger_entries")
    answers = in_one_group(account, operation, operation, operation)
    assert len({told(answer) for answer in answers}) == 1
    assert count(account, "ledger_entries") == entries + 1 + len(operation.events)
    before = account_of(account)
    assert told(do(account, operation)) == told(answers[0])
    assert account_of(account) == before
    assert wrongs(account) == []


@operations
def test_sent_at_once_to_several_processes_it_has_one_effect_and_one_answer(others: list[Runtime], make: Make) -> None:
    operation = make(others[0])
    entries = count(others[0], "ledger_entries")
    start = threading.Barrier(len(others))

    def send(runtime: Runtime) -> bytes:
        start.wait()
        return told(runtime.operations.submit(operation).result(20))

    with ThreadPoolExecutor(len(others)) as threads:
        answers = list(threads.map(send, others))
    assert len(set(answers)) == 1
    assert count(others[0], "ledger_entries") == entries + 1 + len(operation.events)
    assert wrongs(others[0]) == []


@operations
@pytest.mark.parametrize(
    "step", ["operations.loaded", "operations.decided", "operations.copied", "operations.committed"]
)
def test_after_a_connection_was_lost_at_any_step_it_has_one_effect_and_one_answer(
    account: Runtime, make: Make, step: str
) -> None:
    operation = make(account)
    entries = count(account, "ledger_entries")
    cut: list[str] = []

    def hook(name: str) -> None:
        if name == step and not cut:
            cut.append(name)
            _cut_off_writers(account)

    steps.install(hook)
    try:
        answer = do(account, operation)
    finally:
        steps.install(None)
    assert cut == [step]
    assert told(do(account, operation)) == told(answer)
    assert count(account, "ledger_entries") == entries + 1 + len(operation.events)
    assert wrongs(account) == []


def _cut_off_writers(runtime: Runtime) -> None:
    with psycopg.connect(runtime.database.url, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where pid <> pg_backend_pid() and datname = current_database() and query like '%tally_%'"
        )


def test_the_same_id_with_other_content_is_a_conflict_and_moves_nothing(account: Runtime) -> None:
    do(account, authorize(request_id="r1"))
    before = account_of(account)
    for other in (
        authorize(request_id="r1", feature="other"),
        authorize(request_id="r1", user="somebody else"),
        authorize(request_id="r1", meters={"tokens_in": 1}),
    ):
        with pytest.raises(Conflict) as refused:
            do(account, other)
        assert refused.value.code == "request_id_conflict"
    in_group = in_one_group(account, authorize(request_id="r2"), authorize(request_id="r2", feature="other"))
    assert isinstance(in_group[0], Recorded)
    assert isinstance(in_group[1], Conflict)
    do(account, release(in_group[0]))
    assert account_of(account)["open"] == before["open"]
    assert wrongs(account) == []


def test_a_hold_is_resolved_once_whatever_comes(account: Runtime) -> None:
    hold = do(account, authorize())
    done = do(account, settle(hold, event(request_id="used")))
    before = account_of(account)
    for other in (
        settle(hold, event(request_id="used"), outcome="failure"),
        settle(hold, event()),
        settle(hold),
        release(hold),
    ):
        with pytest.raises(Conflict) as refused:
            do(account, other)
        assert refused.value.code == "hold_resolved"
    with pytest.raises(Conflict) as changed:  # the same ids, and other content behind one of them
        do(account, settle(hold, event(request_id="used", meters={"tokens_in": 1})))
    assert changed.value.code == "request_id_conflict"
    assert told(do(account, settle(hold, event(request_id="used")))) == told(done)
    assert account_of(account) == before


def test_of_a_settlement_and_a_release_at_once_one_wins_and_the_other_is_told(account: Runtime) -> None:
    hold = do(account, authorize())
    done, refused = in_one_group(account, settle(hold, event()), release(hold))
    assert isinstance(done, Recorded)
    assert isinstance(refused, Conflict)
    assert wrongs(account) == []


def test_events_of_a_settlement_are_the_same_events_that_came_otherwise(account: Runtime) -> None:
    used, late = event(request_id="x"), event(request_id="y")
    hold = do(account, authorize())
    account.append([used])
    done = do(account, settle(hold, used, late))
    assert [receipt.status for receipt in done.usage] == ["duplicate", "accepted"]
    assert query(account, "select count(*) from ledger_entries where kind = 'usage'") == [(2,)]
    assert told(do(account, settle(hold, used, late))) == told(done)
    (receipt,) = account.append([late])
    assert (receipt.status, receipt.seq) == ("duplicate", done.usage[1].seq)


def test_an_event_with_other_content_fails_its_settlement_and_no_other(account: Runtime) -> None:
    account.append([event(request_id="x")])
    first, second = do(account, authorize()), do(account, authorize())
    refused, done = in_one_group(
        account,
        settle(first, event(), event(request_id="x", meters={"tokens_in": 7})),
        settle(second, event()),
    )
    assert isinstance(refused, Conflict)
    assert refused.code == "request_id_conflict"
    assert isinstance(done, Recorded)
    assert isinstance(done.result, Settled)
    assert query(account, "select count(*) from ledger_entries where kind = 'usage'") == [(2,)]
    assert first.seq in [seq for (seq,) in account_of(account)["open"]]
    assert wrongs(account) == []


def test_one_bad_operation_harms_no_other_of_its_group(account: Runtime) -> None:
    hold = do(account, authorize())
    unknown = Recorded(
        org_id="acme", kind="hold", seq=999, request_id="", recorded_at=hold.recorded_at, request=hold.request,
        result=hold.result, fingerprint="", leaf="", rate_version="",
    )  # fmt: skip
    answers = in_one_group(
        account,
        grant("nobody", 5),
        settle(unknown, event()),
        grant(credits=-1),
        settle(hold, event(), charge_pico=999 * CREDIT),
        refund(unknown),
        grant(credits=3),
        authorize(action="unheard_of"),
        authorize(),
        settle(hold, event()),
    )
    codes = [answer.code if isinstance(answer, TallyError) else answer.kind for answer in answers]
    assert codes == [
        "unknown_org", "hold_unknown", "invalid_amount", "settle_above_hold", "settlement_unknown", "grant", "denial",
        "hold", "settlement",
    ]  # fmt: skip
    assert isinstance(answers[0], NotFound)
    assert isinstance(answers[2], BadInput)
    assert wrongs(account) == []
    assert query(account, "select count(*) from org_heads where org_id = 'nobody'") == [(0,)]


def test_a_denial_claims_no_id_and_a_hold_does_even_when_the_wallet_is_empty_by_then(runtime: Runtime) -> None:
    subscribe(runtime, "acme", plan="byok")
    subscribe(runtime, "poor", plan="discovery")
    held = [do(runtime, authorize("poor", f"r{number}")) for number in range(60)]
    assert all(isinstance(one.result, Held) for one in held)
    denied = do(runtime, authorize("poor", "last"))
    assert isinstance(denied.result, Denied)
    assert told(do(runtime, authorize("poor", "r7"))) != told(denied)
    assert do(runtime, authorize("poor", "r7")).seq == held[7].seq
    again = do(runtime, authorize("poor", "last"))
    assert isinstance(again.result, Denied)
    assert again.seq > denied.seq
    do(runtime, release(held[0]))
    assert isinstance(do(runtime, authorize("poor", "last")).result, Held)
    assert wrongs(runtime) == []


def test_many_callers_at_once_never_spend_more_than_there_is(others: list[Runtime]) -> None:
    runtime = others[0]
    subscribe(runtime, "small", plan="discovery")
    futures: list[Future[Recorded]] = [
        others[number % len(others)].operations.submit(authorize("small", f"n{number}")) for number in range(120)
    ]
    answers = [future.result(30) for future in futures]
    assert sum(isinstance(answer.result, Held) for answer in answers) == 60
    assert account_of(runtime, "small")["balances"]["wallet_available"] == 0
    assert wrongs(runtime) == []


def test_when_a_person_is_erased_what_was_done_for_them_is_still_known(account: Runtime) -> None:
    asked, used = authorize(request_id="r1", user="gone"), event(request_id="x", user_id="gone")
    hold = do(account, asked)
    done = do(account, settle(hold, used))
    open_one = do(account, authorize(request_id="r2", user="gone"))
    erase_person(account, "acme", "gone")
    assert do(account, asked).seq == hold.seq
    assert do(account, settle(hold, used)).seq == done.seq
    for other in (
        authorize(request_id="r1", user="gone", feature="other"),
        settle(hold, event(request_id="x", user_id="gone", meters={"tokens_in": 1})),
    ):
        with pytest.raises(Conflict) as refused:
            do(account, other)
        assert refused.value.code == "request_id_conflict"
    settled = do(account, settle(open_one, event(user_id="gone")))
    assert query(account, "select user_id from ledger_entries where seq = %s", settled.seq) == [(None,)]
    assert wrongs(account) == []
