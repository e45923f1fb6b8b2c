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

import msgspec
import pytest

from tallystick.app import peers as module
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.peers import Peers, Place, owner_of, socket_path
from tallystick.core.errors import Conflict, TallyError, Unavailable
from tallystick.ledger.operation_message import answer_message, read_operation
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


class Odd:
    """Something else that listens in the place of the second worker, and says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answer: Callable[[int, bytes], bytes] = lambda _number, _message: b""
        self.reads = True

    async def start(self) -> None:
        self.server = await asyncio.start_unix_server(self._serve, str(socket_path(self.folder, 1)))

    async def stop(self) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(0, b""))
        try:
            while self.reads:
                head = await reader.readexactly(12)
                message = await reader.readexactly(int.from_bytes(head[:4]))
                writer.write(self.answer(int.from_bytes(head[4:]), message))
            await asyncio.sleep(20)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def frame(number: int, message: bytes) -> bytes:
    return len(message).to_bytes(4) + number.to_bytes(8) + message


@asynccontextmanager
async def beside(odd: Odd, writer: Writer) -> AsyncIterator[Peers]:
    """The first of two workers, and something odd in the place of the second."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(socket_path(odd.folder, 0)))
    listener.listen(2)
    await odd.start()
    peers = Peers(Place(0, 2, odd.folder, listener), writer.submit, LoopInbox(asyncio.get_running_loop()))
    await peers.start()
    yield peers
    await peers.stop()
    await odd.stop()


async def handed_over(peers: Peers, operation: Operation) -> Future[Recorded]:
    while (future := peers.offer(operation)) is None:
        await asyncio.sleep(0.01)
    return future


async def answer_of(future: Future[Recorded]) -> Recorded:
    return await asyncio.wait_for(asyncio.wrap_future(future), 5)


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xfe{}", b"\x00", b"\x00{}", b"\x01[1, 2", b"\xff{}", b"\xff" + b'{"kind":"Odd","code":"c"}'],
)
def test_what_is_answered_with_what_is_no_answer_is_written_here(short_dir: Path, answer: bytes) -> None:
    async def test() -> None:
        odd, writer = Odd(short_dir), Writer("first")
        odd.answer = lambda number, _message: frame(number, answer)
        async with beside(odd, writer) as peers:
            assert (await answer_of(await handed_over(peers, release(org_of(1))))).leaf == "first"

    run(test())


def test_an_answer_to_nothing_and_one_that_comes_twice_harm_nobody(short_dir: Path) -> None:
    async def test() -> None:
        odd, there, here = Odd(short_dir), Writer("odd"), Writer("first")

        def answer(number: int, message: bytes) -> bytes:
            given = frame(number, answer_message(there.submit(read_operation(message)).result()))
            return frame(number + 1000, b"") + given + given

        odd.answer = answer
        async with beside(odd, here) as peers:
            for number in range(3):
                future = await handed_over(peers, release(org_of(1), f"h{number}"))
                assert (await answer_of(future)).leaf == "odd"
            assert here.written == []

    run(test())


def test_what_is_no_operation_ends_that_connection_alone(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            for said in (frame(1, b""), frame(1, b"\x63{}"), frame(1, b"\x00{}"), b"\xff" * 12, frame(1, b"\x01" * 99)):
                reader, writer = await asyncio.open_unix_connection(str(socket_path(short_dir, 1)))
                writer.write(said)
                assert await asyncio.wait_for(reader.read(), 5) in (b"", frame(0, b""))
                writer.close()
            assert (await made.ask(0, release(org_of(1)))).leaf == "second"

    run(test())


def test_no_more_waits_for_one_that_does_not_read_than_its_buffer_takes(short_dir: Path) -> None:
    async def test() -> None:
        odd, writer = Odd(short_dir), Writer("first")
        odd.reads = False
        async with beside(odd, writer) as peers:
            taken = 0
            await handed_over(peers, release(org_of(1)))
            while peers.offer(release(org_of(1), "x" * 100_000)) is not None:
                taken += 1
                assert taken < 200
                await asyncio.sleep(0)

    run(test())


def test_what_is_too_long_for_a_message_is_written_here_and_the_rest_there(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MESSAGE_BYTES_MAX", 1000)

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = lambda _operation, _future: None
            waiting = made.peers[0].offer(release(org_of(1), "waits"))
            assert waiting is not None
            assert (await made.ask(0, release(org_of(1), "x" * 1000))).leaf == "first"
            assert not waiting.done()
            assert made.writers[0].written == ["x" * 1000]

    run(test())


def test_a_long_message_arrives_in_many_pieces(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            name = "x" * 20_000_000
            answer = await made.ask(0, release(org_of(1), name))
            assert (answer.leaf, answer.request_id) == ("second", name)

    run(test())


def test_what_cannot_be_told_is_written_here(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            odd = msgspec.structs.replace(release(org_of(1)), attributes={"a": object()})
            assert (await made.ask(0, odd)).leaf == "first"
            future = await asyncio.to_thread(made.peers[0].offer, odd)
            assert future is not None
            assert (await answer_of(future)).leaf == "first"
            assert (await made.ask(0, release(org_of(1)))).leaf == "second"

    run(test())


def test_a_full_queue_there_is_told_here(short_dir: Path) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("journal_busy", "many wait", next_step="a little later", retry_after_seconds=9)

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = refuse
            with pytest.raises(Unavailable) as refused:
                await made.ask(0, release(org_of(1)))
            assert (refused.value.code, refused.value.retry_after_seconds) == ("journal_busy", 9)
            assert made.writers[0].written == []

    run(test())


def test_a_fault_of_one_leaves_none_of_the_others_waiting(short_dir: Path) -> None:
    def fail(operation: Operation, future: Future[Recorded]) -> None:
        if operation.request_id == "h0":
            raise RuntimeError("a fault of the writer")
        made_here.record(operation, future)

    made_here = Writer("first")

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = lambda _operation, _future: None
            made.writers[0].answer = fail
            futures = [made.peers[0].offer(release(org_of(1), f"h{number}")) for number in range(3)]
            await asyncio.sleep(0.1)
            await made.peers[1].stop()
            told = await asyncio.gather(*[answer_of(one) for one in futures if one], return_exceptions=True)
            assert isinstance(told[0], RuntimeError)
            assert [one.leaf for one in told[1:] if isinstance(one, Recorded)] == ["first", "first"]

    run(test())


def test_a_fault_there_is_met_here_and_ends_nothing_else(short_dir: Path) -> None:
    def fail(operation: Operation, future: Future[Recorded]) -> None:
        if operation.request_id == "odd":
            future.set_exception(RuntimeError("a fault of the writer"))

    async def test() -> None:
        async with machine(short_dir) as made:
            made.writers[1].answer = fail
            waiting = made.peers[0].offer(release(org_of(1), "waits"))
            assert waiting is not None
            assert (await made.ask(0, release(org_of(1), "odd"))).leaf == "first"
            assert not waiting.done()
            assert made.writers[0].written == ["odd"]

    run(test())


def test_whoever_gives_up_stops_nothing(short_dir: Path) -> None:
    async def test() -> None:
        async with machine(short_dir) as made:
            future = made.peers[0].offer(release(org_of(1)))
            assert future is not None
            waiting = asyncio.wrap_future(future)
            waiting.cancel()
            assert (await made.ask(0, release(org_of(1), "h2"))).leaf == "second"
            assert made.writers[1].written == ["h1", "h2"]

    run(test())
