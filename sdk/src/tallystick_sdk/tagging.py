"""Who and what usage belongs to: said once for a block of code, and carried along by the context.

with tags(org_id="acme", user_id="u-17", session_id="s-4"):
    ...   # what is recorded in here, in tasks begun in here and in threads that copy the context, belongs to them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

TAGS: Final = (
    "org_id", "user_id", "session_id", "feature", "environment", "action", "work_key", "api_key_id", "payer",
    "attributes",
)  # fmt: skip
MANDATORY: Final = ("org_id", "user_id", "session_id", "feature", "environment")
"""Without these nothing is authorized or recorded."""

_HEADERS: Final = {
    "x-tally-org": "org_id",
    "x-tally-user": "user_id",
    "x-tally-session": "session_id",
    "x-tally-feature": "feature",
    "x-tally-environment": "environment",
    "x-tally-action": "action",
    "x-tally-work-key": "work_key",
    "x-tally-request-id": "request_id",
}
"""The same words as the gateway's headers."""
_ATTRIBUTE: Final = "x-tally-attribute-"

_current: ContextVar[Mapping[str, Any] | None] = ContextVar("tallystick_tags", default=None)


@contextmanager
def tags(**given: Any) -> Iterator[None]:
    """Tags of everything that is authorized or recorded within the block; inner blocks go before outer ones.

    Args:
        given: of `TAGS`; None takes an outer block's tag away. `attributes` are added to the outer ones.

    Raises:
        TypeError: a name that is no tag.
    """
    token = _current.set(merged(current_tags(), checked(given)))
    try:
        yield
    finally:
        _current.reset(token)


def current_tags() -> Mapping[str, Any]:
    """The tags of the block that runs."""
    return _current.get() or {}


def checked(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same.

    Raises:
        TypeError: a name that is no tag.
    """
    unknown = sorted(set(given) - set(TAGS))
    if unknown:
        raise TypeError(f"no tag is called {', '.join(unknown)}; the tags are {', '.join(TAGS)}")
    return given


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers go before earlier ones; None takes a tag away, and attributes are put together."""
    found: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            is_more = name == "attributes" and value is not None
            found[name] = {**(found.get(name) or {}), **value} if is_more else value
    return {name: value for name, value in found.items() if value is not None}


def missing(members: Mapping[str, Any]) -> tuple[str, ...]:
    """The mandatory tags that are not there."""
    return tuple(name for name in MANDATORY if not members.get(name))


def tags_of_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """What `x-tally-…` headers say; `request_id` besides the tags."""
    found: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    for name, value in headers.items():
        header = str(name).lower()
        if isinstance(value, str) and header in _HEADERS:
            found[_HEADERS[header]] = value
        elif isinstance(value, str) and header.startswith(_ATTRIBUTE):
            attributes[header.removeprefix(_ATTRIBUTE)] = value
    return found | ({"attributes": attributes} if attributes else {})


def headers_of_tags(members: Mapping[str, Any]) -> dict[str, str]:
    """The `x-tally-…` headers that say the same to the gateway; the org is its key's to say.

    Raises:
        ValueError: a value that cannot stand in a header.
    """
    said = {header: members.get(name) for header, name in _HEADERS.items() if name != "org_id"}
    said |= {f"{_ATTRIBUTE}{name}": value for name, value in (members.get("attributes") or {}).items()}
    found = {header: str(value) for header, value in said.items() if value is not None}
    for header, value in found.items():
        if not (value.isascii() and value.isprintable() and header.isascii() and not set(header) & set(" :\t")):
            raise ValueError(f"{header!r} cannot be sent to the gateway: a header holds plain ASCII")
    return found
