"""One client for the whole program, for those who need no more: made from the environment when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from tallystick_sdk.base import BaseTally
from tallystick_sdk.client import Tally
from tallystick_sdk.recordings import Recording

if TYPE_CHECKING:
    from tallystick_sdk.billing import Billable

Client = TypeVar("Client")

_lock = threading.Lock()
_default: BaseTally | None = None


def configure(tally: BaseTally | None) -> None:
    """Use this client where none is named; None for one that is made from the environment."""
    global _default  # noqa: PLW0603  it is what this module is for
    with _lock:
        _default = tally


def default_tally() -> BaseTally:
    """The client that is used where none is named."""
    global _default  # noqa: PLW0603
    with _lock:
        if _default is None:
            _default = Tally()
        return _default


def record(event: Mapping[str, Any] | None = None, /, **members: Any) -> Recording:
    """As `Tally.record`, of the default client."""
    return default_tally().record(event, **members)


def instrument(client: Client, tally: BaseTally | None = None, *, provider: str | None = None, **tags: Any) -> Client:
    """As `Tally.instrument`, of the default client, or of the one given."""
    return (tally or default_tally()).instrument(client, provider=provider, **tags)


def billable(action: str, **terms: Any) -> Billable:
    """As `Tally.billable`, of the client that is the default when the work begins."""
    from tallystick_sdk.billing import Billable

    return Billable(None, action, **terms)
