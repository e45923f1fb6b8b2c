"""Billable work: held before, settled by its outcome after, given back when it fails, whatever it is written as."""

from __future__ import annotations

import asyncio
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import tallystick_sdk
from tallystick_sdk import AsyncTally, BadRequest, Denied, Retry, Tally, Unavailable, configure, current_work

USAGE = {"provider": "openai", "model": "gpt-4o-mini", "meters": {"tokens_in": 1000, "tokens_out": 200}}


def kinds(org: Any) -> list[str]:
    """What happened to the wallet since it was filled."""
    return [entry["kind"] for entry in org.history()][1:]


@pytest.fixture
def async_tally(org: Any) -> AsyncTally:
    return AsyncTally(
        base_url=org.url, org_id=org.org_id, user_id="u-1", session_id="s-1", feature="f", environment="production"
    )


def test_a_function_is_charged_when_it_returns_and_its_usage_is_part_of_it(tally: Tally, org: Any) -> None:
    @tally.billable("tailor", key="document")
    def tailor(document: str, *, loud: bool = False) -> str:
        """Tailors."""
        tally.record(USAGE, request_id="call-1")
        assert current_work() is not None
        return document.upper() if loud else document

    assert tailor("doc-1", loud=True) == "DOC-1"
    assert (tailor.__name__, tailor.__doc__) == ("tailor", "Tailors.")
    assert tally.wallet().available == Decimal(95)
    assert kinds(org) == ["hold", "settlement"]
    (event,) = org.ledger()
    assert (event["action"], event["request_id"], event["feature"]) == ("tailor", "call-1", "documents")
    assert tally.flush()
    assert tally.stats().waiting == 0  # the copy that waited for the settlement is gone
    assert len(org.ledger()) == 1


def test_the_same_key_again_is_a_repeat(tally: Tally) -> None:
    @tally.billable("tailor", key="{job}:{document.name}")
    def tailor(job: int, document: Any) -> None: ...

    document = type("Document", (), {"name": "cv"})()
    tailor(1, document)
    tailor(job=1, document=document)
    assert tally.wallet().available == Decimal(95)
    tailor(2, document)
    assert tally.wallet().available == Decimal(90)


def test_work_that_fails_gives_back_what_was_held_and_the_exception_is_the_callers(tally: Tally, org: Any) -> None:
    @tally.billable("tailor")
    def tailor() -> None:
        raise KeyError("no such document")

    with pytest.raises(KeyError, match="no such document"):
        tailor()
    assert kinds(org) == ["hold", "release"]
    assert tally.wallet().available == Decimal(100)
    assert current_work() is None


def test_work_that_fails_after_it_used_something_is_a_failure_with_its_usage(tally: Tally, org: Any) -> None:
    works = []

    def halfway() -> None:
        with tally.billable("tailor") as work:
            works.append(work)
            tally.record(USAGE)
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        halfway()
    (work,) = works
    assert work.settlement is not None
    assert (work.settlement.outcome, work.settlement.charged_credits) == ("failure", Decimal(0))
    assert kinds(org) == ["hold", "settlement"]
    assert len(org.ledger()) == 1


def test_the_outcome_is_said_in_the_block_or_told_from_what_a_function_returns(tally: Tally) -> None:
    with tally.billable("tailor", key=uuid.uuid4()) as work:
        work.outcome = "empty"
        with pytest.raises(ValueError, match="no outcome"):
            work.outcome = "great"
    assert (work.settlement.outcome, work.settlement.charged_credits) == ("empty", Decimal(0))

    @tally.billable("tailor", outcome=lambda found: "success" if found else "empty")
    def search(found: list[int]) -> list[int]:
        return found

    search([])
    assert tally.wallet().available == Decimal(100)
    search([1])
    assert tally.wallet().available == Decimal(95)


def test_less_may_be_charged_than_was_held(tally: Tally) -> None:
    with tally.billable("tailor") as work:
        work.charge_credits = 2
        with pytest.raises(BadRequest, match="invalid_credits"):
            work.charge_credits = 0.1  # type: ignore[assignment]
    assert work.settlement.charged_credits == Decimal(2)


def test_denied_work_is_not_begun(tally: Tally) -> None:
    begun = []

    @tally.billable("research", model="gpt-4o", meters={"tokens_in": 10**9})
    def research() -> None:
        begun.append(1)

    with pytest.raises(Denied):
        research()
    with pytest.raises(Denied), tally.billable("no_such_action"):
        begun.append(2)
    assert begun == []


def test_tags_and_terms_may_come_from_the_arguments(tally: Tally, org: Any) -> None:
    @tally.billable("tailor", key=lambda document, user: f"{user}/{document}", user_id=lambda document, user: user)
    def tailor(document: str, user: str) -> None:
        tally.record(USAGE)

    tailor("d", user="u-42")
    (event,) = org.ledger()
    assert event["user_id"] == "u-42"


