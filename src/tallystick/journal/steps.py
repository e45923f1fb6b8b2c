"""The named steps of what must survive being killed at any of them.

Code calls `reached` at each; nothing happens, unless a test has installed a hook that stops, kills or fails the
process there. There is no setting for it: a hook comes from within the process or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

_hook: Callable[[str], object] | None = None


def reached(step: str) -> None:
    """Say that this step is done, such as `append.committed`."""
    if _hook is not None:
        _hook(step)


def install(hook: Callable[[str], object] | None) -> None:
    """Have `hook` called at every step from now on; None takes it away."""
    global _hook
    _hook = hook


APPEND_STEPS = (
    "append.taken",
    "append.locked",
    "append.probed",
    "append.copied",
    "append.posted",
    "append.committed",
    "append.answered",
)
"""The steps of writing a group, in order."""
