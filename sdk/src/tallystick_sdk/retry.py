"""When to try again, and when to give up: one total deadline, waits that grow and are spread at random."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from tallystick_sdk.errors import TallyError, Unavailable


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How long and how often.

    Attributes:
        deadline_seconds: all attempts and waits of one call together; 0 for a single attempt.
        attempt_seconds: one attempt, at most.
        wait_seconds: the first wait, at most; each further one may be twice as long.
        wait_seconds_max: the longest wait that is chosen here; a server's Retry-After may be longer.
    """

    deadline_seconds: float = 30.0
    attempt_seconds: float = 10.0
    wait_seconds: float = 0.1
    wait_seconds_max: float = 5.0


class Attempts:
    """The attempts of one call. Everything that the library sends may be sent again: it has the same effect once."""

    def __init__(
        self,
        retry: Retry,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._retry = retry
        self._clock = clock
        self._dice = dice
        self._ends = clock() + retry.deadline_seconds
        self._waits = 0

    def timeout_seconds(self) -> float:
        """How long the next attempt may take."""
        left = self._ends - self._clock()
        if self._waits == 0 and left <= 0:
            return self._retry.attempt_seconds
        return max(0.001, min(left, self._retry.attempt_seconds))

    def seconds_until_next(self, error: TallyError) -> float:
        """How long to wait before the same is sent again.

        Raises:
            TallyError: the one given, when another attempt cannot help or would come after the deadline.
        """
        if not isinstance(error, Unavailable):
            raise error
        wait = self.next_wait(error.retry_after_seconds)
        if self._clock() + wait >= self._ends:
            raise error
        return wait

    def next_wait(self, at_least: float | None) -> float:
        """The next wait, at random up to a bound that doubles; never shorter than the server has asked for."""
        bound = min(self._retry.wait_seconds * 2.0 ** min(self._waits, 30), self._retry.wait_seconds_max)
        self._waits += 1
        # Half of it is certain, so that callers who were refused together do not come back together.
        return bound * (0.5 + 0.5 * self._dice()) + (at_least or 0.0)
