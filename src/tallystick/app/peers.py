"""The workers of one machine decide for each other: each org's operations are written by one of them.

Two workers that write for the same orgs wait for each other's locks, and neither can go on from where it left an org.
So each org has a worker that it belongs to, by its id, and the others hand their operations on it over, and wait for
what came of them. Nothing depends on that but speed: any process may write for any org at any time. A worker that is
away, or does not answer, is not waited for: what was handed to it is written here, and is known by its id and its salt
if it had been written there.

    submit ─► belongs to another ─► one frame of many messages a turn of the loop ─► its writer ─► answers likewise
                  │ it is away, leaves, stops, or takes too long
                  └─► this process's own writer

A frame is the length of a message (4 bytes, big-endian), its number (8 bytes), and the message (`operation_message`).
The worker that is connected to says an empty one first: nothing is handed to one that does not serve yet.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import NamedTuple

import structlog

from tallystick.app.loop_inbox import LoopInbox
from tallystick.core.errors import TallyError, Unavailable
from tallystick.ledger.operation_message import answer_message, operation_message, read_answer, read_operation
from tallystick.ledger.operations import Operation, Recorded

_HEAD_BYTES = 12
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_SILENT_SECONDS = 10.0
"""A worker that has not answered for so long is not waited for any more."""
_PAUSE_SECONDS = 0.5
"""Between attempts to reach a worker that is away."""

_log = structlog.get_logger("tallystick.serve")

Submit = Callable[[Operation], Future[Recorded]]


class Place(NamedTuple):
    """A worker among those of its machine.

    Attributes:
        number: which it is, from 0 on.
        workers: how many there are.
        folder: of the sockets at which each listens for the others, see `socket_path`; of this user alone.
        listener: its own.
    """

    number: int
    workers: int
    folder: Path
    listener: socket.socket


def socket_path(folder: Path, number: int) -> Path:
    """Where a worker listens for the others."""
    return folder / f"worker-{number}"


def owner_of(org_id: str, workers: int) -> int:
    """To which worker an org belongs: the same in all of them."""
    return zlib.crc32(org_id.encode()) % workers


class Peers:
    """The other workers, as one of them sees them.

    Args:
        place: of this one.
        submit: writes an operation in this process.
        inbox: of the loop in which the connections are.
    """

    def __init__(self, place: Place, submit: Submit, inbox: LoopInbox) -> None:
        self._place = place
        self._submit = submit
        self._inbox = inbox
        self._links = {
            number: _Link(socket_path(place.folder, number), submit, inbox)
            for number in range(place.workers)
            if number != place.number
        }
        self._server: asyncio.Server | None = None
        self._asking: set[_Asking] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen for the others, and connect to them as they come."""
        loop = self._inbox.loop
        self._server = await loop.create_unix_server(self._answer_another, sock=self._place.listener)
        self._tasks = [loop.create_task(link.keep()) for link in self._links.values()]

    async def stop(self) -> None:
        """Hand over nothing more; what was handed over and is not answered yet is written here."""
        for task in self._tasks:
            task.cancel()
        for link in self._links.values():
            link.close()
        if self._server is not None:
            self._server.close()
        for asking in list(self._asking):
            asking.close()

    def offer(self, operation: Operation) -> Future[Recorded] | None:
        """Hand an operation to the worker that its org belongs to; None when it is to be written here.

        It may be called from any thread.
        """
        owner = owner_of(operation.org_id, self._place.workers)
        return None if owner == self._place.number else self._links[owner].ask(operation)

    def _answer_another(self) -> asyncio.Protocol:
        asking = _Asking(self._submit, self._inbox, self._asking.discard)
        self._asking.add(asking)
        return asking


class _Frames(asyncio.Protocol):
    """A connection over which numbered messages go; those of one turn of the loop are sent together."""

    def __init__(self, inbox: LoopInbox) -> None:
        self._inbox = inbox
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._to_send: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        data = self._received + data if self._received else data
        start = 0
        while len(data) - start >= _HEAD_BYTES:
            length = int.from_bytes(data[start : start + 4])
            end = start + _HEAD_BYTES + length
            if length > _MESSAGE_BYTES_MAX:
                self.close()
                return
            if len(data) < end:
                break
            self.received(int.from_bytes(data[start + 4 : start + _HEAD_BYTES]), data[start + _HEAD_BYTES : end])
            start = end
        self._received = data[start:]

    def send(self, number: int, message: bytes) -> None:
        """Send a message with what else is sent in this turn of the loop; in the loop's thread."""
        if not self._to_send:
            self._inbox.loop.call_soon(self._flush)
        self._to_send += (len(message).to_bytes(4), number.to_bytes(8), message)

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def received(self, number: int, message: bytes) -> None:
        """A message has come."""
        raise NotImplementedError

    def _flush(self) -> None:
        sent, self._to_send = b"".join(self._to_send), []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(sent)


