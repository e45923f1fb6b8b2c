"""Keys: what a token looks like, what a key is for, and when one is refused.

    tk_k3J9xQ2m_4fGh…                 the token: what callers send. It is shown once, and kept as its SHA-256 alone
       └ public ┘└ 256 random bits     the public part names the key: key_k3J9xQ2m

A key is of one org, or of none: an operator's, which may act for every org. What it may be used for are its scopes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec

from tallystick.core.errors import Forbidden, Unauthorized
from tallystick.core.instants import format_instant

SCOPES: Final[Mapping[str, str]] = {
    "gateway": "model calls through the gateway",
    "tools": "calls of tools through the gateway",
    "authorize": "authorize, settle and release",
    "events": "record usage",
    "read": "the org's wallet, limits, actions, usage and invoices",
    "webhooks": "where the org's events are sent",
    "disputes": "dispute the org's charges, and fetch the evidence",
    "admin": "everything, of every org",
}
"""What keys may be for."""
OF_AN_ORG: Final = frozenset({"gateway", "tools"})
"""Scopes that only keys of an org have: what passes the gateway is charged to the key's org."""
OF_OPERATORS: Final = frozenset({"admin"})
"""Scopes that only keys without an org have."""

TAGS: Final = ("feature", "user_id", "session_id", "environment", "action", "work_key")
"""What a key may say of calls that do not say it themselves."""
PERSONAL: Final = ("user_id", "session_id")
"""Those of the tags that name a person, and can be erased."""

ERASED: Final = "person_erased"
"""The reason of the end of a key whose person was erased."""

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PUBLIC_CHARS: Final = 8
_SECRET_CHARS: Final = 43  # 62 to the power of 43 is just above 2 to that of 256
RANDOM_BYTES: Final = 40
"""How many random bytes a token is made from."""
_TOKEN: Final = re.compile(rf"tk_[0-9A-Za-z]{{{_PUBLIC_CHARS}}}_[0-9A-Za-z]{{{_SECRET_CHARS}}}")
TOKEN_CHARS: Final = 3 + _PUBLIC_CHARS + 1 + _SECRET_CHARS


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is known, without its token.

    Attributes:
        key_id: such as key_k3J9xQ2m; usage names it as `api_key_id`.
        org_id: whose it is; None for an operator's.
        scopes: what it is for, of `SCOPES`.
        defaults: tags of calls that name none, of `TAGS`.
        expires_at: when it ends by itself; None: never.
        ends_at: the first instant from which it is no longer taken, as was said later; None: nobody has.
        reason: of that end.
        is_ended: it was ended at once, whatever this machine's clock says.
        replaces: the key that this one took the place of, by rotation.
    """

    key_id: str
    org_id: str | None
    scopes: frozenset[str]
    defaults: Mapping[str, str]
    expires_at: datetime | None
    ends_at: datetime | None = None
    reason: str | None = None
    is_ended: bool = False
    replaces: str | None = None
    author: str = ""
    created_at: datetime | None = None

    @property
    def prefix(self) -> str:
        """What its token begins with; it tells nothing secret."""
        return "tk_" + self.key_id.removeprefix("key_")

    def is_taken(self, now: datetime) -> bool:
        """Whether it is neither ended nor expired."""
        return (
            not self.is_ended
            and (self.ends_at is None or now < self.ends_at)
            and (self.expires_at is None or now < self.expires_at)
        )

    def may(self, scope: str) -> bool:
        """Whether it is for that; an admin's is for everything but what belongs to an org."""
        return scope in self.scopes or ("admin" in self.scopes and scope not in OF_AN_ORG)

    def require_taken(self, now: datetime) -> None:
        """Refuse a key that is no longer taken.

        Raises:
            Unauthorized: `key_revoked`, `key_expired`.
        """
        if self.is_taken(now):
            return
        if self.is_ended or (self.ends_at is not None and now >= self.ends_at):
            when = "" if self.ends_at is None else f" at {format_instant(self.ends_at)}"
            raise Unauthorized(
                "key_revoked",
                f"{self.key_id} was ended{when}",
                next_step="use the key that took its place, or ask whoever manages your keys for another",
            )
        assert self.expires_at is not None  # noqa: S101 - nothing else is left
        raise Unauthorized(
            "key_expired",
            f"{self.key_id} expired at {format_instant(self.expires_at)}",
            next_step="ask whoever manages your keys for another",
        )

    def require(self, scope: str) -> None:
        """Refuse what the key is not for.

        Raises:
            Forbidden: `scope_missing`.
        """
        if not self.may(scope):
            raise Forbidden(
                "scope_missing",
                f"{self.key_id} is for {', '.join(sorted(self.scopes))}; this needs {scope}",
                next_step=f"use a key with the scope {scope}",
            )

    def require_org(self, org_id: object) -> None:
        """Refuse a request about another org than the key's; an operator's key is for all.

        Args:
            org_id: the org that the request is about, as it was sent; None: about all, or none in particular.

        Raises:
            Forbidden: `wrong_org`.
        """
        if self.org_id is not None and org_id != self.org_id:
            raise Forbidden(
                "wrong_org",
                f"{self.key_id} is a key of another org than the request is about",
                next_step="use a key of that org, or an operator's",
            )


def new_token(random: bytes) -> tuple[str, str]:
    """A token and the id of its key, from `RANDOM_BYTES` random bytes of the best source there is."""
    assert len(random) == RANDOM_BYTES  # noqa: S101 - a key from fewer would be a weak one
    public = _base62(int.from_bytes(random[:8]) % 62**_PUBLIC_CHARS, _PUBLIC_CHARS)
    secret = _base62(int.from_bytes(random[8:]), _SECRET_CHARS)
    return f"tk_{public}_{secret}", f"key_{public}"


def is_token(text: str) -> bool:
    """Whether the text has the form of a token; whether there is such a key is another question."""
    return _TOKEN.fullmatch(text) is not None


def token_sha256(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def person_sha256(salt: bytes, *, user_id: str | None, session_id: str | None) -> bytes:
    """What is kept, once they are erased, of the person whom a key stands for."""
    named = msgspec.json.encode({"session_id": session_id, "user_id": user_id})
    return hashlib.sha256(b"tallystick key v1\n" + salt + named).digest()


def key_missing() -> Unauthorized:
    """The refusal of a caller who shows no key where one is needed."""
    return Unauthorized(
        "key_missing",
        "this needs a key, and the request shows none",
        next_step="send Authorization: Bearer tk_…; `tally keys create` makes a key",
    )


def key_unknown() -> Unauthorized:
    """The refusal of a token that is no key's. What was sent is not repeated: it may be somebody's secret."""
    return Unauthorized(
        "key_unknown",
        "there is no such key",
        next_step="check that the whole token is sent, and to the right server; a lost token cannot be shown again",
    )


def _base62(number: int, digits: int) -> str:
    found = []
    for _ in range(digits):
        number, digit = divmod(number, 62)
        found.append(_ALPHABET[digit])
    return "".join(reversed(found))
