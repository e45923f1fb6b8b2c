"""Headers on their way through: what a connection is about stays on it, what is ours is not sent on.

Everything else passes as it came, in its order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
     b"trailer", b"transfer-encoding", b"upgrade"}
)  # fmt: skip
"""About one connection only (RFC 9110, 7.6.1)."""

_REQUEST_STAYS = _HOP_BY_HOP | {
    b"host", b"content-length", b"expect", b"accept-encoding", b"cookie", b"forwarded", b"via", b"request-id",
    b"x-request-id", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto",
    b"x-forwarded-prefix",
}  # fmt: skip
"""What is between the caller and us: where it calls from is no business of the provider's."""
_KEYS = frozenset({b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key"})
"""Where keys stand."""
_TOKEN = re.compile(rb"(^|\s)tk_")
"""One of ours, whatever stands before it."""
_ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project"})
"""Which account of ours a request is for: the caller has no say in that, unless the key is the caller's own."""

_ANSWER_STAYS = _HOP_BY_HOP | {b"date", b"server", b"set-cookie", b"content-length", b"alt-svc", b"via"}
"""What is between the provider and us."""
_OUR_ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"anthropic-organization-id"})
"""What a provider's answer says of our account with it."""


def first(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """The first header of that name, or None; names are in lower case."""
    for key, value in headers:
        if key == name:
            return value
    return None


def to_provider(headers: Headers, *, own_account: bool, names_ours: Collection[bytes]) -> Headers:
    """The caller's headers as the provider gets them, but for the host, the length, the packing and the key.

    Args:
        headers: with names in lower case.
        own_account: the caller's own key is used, and goes through.
        names_ours: further headers that are replaced: what the provider's key is sent in.
    """
    named = _named_by_connection(headers)
    kept = []
    for name, value in headers:
        if name in _REQUEST_STAYS or name in named or name.startswith(b"x-tally-"):
            continue
        if name in _KEYS or name in names_ours:
            if not own_account or _TOKEN.search(value):
                continue
        elif name in _ACCOUNT and not own_account:
            continue
        kept.append((name, value))
    return kept


def to_caller(headers: Headers, *, own_account: bool) -> Headers:
    """The provider's headers as the caller gets them, but for the length."""
    named = _named_by_connection(headers)
    return [
        (name, value)
        for name, value in headers
        if name not in _ANSWER_STAYS
        and name not in named
        and not name.startswith(b"x-tally-")
        and (own_account or name not in _OUR_ACCOUNT)
    ]


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    said = [value for name, value in headers if name == b"connection"]
    if not said or said in ([b"keep-alive"], [b"close"]):
        return frozenset()
    return frozenset(part.strip().lower() for value in said for part in value.split(b","))
