"""Checkpoints as the database holds them, and the public halves of the keys that signed them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries
from tallystick.ledger.notes import PublicKey

_SQL = load_queries("checkpoints")


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A signed note over the first `size` blocks."""

    size: int
    note: str
    signed_at: datetime


def lock_signing_keys(connection: Connection) -> None:
    """Keep other processes from making or adding a key until this transaction ends."""
    connection.execute(_SQL["lock_keys"])


def list_signing_keys(connection: Connection) -> list[PublicKey]:
    """Every key that this ledger's checkpoints were ever signed with, the oldest first."""
    return [PublicKey(name, bytes(raw)) for name, raw in connection.execute(_SQL["keys"])]


def add_signing_key(connection: Connection, key: PublicKey, at: datetime) -> None:
    """Add a key; one that is there already stays as it is. The connection is an operator's."""
    values = {"key_id": key.key_id.hex(), "name": key.name, "public_key": key.raw, "at": at}
    connection.execute(_SQL["add_key"], values)


def latest_checkpoint(connection: Connection) -> StoredCheckpoint | None:
    """The newest checkpoint."""
    return _one(connection, "latest")


def checkpoint_of_size(connection: Connection, size: int) -> StoredCheckpoint | None:
    """The checkpoint over exactly so many blocks."""
    return _one(connection, "of_size", size)


def checkpoint_covering(connection: Connection, block: int) -> StoredCheckpoint | None:
    """The first checkpoint that covers the block of that number."""
    return _one(connection, "covering", block)


def _one(connection: Connection, query: str, size: int = 0) -> StoredCheckpoint | None:
    row = connection.execute(_SQL[query], {"size": size}).fetchone()
    return None if row is None else StoredCheckpoint(*row)
