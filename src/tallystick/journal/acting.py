"""Who acts in this thread or task: set where somebody comes in, by a request, a command or a job."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tallystick.ledger.acts import Actor

_actor: ContextVar[Actor | None] = ContextVar("tallystick_actor", default=None)


def login_name() -> str:
    """Who is logged in on this machine, by name where the user has one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


def current_actor() -> Actor:
    """Who acts now: who was named by `act_as`, else whoever runs this program."""
    return _actor.get() or Actor("os_user", login_name(), "python")


def act_as(actor: Actor) -> None:
    """From now on, in this thread or task, that is who acts."""
    _actor.set(actor)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    """Within the block, in this thread or task, that is who acts."""
    token = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(token)
