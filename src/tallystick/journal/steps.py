"""The named steps of what must survive being killed at any of them.

Code calls `reached` at each; nothing happens, unless a test has installed a hook that stops, kills or fails the
process there. There is no setting for it: a hook comes from within the process or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

Hook = Callable[[str], object]
_installed: list[Hook] = []


def reached(step: str) -> None:
    """Say that this step is done, such as `append.committed`."""
    for hook in _installed:
        hook(step)


def install(hook: Hook | None) -> None:
    """Have `hook` called at every step from now on, in the place of the one before; None takes it away."""
    _installed[:] = [] if hook is None else [hook]


APPEND_STEPS = (
    "append.taken",
    "append.locked",
    "append.probed",
    "append.copied",
    "append.committed",
    "append.answered",
)
"""The steps of writing a group, in order."""

PAYMENT_STEPS = ("payments.verified", "payments.kept", "payments.settled")
"""The steps of taking a payment provider's callback, in order; between the last two its money is counted."""