def test_a_key_that_names_nothing_or_could_never_repeat_is_an_error(tally: Tally) -> None:
    with pytest.raises(TypeError, match="no parameter 'documnt'"):

        @tally.billable("tailor", key="documnt")
        def tailor(document: str) -> None: ...

    @tally.billable("tailor", key=lambda document: document)
    def other(document: Any) -> None: ...

    with pytest.raises(TypeError, match="work_key is object"):
        other(object())
    with pytest.raises(TypeError, match="no tag"):
        tally.billable("tailor", usr="x")


def test_a_generator_is_billed_when_it_is_through_and_its_reader_has_a_context_of_its_own(
    tally: Tally, org: Any
) -> None:
    @tally.billable("tailor")
    def pieces() -> Iterator[str]:
        got = yield "a"
        tally.record(USAGE, attributes={"got": got})
        yield "b"

    read = pieces()
    assert next(read) == "a"
    assert current_work() is None
    assert read.send("x") == "b"
    assert tally.wallet().held == Decimal(5)
    assert list(read) == []
    assert tally.wallet().available == Decimal(95)
    assert org.ledger()[0]["attributes"] == {"got": "x"}

    left = pieces()
    next(left)
    left.close()  # who leaves has been served
    assert tally.wallet().available == Decimal(90)
    broken = pieces()
    next(broken)
    with pytest.raises(ZeroDivisionError):
        broken.throw(ZeroDivisionError())
    assert tally.wallet().available == Decimal(90)


def test_async_functions_generators_and_blocks(async_tally: AsyncTally, org: Any) -> None:
    @async_tally.billable("tailor", key="document")
    async def tailor(document: str) -> str:
        async_tally.record(USAGE)
        await asyncio.sleep(0)
        return document

    @async_tally.billable("tailor")
    async def pieces() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def run() -> Any:
        assert await asyncio.gather(*(tailor(f"doc-{n}") for n in range(4))) == [f"doc-{n}" for n in range(4)]
        assert [one async for one in pieces()] == [0, 1, 2]
        async with async_tally.billable("tailor") as work:
            pass
        with pytest.raises(RuntimeError):
            async with async_tally.billable("tailor"):
                raise RuntimeError
        wallet = await async_tally.wallet()
        await async_tally.close()
        return work.settlement, wallet

    settlement, wallet = asyncio.run(run())
    assert settlement.charged_credits == Decimal(5)
    assert (wallet.available, wallet.held) == (Decimal(70), Decimal(0))
    assert len(org.ledger()) == 4


def test_a_cancelled_task_gives_back_what_it_held(async_tally: AsyncTally) -> None:
    async def run() -> Any:
        @async_tally.billable("tailor")
        async def forever() -> None:
            await asyncio.sleep(60)

        task = asyncio.create_task(forever())
        while (await async_tally.wallet()).held != Decimal(5):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wallet = await async_tally.wallet()
        await async_tally.close()
        return wallet

    wallet = asyncio.run(run())
    assert (wallet.available, wallet.held) == (Decimal(100), Decimal(0))


def test_a_blocking_client_bills_async_functions_without_blocking_the_loop(tally: Tally) -> None:
    @tally.billable("tailor")
    async def tailor() -> int:
        return 7

    assert asyncio.run(tailor()) == 7
    assert tally.wallet().available == Decimal(95)


def test_an_async_client_cannot_bill_what_is_not_awaited(async_tally: AsyncTally) -> None:
    with pytest.raises(TypeError, match="is awaited"):

        @async_tally.billable("tailor")
        def tailor() -> None: ...

    with pytest.raises(TypeError, match="is awaited"), async_tally.billable("tailor"):
        pass


def test_work_within_work_has_a_hold_and_usage_of_its_own(tally: Tally, org: Any) -> None:
    with tally.billable("tailor", feature="outer") as outer:
        tally.record(USAGE, request_id="outer-1")
        with tally.billable("tailor", feature="inner") as inner:
            tally.record(USAGE, request_id="inner-1")
        tally.record(USAGE, request_id="outer-2")
    assert [event.request_id for event in outer.settlement.events] == ["outer-1", "outer-2"]
    assert [event.request_id for event in inner.settlement.events] == ["inner-1"]
    assert {one["request_id"]: one["feature"] for one in org.ledger()}["inner-1"] == "inner"


def test_usage_beyond_what_one_settlement_brings_is_recorded_by_itself(tally: Tally, org: Any) -> None:
    with tally.billable("tailor") as work:
        for number in range(1003):
            tally.record(USAGE, request_id=f"r-{number}")
    assert len(work.settlement.events) == 1000
    assert tally.flush()
    assert (tally.stats().refused, tally.stats().dropped) == (0, 0)