class _Asking(_Frames):
    """Another worker that hands over what belongs to this one."""

    def __init__(self, submit: Submit, inbox: LoopInbox, gone: Callable[[_Asking], None]) -> None:
        super().__init__(inbox)
        self._submit = submit
        self._gone = gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.send(0, b"")

    def connection_lost(self, _error: Exception | None) -> None:
        self._gone(self)

    def received(self, number: int, message: bytes) -> None:
        try:
            future = self._submit(read_operation(message))
        except TallyError as error:
            self.send(number, answer_message(error))
        else:
            future.add_done_callback(lambda done: self._inbox.leave(partial(self._answer, number, done)))

    def _answer(self, number: int, done: Future[Recorded]) -> None:
        error = done.exception()
        if error is None:
            self.send(number, answer_message(done.result()))
        elif isinstance(error, TallyError):
            self.send(number, answer_message(error))
        else:  # the one that asked will meet the same fault, and log it
            self.close()


class _Waiting(NamedTuple):
    operation: Operation
    future: Future[Recorded]
    since: float


class _Link:
    """The way to another worker: a connection, while there is one, and what waits for its answers."""

    def __init__(self, path: Path, submit: Submit, inbox: LoopInbox) -> None:
        self._path = path
        self._submit = submit
        self._inbox = inbox
        self._transport: asyncio.Transport | None = None
        self._connection: _Answers | None = None  # once the worker has said that it serves
        self._thread = threading.get_ident()

    async def keep(self) -> None:
        """Connect, and connect again whenever the connection is lost; leave a worker that has fallen silent."""
        self._thread = threading.get_ident()
        loop = self._inbox.loop
        while True:
            if self._transport is None or self._transport.is_closing():
                with suppress(OSError):
                    self._transport, _ = await loop.create_unix_connection(
                        lambda: _Answers(self._submit, self._inbox, self._found, self._lost), str(self._path)
                    )
            elif self._connection is not None and self._connection.silent_seconds() > _SILENT_SECONDS:
                _log.warning("peer_is_silent", socket=self._path.name)
                self._connection.close()
            await asyncio.sleep(_PAUSE_SECONDS)

    def ask(self, operation: Operation) -> Future[Recorded] | None:
        """Hand an operation over; None when the worker is away."""
        connection = self._connection
        if connection is None:
            return None
        future: Future[Recorded] = Future()
        waiting = _Waiting(operation, future, monotonic())
        if threading.get_ident() == self._thread:
            connection.ask(waiting)
        else:
            self._inbox.leave(partial(connection.ask, waiting))
        return future

    def close(self) -> None:
        """Hand over nothing more."""
        self._connection = None
        if self._transport is not None:
            self._transport.abort()

    def _found(self, connection: _Answers) -> None:
        self._connection = connection

    def _lost(self, connection: _Answers) -> None:
        if self._connection is connection:
            self._connection = None


class _Answers(_Frames):
    """A connection to another worker, and what waits for its answers. All of it in the loop's thread."""

    def __init__(
        self,
        submit: Submit,
        inbox: LoopInbox,
        found: Callable[[_Answers], None],
        lost: Callable[[_Answers], None],
    ) -> None:
        super().__init__(inbox)
        self._submit = submit
        self._found = found
        self._lost = lost
        self._is_lost = False
        self._waiting: dict[int, _Waiting] = {}
        self._last_number = 0

    def silent_seconds(self) -> float:
        """For how long it has been waited for the oldest answer that is still to come."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else monotonic() - oldest.since

    def ask(self, waiting: _Waiting) -> None:
        """Hand an operation over; it is written here when the connection is gone."""
        if not waiting.future.set_running_or_notify_cancel():
            return
        if self._is_lost:
            self._write_here(waiting)
            return
        self._last_number += 1
        self._waiting[self._last_number] = waiting
        self.send(self._last_number, operation_message(waiting.operation))

    def received(self, number: int, message: bytes) -> None:
        if not number:
            self._found(self)
            return
        waiting = self._waiting.pop(number)
        answer = read_answer(message)
        if isinstance(answer, Unavailable) and answer.code == "journal_closed":
            self._write_here(waiting)
        elif isinstance(answer, TallyError):
            waiting.future.set_exception(answer)
        else:
            waiting.future.set_result(answer)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_lost = True
        self._lost(self)
        left, self._waiting = list(self._waiting.values()), {}
        for waiting in left:
            self._write_here(waiting)

    def _write_here(self, waiting: _Waiting) -> None:
        try:
            future = self._submit(waiting.operation)
        except TallyError as error:
            waiting.future.set_exception(error)
        else:
            future.add_done_callback(partial(_hand_on, waiting.future))


def _hand_on(to: Future[Recorded], done: Future[Recorded]) -> None:
    error = done.exception()
    if error is None:
        to.set_result(done.result())
    else:
        to.set_exception(error)
