"""Keys in the database: added, ended, found by the SHA-256 of their token. Nothing here ever sees a token."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.api_key import PERSONAL, TAGS, Key, person_sha256

_SQL = load_queries("keys")
_ANY = {"token_sha256": None, "key_id": None, "org_id": None}


def add_key(connection: Connection, key: Key, token_sha256: bytes, salt: bytes) -> None:
    """Add a key; an operator's transaction. `salt` hides whom it stands for once they are erased.

    Raises:
        psycopg.errors.UniqueViolation: the id or the token is taken.
    """
    person = {name: key.defaults.get(name) for name in PERSONAL}
    names_anybody = any(value is not None for value in person.values())
    defaults = {name: key.defaults[name] for name in TAGS if name in key.defaults and name not in PERSONAL}
    values: dict[str, Any] = {
        "key_id": key.key_id,
        "org_id": key.org_id,
        "token_sha256": token_sha256,
        "scopes": sorted(key.scopes),
        "defaults": msgspec.json.encode(defaults).decode(),
        "person_sha256": person_sha256(salt, **person) if names_anybody else None,
        "expires_at": key.expires_at,
        "replaces": key.replaces,
        "author": key.author,
        "created_at": key.created_at,
    }
    connection.execute(_SQL["add"], values)
    if names_anybody:
        connection.execute(_SQL["add_person"], {"key_id": key.key_id, "org_id": key.org_id, "salt": salt, **person})


def end_key(
    connection: Connection, key: Key, *, ends_at: datetime, reason: str, author: str, recorded_at: datetime
) -> None:
    """Have the key end at that instant, unless it ends before; an operator's transaction."""
    values = {"key_id": key.key_id, "org_id": key.org_id, "ends_at": ends_at, "reason": reason}
    connection.execute(_SQL["end"], {**values, "author": author, "recorded_at": recorded_at})


def lock_key(connection: Connection, key_id: str) -> None:
    """Keep others from ending or replacing the key until this transaction ends."""
    connection.execute(_SQL["lock"], {"key_id": key_id})


def lock_persons(connection: Connection, org_id: str) -> None:
    """Have whoever erases a person of that org, or hands one on to another key, wait until this transaction ends."""
    connection.execute(_SQL["lock_persons"], {"org_id": org_id})


def key_of_token(connection: Connection, token_sha256: bytes) -> Key | None:
    """The key whose token has this SHA-256, ended or not."""
    found = _found(connection, token_sha256=token_sha256)
    return found[0] if found else None


def key_of_id(connection: Connection, key_id: str) -> Key | None:
    """The key of that id, ended or not."""
    found = _found(connection, key_id=key_id)
    return found[0] if found else None


def list_keys(connection: Connection, org_id: str | None = None) -> list[Key]:
    """All keys, or those of one org, ended ones too, the oldest first."""
    return _found(connection, org_id=org_id)


def erase_person_of_keys(connection: Connection, org_id: str, user_id: str, at: datetime) -> int:
    """Erase a person from the org's keys that stand for them, which end: how many they were."""
    lock_persons(connection, org_id)
    row = connection.execute(_SQL["erase_person"], {"org": org_id, "person": user_id, "at": at}).fetchone()
    return int(row[0]) if row else 0


def listen(connection: Connection) -> None:
    """Have this connection, in autocommit, be told of what happens to keys (`connection.notifies`)."""
    connection.execute(_SQL["listen"])


def _found(connection: Connection, **wanted: Any) -> list[Key]:
    return [_key(row) for row in connection.execute(_SQL["found"], {**_ANY, **wanted})]


def _key(row: tuple[Any, ...]) -> Key:
    key_id, org_id, scopes, defaults, expires_at, ends_at, reason, is_ended, user, session, replaces, author, made = row
    person = {name: value for name, value in zip(PERSONAL, (user, session), strict=True) if value is not None}
    return Key(
        key_id=key_id,
        org_id=org_id,
        scopes=frozenset(scopes),
        defaults=msgspec.json.decode(defaults, type=dict[str, str]) | person,
        expires_at=expires_at,
        ends_at=ends_at,
        reason=reason,
        is_ended=is_ended,
        replaces=replaces,
        author=author,
        created_at=made,
    )
