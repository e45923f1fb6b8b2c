"""The providers that calls may go to, as the gateway's configuration has them: where, with which key, for how long.

Upstream hosts come from configuration alone: nothing that a caller sends says where a request goes.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tallystick.core.errors import BadInput, NotFound
from tallystick.gateway.headers import Headers, first
from tallystick.gateway.pool import Address, address_of
from tallystick.ledger.members import short
from tallystick.wire.config import Provider
from tallystick.wire.routes import Flavor, Route

_TOKEN: Final = b"tk_"
_BEARER: Final = re.compile(rb"^bearer\s+", re.IGNORECASE)
_KEY_HEADERS: Final = (b"authorization", b"x-api-key", b"x-goog-api-key", b"api-key")
_DOTS: Final = re.compile(rb"(?:^|/)(?:\.|%2[eE]){1,2}(?:/|$)")
_FORBIDDEN: Final = re.compile(rb"[\x00-\x20\x7f-\xff#?\\]")


class Secret:
    """A provider's key: it is not shown by anything that shows objects."""

    __slots__ = ("value",)

    def __init__(self, value: bytes) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "Secret(…)"


class Shown(NamedTuple):
    """What a caller shows.

    Attributes:
        token: of its virtual key; None when it shows none.
        own_account: whether its own key of the provider goes through.
        query: the address's query without a virtual key.
    """

    token: str | None
    own_account: bool
    query: bytes


def shown_by(headers: Headers, query: bytes) -> Shown:
    """What keys a caller shows: ours in `x-tally-key`, or where the provider's client puts its key."""
    in_query = query_value(query, b"key") if query else None
    found = [_BEARER.sub(b"", value, count=1).strip() for name, value in headers if name in _KEY_HEADERS]
    if in_query is not None:
        found.append(in_query)
    ours = first(headers, b"x-tally-key")
    if ours is None:
        token = next((value for value in found if value.startswith(_TOKEN)), found[0] if found else None)
        own_account = False
    else:
        token = _BEARER.sub(b"", ours, count=1).strip()
        own_account = any(value and not value.startswith(_TOKEN) for value in found)
    if in_query is not None and (in_query.startswith(_TOKEN) or not own_account):
        query = without_value(query, b"key")
    if query:  # ours is for nobody else, under whatever name it stands there
        query = b"&".join(part for part in query.split(b"&") if not _value(part).startswith(_TOKEN))
    return Shown(None if not token else token.decode("latin-1"), own_account, query)


def query_value(query: bytes, name: bytes) -> bytes | None:
    """The first value of that name, whichever way its name is written."""
    return next((_value(part) for part in query.split(b"&") if _name(part) == name), None)


def without_value(query: bytes, name: bytes) -> bytes:
    """The query without what has that name."""
    return b"&".join(part for part in query.split(b"&") if _name(part) != name)


def _name(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[0])


def _value(part: bytes) -> bytes:
    return unquote_to_bytes(part.partition(b"=")[2])


def is_plain_path(path: bytes) -> bool:
    """Whether a path leads where it says, and nowhere above: no dot segments, nothing that ends it early."""
    return not (_DOTS.search(path) or _FORBIDDEN.search(path) or b"//" in path)


class Upstream:
    """A provider, ready to be called.

    Attributes:
        terms: what the configuration says of it.
        key: None where callers bring their own, or none is needed.
    """

    def __init__(self, terms: Provider, key: Secret | None) -> None:
        self.terms = terms
        self.name = terms.name
        self.flavor: Flavor = terms.flavor
        self.key = key
        self.address: Address = address_of(terms.base_url)
        scheme, _, rest = terms.base_url.partition("://")
        self._origin_chars = len(scheme) + 3 + len(rest.partition("/")[0])
        self._auth_header = terms.auth_header.encode()
        self._auth_value = b"" if key is None else terms.auth_value(key.value.decode("latin-1")).encode("latin-1")

    def target(self, path: str) -> bytes:
        """The path at the provider of what follows its name here, without a query."""
        return self.terms.url_of(path)[self._origin_chars :].encode("latin-1")

    def auth(self) -> Headers:
        """The header with our key, where there is one."""
        return [(self._auth_header, self._auth_value)] if self._auth_value else []

    @property
    def auth_header(self) -> bytes:
        return self._auth_header


_OPEN_READS: Final = re.compile(r"(?:^|/)models(?:/[^:]*)?$")
_OPEN_POSTS: Final = re.compile(r"(?:^|/)moderations$")


def check_route(route: Route, method: str, path: str, *, own_account: bool) -> None:
    """Refuse what may not be called.

    With the operator's key, callers may call models, count tokens and list models. What is kept in the operator's
    account (files, stored answers, batches) is every customer's, and stays closed; with a key of its own a caller has
    its own account there.

    Raises:
        NotFound: `unknown_path`.
        BadInput: `unmetered_call`: the work would be done after the answer, and its usage not pass here.
    """
    if method not in _METHODS or (not own_account and method not in ("GET", "POST")):
        raise unknown_path(path)
    if route.kind == "deferred":
        raise unmetered(path)
    if own_account:
        return
    if route.kind == "other":
        raise unknown_path(path)
    if route.kind == "list" and not (_OPEN_READS if method == "GET" else _OPEN_POSTS).search(path):
        raise unknown_path(path)


_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


def unknown_path(path: str) -> NotFound:
    return NotFound(
        "unknown_path",
        f"{short(path)} is no address that can be called through the gateway",
        next_step="see docs/gateway.md for those that can; what is kept in a provider's account needs a key of its own"
        " beside x-tally-key",
    )


def unmetered(path: str) -> BadInput:
    return BadInput(
        "unmetered_call",
        f"{short(path)} has the work done after its answer, so that what it uses would not pass here",
        next_step="call the model and wait for its answer; leave out background, and send batches one by one",
    )
