"""What other threads leave for an event loop to do, without waking it for each."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

T = TypeVar("T")


class LoopInbox:
    """What other threads leave for an event loop to do: it is woken once for all that is there.

    Make it in the loop's thread.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._thread = threading.get_ident()
        self._left: deque[Callable[[], None]] = deque()
        self._is_woken = False

    def leave(self, work: Callable[[], None]) -> None:
        """Have the loop do this soon; from any thread."""
        self._left.append(work)
        if not self._is_woken:
            self._is_woken = True
            if threading.get_ident() == self._thread:  # it is awake
                self.loop.call_soon(self._do)
            else:
                self.loop.call_soon_threadsafe(self._do)

    def _do(self) -> None:
        self._is_woken = False  # before looking, so that what is left after the last look wakes the loop again
        try:
            while self._left:
                self._left.popleft()()
        finally:
            if self._left and not self._is_woken:  # one of them has failed: that is no reason to keep the others
                self._is_woken = True
                self.loop.call_soon(self._do)

    def wait_for(self, future: Future[T]) -> asyncio.Future[T]:
        """The same result, to be awaited. Whoever stops waiting stops nothing of what the future stands for."""
        waiting: asyncio.Future[T] = self.loop.create_future()
        future.add_done_callback(lambda done: self.leave(partial(_hand_over, done, waiting)))
        return waiting


def _hand_over(done: Future[T], waiting: asyncio.Future[T]) -> None:
    if waiting.done():  # nobody waits any more
        return
    error = done.exception()
    if error is None:
        waiting.set_result(done.result())
    else:
        waiting.set_exception(error)
