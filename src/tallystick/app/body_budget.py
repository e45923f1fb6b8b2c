"""How much of what callers send may be in memory at once."""

from __future__ import annotations

from tallystick.core.errors import Unavailable


class BodyBudget:
    """How many bytes of bodies may be in memory at once, over all requests; past it callers are told to come again."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes_held = 0

    def take(self, count: int) -> None:
        """Count `count` more bytes.

        Raises:
            Unavailable: `busy`, and nothing is counted.
        """
        if self.bytes_held + count > self.bytes_max:
            raise Unavailable(
                "busy",
                "the bodies of other requests take all the memory there is for them",
                next_step="send it again in a second; nothing of it was taken",
            )
        self.bytes_held += count

    def give_back(self, count: int) -> None:
        """`count` bytes are no longer held."""
        self.bytes_held -= count
