"""Keys: made, listed, revoked, and exchanged for others. A token is shown once, by what makes it."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from psycopg.errors import UniqueViolation

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal import keys as rows
from tallystick.journal.database import Connection
from tallystick.ledger.api_key import (
    OF_AN_ORG,
    OF_OPERATORS,
    PERSONAL,
    RANDOM_BYTES,
    SCOPES,
    TAGS,
    Key,
    is_token,
    new_token,
    token_sha256,
)
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.members import did_you_mean, short
from tallystick.usage.event_problems import check_text

__all__ = ["Key", "NewKey", "create_key", "key_document", "list_keys", "revoke_key", "rotate_key"]

OVERLAP_MAX = timedelta(days=365)
"""How long a key may go on beside the one that takes its place."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, and its token, which nobody can show again."""

    key: Key
    token: str = field(repr=False)


def create_key(
    runtime: Runtime,
    *,
    org_id: str | None,
    scopes: Collection[str],
    author: str,
    defaults: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """Make a key.

    Args:
        runtime: an open one.
        org_id: whose it is; it need not be known yet. None: an operator's, which may act for every org.
        scopes: what it is for, of `ledger.api_key.SCOPES`.
        author: who makes it.
        defaults: what calls with it say when they do not say it themselves, of `ledger.api_key.TAGS`.
        expires_at: when it ends by itself.

    Raises:
        BadInput: `unknown_scope`, `scope_needs_org`, `scope_needs_operator`, `default_needs_org`, `expired_already`,
            `missing_field`; or what `check_text` raises for a name.
        Unavailable: `database_unreachable`.
    """
    now = runtime.clock()
    defaults = dict(defaults or {})
    check_text("author", author)
    if org_id is not None:
        check_text("org_id", org_id)
    _check_scopes(org_id, scopes)
    for name, value in defaults.items():
        if name not in TAGS:
            raise BadInput("unknown_field", f"{short(name)} is no tag", next_step=f"use {', '.join(TAGS)}", where=name)
        check_text(name, value)
    if org_id is None and defaults:
        raise BadInput(
            "default_needs_org",
            "what a key says of calls is said of those that are charged to its org, and an operator's key has none",
            next_step="leave it out, or make a key of an org",
            where=min(defaults),
        )
    if expires_at is not None and expires_at <= now:
        raise _expired(expires_at)
    return _add(runtime, _key(org_id, scopes, defaults, expires_at, author, now))


def list_keys(runtime: Runtime, org_id: str | None = None) -> list[Key]:
    """All keys, or those of one org, ended ones too, the oldest first.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with runtime.database.operator() as connection:
        return rows.list_keys(connection, org_id)


def revoke_key(runtime: Runtime, key_id: str, *, reason: str, author: str) -> Key:
    """End a key at once, whatever this machine's clock says of it; one that was ended at once stays as it is.

    Raises:
        BadInput: what `check_text` raises for a name.
        NotFound: `unknown_key_id`.
        Unavailable: `database_unreachable`.
    """
    check_text("reason", reason)
    check_text("author", author)
    now = runtime.clock()
    with runtime.database.operator() as connection:
        key = _existing(connection, key_id)
        if key.is_ended:  # one whose time is over by this clock may go on by that of another machine
            return key
        rows.end_key(connection, key, ends_at=now, reason=reason, author=author, recorded_at=now)
        before, key = key, _existing(connection, key_id)
        record_act(connection, _act("key.revoke", key, now, author=author, reason=reason, before=before))
    runtime.keys.forget()
    return key


def rotate_key(
    runtime: Runtime, key_id: str, *, overlap: timedelta, author: str, expires_at: datetime | None = None
) -> NewKey:
    """Make a key of the same terms, and have the old one end after the overlap.

    Args:
        runtime: an open one.
        key_id: the key to replace, which is still taken.
        overlap: how long both are taken; zero ends the old one at once.
        author: who does it.
        expires_at: when the new one ends by itself; None: when the old one would have.

    Raises:
        BadInput: `invalid_duration`, `expired_already`, or what `check_text` raises for a name.
        NotFound: `unknown_key_id`.
        Conflict: `key_ended`.
        Unavailable: `database_unreachable`.
    """
    check_text("author", author)
    now = runtime.clock()
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise BadInput(
            "invalid_duration",
            f"both keys can be taken together for {OVERLAP_MAX.days} days at most",
            next_step="give an overlap such as 24h",
            where="overlap",
        )
    if expires_at is not None and expires_at <= now:
        raise _expired(expires_at)
    with runtime.database.operator() as connection:
        old = _existing(connection, key_id)
    new = _key(old.org_id, old.scopes, old.defaults, expires_at or old.expires_at, author, now, replaces=key_id)
    return _add(runtime, new, ends_old_at=now + overlap)


def key_document(key: Key, now: datetime) -> dict[str, Any]:
    """A key as JSON: what it is for, and how it stands."""
    return {
        "key_id": key.key_id,
        "prefix": key.prefix,
        "org_id": key.org_id,
        "scopes": sorted(key.scopes),
        "defaults": {name: key.defaults[name] for name in TAGS if name in key.defaults},
        "status": key_status(key, now),
        "expires_at": _instant(key.expires_at),
        "ends_at": _instant(key.ends_at),
        "reason": key.reason,
        "replaces": key.replaces,
        "author": key.author,
        "created_at": _instant(key.created_at),
    }


def key_status(key: Key, now: datetime) -> str:
    """`active`; `ending`, when it was replaced and is still taken; `ended`; or `expired`."""
    if key.is_taken(now):
        return "active" if key.ends_at is None else "ending"
    return "ended" if key.is_ended or (key.ends_at is not None and key.ends_at <= now) else "expired"


def _add(runtime: Runtime, key: Key, *, ends_old_at: datetime | None = None) -> NewKey:
    while True:
        # Never from the runtime's source of random bytes: a demonstration's is the same each time.
        token, key_id = new_token(secrets.token_bytes(RANDOM_BYTES))
        made = msgspec.structs.replace(key, key_id=key_id)
        try:
            with runtime.database.operator() as connection:
                if key.replaces is not None and ends_old_at is not None:
                    _end_old(connection, made, key.replaces, ends_old_at)
                rows.add_key(connection, made, token_sha256(token), secrets.token_bytes(SALT_BYTES))
                record_act(connection, _act("key.rotate" if key.replaces else "key.create", made, runtime.clock()))
        except UniqueViolation:  # two keys of the same public part, of which there are 2 to the power of 47
            continue
        runtime.keys.forget()
        return NewKey(made, token)


def _act(
    act: str,
    key: Key,
    at: datetime,
    *,
    author: str | None = None,
    reason: str | None = None,
    before: Key | None = None,
) -> Act:
    """What was done to a key. Whom it stands for is not told: that can be erased, and this cannot."""

    def told(key: Key) -> dict[str, Any]:
        document = key_document(key, at)
        document["defaults"] = {name: text for name, text in document["defaults"].items() if name not in PERSONAL}
        wanted = ("prefix", "scopes", "defaults", "status", "expires_at", "ends_at", "replaces")
        return {name: document[name] for name in wanted}

    return Act(
        act=act,
        subject=key.key_id,
        at=at,
        org_id=key.org_id,
        author=author or key.author,
        reason=reason,
        before=None if before is None else told(before),
        after=told(key),
    )


def _end_old(connection: Connection, new: Key, old_id: str, ends_at: datetime) -> None:
    rows.lock_key(connection, old_id)
    if new.org_id is not None:
        rows.lock_persons(connection, new.org_id)
    old = _existing(connection, old_id)
    assert new.created_at is not None  # noqa: S101 - it was just made
    if not old.is_taken(new.created_at):
        raise Conflict(
            "key_ended",
            f"{old_id} is no longer taken, so that there is nothing to replace",
            next_step="make a new key",
            where="key_id",
        )
    rows.end_key(connection, old, ends_at=ends_at, reason="rotated", author=new.author, recorded_at=new.created_at)


def _existing(connection: Connection, key_id: str) -> Key:
    key = rows.key_of_id(connection, key_id)
    if key is None:
        is_whole = is_token(key_id)
        raise NotFound(
            "unknown_key_id",
            "that is a token, not the id of its key" if is_whole else "there is no key of that id",
            next_step=f"give key_{key_id[3:11]}, and end it if others may have seen the token"
            if is_whole
            else "`tally keys list` has the ids of all keys; they begin with key_",
            where="key_id",
        )
    return key


def _key(
    org_id: str | None,
    scopes: Collection[str],
    defaults: Mapping[str, str],
    expires_at: datetime | None,
    author: str,
    now: datetime,
    *,
    replaces: str | None = None,
) -> Key:
    return Key(
        key_id="",
        org_id=org_id,
        scopes=frozenset(scopes),
        defaults=dict(defaults),
        expires_at=expires_at,
        replaces=replaces,
        author=author,
        created_at=now,
    )


def _check_scopes(org_id: str | None, scopes: Collection[str]) -> None:
    if not scopes:
        raise BadInput(
            "missing_field", "a key is for something", next_step=f"give scopes, of {', '.join(SCOPES)}", where="scopes"
        )
    for scope in scopes:
        if scope not in SCOPES:
            raise BadInput(
                "unknown_scope",
                f"{short(scope)} is none of {', '.join(SCOPES)}{did_you_mean(scope, SCOPES)}",
                next_step="give one or more of them",
                where="scopes",
            )
    if org_id is None and (wrong := sorted(OF_AN_ORG.intersection(scopes))):
        raise BadInput(
            "scope_needs_org",
            f"what comes with the scope {wrong[0]} is charged to the key's org, and an operator's key has none",
            next_step="make a key of an org for it",
            where="scopes",
        )
    if org_id is not None and (wrong := sorted(OF_OPERATORS.intersection(scopes))):
        raise BadInput(
            "scope_needs_operator",
            f"the scope {wrong[0]} is for every org, and a key of one org cannot have it",
            next_step="make an operator's key for it",
            where="scopes",
        )


def _expired(expires_at: datetime) -> BadInput:
    return BadInput(
        "expired_already",
        f"{format_instant(expires_at)} is not in the future",
        next_step="give a later instant, or none",
        where="expires_at",
    )


def _instant(value: datetime | None) -> str | None:
    return None if value is None else format_instant(value)
