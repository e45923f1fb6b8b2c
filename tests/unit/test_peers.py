"""Each org's operations are written by one worker; one that is away, stops or falls silent keeps nobody waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tallystick.app import peers as module
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.peers import Peers, Place, owner_of, socket_path
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.ledger.operations import Operation, Recorded, ReleaseHold, Returned, WalletState

NOTHING = WalletState(available_pico=0, held_pico=0)


class Writer:
    """What writes in one process: it notes what it was given, and answers as it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.written: list[str] = []
        self.answer: Callable[[Operation, Future[Recorded]], None] = self.record

    def submit(self, operation: Operation) -> Future[Recorded]:
        self.written.append(operation.request_id)
        future: Future[Recorded] = Future()
        self.answer(operation, future)
        return future

    def record(self, operation: Operation, future: Future[Recorded]) -> None:
        future.set_result(
            Recorded(
                org_id=operation.org_id,
                kind="release",
                seq=7,
                request_id=operation.request_id,
                recorded_at=datetime(2026, 11, 2, tzinfo=UTC),
                request=operation.request,
                result=Returned(returned=(), expired_pico=0, before=NOTHING, after=NOTHING),
                fingerprint="f",
                leaf=self.name,
                rate_version="v",
            )
        )


class Machine:
    """Two workers in one loop."""

    def __init__(self, folder: Path) -> None:
        self.inbox = LoopInbox(asyncio.get_running_loop())
        self.folder = folder
        self.writers = [Writer("first"), Writer("second")]
        self.listeners = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for number, listener in enumerate(self.listeners):
            listener.bind(str(socket_path(folder, number)))
            listener.listen(2)
        self.peers = [self.worker(number) for number in range(2)]

    def worker(self, number: int) -> Peers:
        place = Place(number, 2, self.folder, self.listeners[number].dup())
        return Peers(place, self.writers[number].submit, self.inbox)

    async def until_met(self) -> None:
        for number, one in enumerate(self.peers):
            while one.offer(release(org_of(1 - number), "hello")) is None:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        for writer in self.writers:
            writer.written.clear()

    async def ask(self, number: int, operation: Operation) -> Recorded:
        future = self.peers[number].offer(operation)
        assert future is not None
        return await asyncio.wait_for(asyncio.wrap_future(future), 20)


@asynccontextmanager
async def machine(folder: Path) -> AsyncIterator[Machine]:
    made = Machine(folder)
    for one in made.peers:
        await one.start()
    await made.until_met()
    yield made
    for one in made.peers:
        await one.stop()
    for listener in made.listeners:
        listener.close()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def org_of(number: int) -> str:
    """An org that belongs to that one of two workers."""
    return next(f"org-{n}" for n in range(100) if owner_of(f"org-{n}", 2) == number)


def release(org_id: str, request_id: str = "h1") -> Operation:
    return Operation(
        org_id=org_id, kind="release", request_id=request_id, request=ReleaseHold(hold_seq=1), salt=b"0" * 16
    )


def test_orgs_are_shared_out_evenly() -> None:
    owners = [owner_of(f"org-{number}", 4) for number in range(4000)]
    assert set(owners) == {0, 1, 2, 3}
    assert all(800 < owners.count(number) < 1200 for number in range(4))


def test_what_belongs_to_another_is_written_there_and_only_there(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            assert made.peers[0].offer(release(org_of(0))) is None
            answers = await asyncio.gather(*[made.ask(0, release(org_of(1), f"h{n}")) for n in range(50)])
            assert [one.request_id for one in answers] == [f"h{n}" for n in range(50)]
            assert {one.leaf for one in answers} == {"second"}
            assert made.writers[0].written == []
            assert sorted(made.writers[1].written) == sorted(f"h{n}" for n in range(50))

    run(test())


def test_another_thread_may_ask(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            future = await asyncio.to_thread(made.peers[0].offer, release(org_of(1)))
            assert future is not None
            assert (await asyncio.wrap_future(future)).leaf == "second"

    run(test())


def test_a_refusal_comes_back(short_dir: Path) -> None:
    def refuse(_: Operation, future: Future[Recorded]) -> None:
        future.set_exception(Conflict("hold_resolved", "it is settled", next_step="nothing moved", where="hold_id"))

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = refuse
            with pytest.raises(TallyError) as refused:
                await made.ask(0, release(org_of(1)))
            assert isinstance(refused.value, Conflict)
            assert refused.value.code == "hold_resolved"

    run(test())


def test_what_a_worker_that_stops_will_not_take_is_written_here(short_dir: Path) -> None:
    def stop(_: Operation, future: Future[Recorded]) -> None:
        future.set_exception(Unavailable("journal_closed", "it stops", next_step="ask another"))

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = stop
            assert (await made.ask(0, release(org_of(1)))).leaf == "first"

    run(test())


def test_what_waits_for_a_worker_that_dies_is_written_here(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = lambda _operation, _future: None
            future = made.peers[0].offer(release(org_of(1)))
            assert future is not None
            while not made.writers[1].written:
                await asyncio.sleep(0.01)
            await made.peers[1].stop()
            assert (await asyncio.wrap_future(future)).leaf == "first"
            assert made.peers[0].offer(release(org_of(1))) is None

    run(test())


def test_one_that_comes_back_is_handed_its_orgs_again(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            await made.peers[1].stop()
            while made.peers[0].offer(release(org_of(1), "away")) is not None:
                await asyncio.sleep(0.01)
            made.peers[1] = made.worker(1)
            await made.peers[1].start()
            await made.until_met()
            assert (await made.ask(0, release(org_of(1)))).leaf == "second"

    run(test())


def test_one_that_does_not_serve_yet_is_not_waited_for(short_dir: Path) -> None:
    async def test() -> None:
        made = Machine(short_dir)
        await made.peers[0].start()  # the other one's socket takes connections, and nobody reads them
        await asyncio.sleep(0.2)
        assert made.peers[0].offer(release(org_of(1))) is None
        await made.peers[0].stop()

    run(test())


def test_one_that_falls_silent_is_not_waited_for(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.3)

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = lambda _operation, _future: None
            assert (await made.ask(0, release(org_of(1)))).leaf == "first"
            assert made.writers[1].written == ["h1"]

    run(test())