def test_a_settlement_that_cannot_be_sent_is_sent_later_and_the_work_is_not_broken(own_server: Any) -> None:
    org = own_server.new_org()
    tags = {"org_id": org.org_id, "user_id": "u", "session_id": "s", "feature": "f", "environment": "production"}
    tally = Tally(base_url=org.url, retry=Retry(deadline_seconds=0.3), **tags)
    with tally.billable("tailor") as work:
        tally.record(USAGE, request_id="call-1").wait(5)
        own_server.stop(signal.SIGKILL)
    assert work.settlement is None
    with pytest.raises(Unavailable), tally.billable("tailor"):
        pytest.fail("nobody could be asked")
    with tally.billable("tailor", fail_open=True) as unasked:
        tally.record(USAGE, request_id="call-2")
    assert (unasked.authorization, unasked.settlement) == (None, None)
    own_server.start()
    assert tally.flush(30)
    ends = time.monotonic() + 10
    while tally.stats().waiting and time.monotonic() < ends:
        time.sleep(0.05)
    with Tally(base_url=org.url, spool=False, **tags) as patient:
        assert patient.wallet().available == Decimal(95)
    assert sorted((one["request_id"], one["action"]) for one in org.ledger()) == [
        ("call-1", "tailor"),
        ("call-2", "tailor"),
    ]
    assert (tally.stats().waiting, tally.stats().refused) == (0, 0)
    tally.close()


def test_usage_of_work_whose_hold_was_ended_elsewhere_is_recorded_by_itself(
    tally: Tally, org: Any, caplog: Any
) -> None:
    with tally.billable("tailor") as work:
        tally.record(USAGE, request_id="call-1")
        tally.release(work.hold_id)
    assert "is not charged" in caplog.text
    assert tally.flush()
    assert [one["request_id"] for one in org.ledger()] == ["call-1"]
    assert tally.wallet().available == Decimal(100)


def test_usage_that_is_refused_does_not_keep_the_work_from_being_charged(tally: Tally, org: Any, caplog: Any) -> None:
    tally.record(USAGE, request_id="call-2")
    assert tally.flush()
    with tally.billable("tailor") as work:
        tally.record(USAGE, request_id="call-1")
        tally.record(USAGE, request_id="wrong", meters={"no_such_meter": 1})
        tally.record(USAGE, request_id="call-2", meters={"tokens_in": 1})  # another event has this id
        tally.record(USAGE, request_id="call-3")
    assert work.settlement is not None
    assert work.settlement.charged_credits == Decimal(5)
    assert [event.request_id for event in work.settlement.events] == ["call-1", "call-3"]
    assert "without usage that is refused" in caplog.text
    assert tally.flush()
    assert {one.id: one.code for one in tally.refused()} == {
        "wrong": "unknown_meter", "call-2": "request_id_conflict",
    }  # fmt: skip
    assert sorted(one["request_id"] for one in org.ledger()) == ["call-1", "call-2", "call-3"]


def test_a_process_that_dies_in_the_middle_of_work_leaves_its_usage_on_disk_until_the_hold_is_over(
    tally_of: Callable[..., Tally], org: Any, tmp_path: Any
) -> None:
    tally = tally_of(spool=tmp_path / "one.sqlite")
    work = tally.billable("tailor")
    work.__enter__()
    assert tally.record(USAGE, request_id="call-1").wait(5)
    tally.close(0)  # and nobody ever ends the work
    connection = __import__("sqlite3").connect(tmp_path / "one.sqlite")
    ((due_in,),) = connection.execute("select due_at - stored_at from waiting where id = 'call-1'").fetchall()
    assert 15 * 60 < due_in < 17 * 60  # the hold's life, and a minute
    connection.execute("update waiting set due_at = 0")
    connection.commit()
    connection.close()
    assert tally_of(spool=tmp_path / "one.sqlite").flush()
    assert [one["request_id"] for one in org.ledger()] == ["call-1"]
    work.__exit__(None, None, None)


def test_the_default_client_comes_from_the_environment(org: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("TALLY_BASE_URL", org.url + "/v1/")
    monkeypatch.setenv("TALLY_ORG", org.org_id)
    configure(None)

    @tallystick_sdk.billable("tailor", key="document")
    def tailor(document: str) -> None:
        tallystick_sdk.record(USAGE, request_id="call-1")

    with tallystick_sdk.tags(user_id="u", session_id="s", feature="f", environment="production"):
        tailor("doc")
    assert [one["request_id"] for one in org.ledger()] == ["call-1"]
    configure(None)
