"""The workers of one machine decide for each other: each org's operations are written by one of them.

Two workers that write for the same orgs wait for each other's locks, and neither can go on from where it left an org.
So each org has a worker that it belongs to, by its id, and the others hand their operations on it over, and wait for
what came of them. Nothing depends on that but speed: any process may write for any org at any time. A worker that is
away, or does not answer, is not waited for: what was handed to it is written here, and is known by its id and its salt
if it had been written there.

    submit ─► belongs to another ─► one frame of many messages a turn of the loop ─► its writer ─► answers likewise
                  │ it is away, leaves, stops, takes too long, or has not yet read what was sent before
                  └─► this process's own writer

A frame is the length of a message (4 bytes, big-endian), its number (8 bytes), and the message (`operation_message`).
The worker that is connected to says an empty one first: nothing is handed to one that does not serve yet. An empty one
as an answer says that there is none.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import structlog

from tallystick.app.loop_inbox import LoopInbox
from tallystick.core.errors import TallyError, Unavailable
from tallystick.ledger.operation_message import answer_message, operation_message, read_answer, read_operation
from tallystick.ledger.operations import Operation, Recorded

_HEAD_BYTES = 12
_MESSAGE_BYTES_MAX = 64 * 1024 * 1024
_NO_ANSWER = b""
_UNREAD_BYTES_MAX = 4 * 1024 * 1024
"""While more than that waits to be sent to a worker, no more is handed to it."""
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
        # The socket stays where it is when this worker ends: the one that is started in its place listens there.
        options: Any = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
        self._server = await loop.create_unix_server(self._answer_another, sock=self._place.listener, **options)
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
        self._received: list[bytes] = []
        self._received_bytes = 0
        self._wanted_bytes = _HEAD_BYTES
        self._to_send: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._received.append(data)
        self._received_bytes += len(data)
        if self._received_bytes < self._wanted_bytes:  # a long message: it is put together once it is there
            return
        data = data if len(self._received) == 1 else b"".join(self._received)
        start, self._wanted_bytes = 0, _HEAD_BYTES
        while len(data) - start >= _HEAD_BYTES:
            length = int.from_bytes(data[start : start + 4])
            end = start + _HEAD_BYTES + length
            if length > _MESSAGE_BYTES_MAX:
                self._leave("a message is too long")
                return
            if len(data) < end:
                self._wanted_bytes = end - start
                break
            try:
                self.received(int.from_bytes(data[start + 4 : start + _HEAD_BYTES]), data[start + _HEAD_BYTES : end])
            except Exception as error:  # what it says cannot be read: nothing more of it is taken
                self._leave(" ".join(str(error).split()))
                return
            start = end
        self._received = [data[start:]] if start < len(data) else []
        self._received_bytes = len(data) - start

    def send(self, number: int, message: bytes) -> None:
        """Send a message with what else is sent in this turn of the loop; in the loop's thread."""
        if not self._to_send:
            self._inbox.loop.call_soon(self._flush)
        self._to_send += (len(message).to_bytes(4), number.to_bytes(8), message)

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self, reason: str) -> None:
        _log.warning("peer_is_not_understood", reason=reason)
        self.close()

    def received(self, number: int, message: bytes) -> None:
        """A message has come; whatever is raised ends the connection."""
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
        try:
            if error is not None and not isinstance(error, TallyError):
                raise error
            answer = answer_message(done.result() if error is None else error)
        except Exception:  # the one that asked will meet the same fault, and log it
            answer = _NO_ANSWER
        self.send(number, answer)


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
        if connection is None or connection.is_full:
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
    """A connection to another worker, and what waits for its answers. All of it in the loop's thread.

    Attributes:
        is_full: whether the worker has much to read still.
    """

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
        self.is_full = False
        self._is_lost = False
        self._waiting: dict[int, _Waiting] = {}
        self._last_number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_UNREAD_BYTES_MAX)  # type: ignore[attr-defined]

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def silent_seconds(self) -> float:
        """For how long it has been waited for the oldest answer that is still to come."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else monotonic() - oldest.since

    def ask(self, waiting: _Waiting) -> None:
        """Hand an operation over; it is written here when the connection is gone, or it fits into no message."""
        if not waiting.future.set_running_or_notify_cancel():
            return
        try:
            message = b"" if self._is_lost else operation_message(waiting.operation)
        except (TypeError, ValueError):
            message = b""
        if not message or len(message) > _MESSAGE_BYTES_MAX:
            self._write_here(waiting)
            return
        self._last_number += 1
        self._waiting[self._last_number] = waiting
        self.send(self._last_number, message)

    def received(self, number: int, message: bytes) -> None:
        if not number:
            self._found(self)
            return
        if number not in self._waiting:
            return
        if message == _NO_ANSWER:
            self._write_here(self._waiting.pop(number))
            return
        answer = read_answer(message)
        waiting = self._waiting.pop(number)
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
        except Exception as error:
            waiting.future.set_exception(error)
        else:
            future.add_done_callback(partial(_hand_on, waiting.future))


def _hand_on(to: Future[Recorded], done: Future[Recorded]) -> None:
    error = done.exception()
    if error is None:
        to.set_result(done.result())
    else:
        to.set_exception(error)
