"""Rate-card versions as the database holds them: whole card files, in the order in which we came to know them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("rate_versions")


@dataclass(frozen=True, slots=True)
class RateVersion:
    """What is known of one version. `sha256` is of the card file's bytes, in hex."""

    ordinal: int
    version: str
    known_at: datetime
    loaded_at: datetime
    sha256: str
    source: str


def list_rate_versions(connection: Connection) -> list[RateVersion]:
    """Every version, oldest first."""
    return [RateVersion(*row) for row in connection.execute(_SQL["list"])]


def read_cards(connection: Connection) -> list[bytes]:
    """Every card file, byte for byte, oldest first."""
    return [bytes(card) for (card,) in connection.execute(_SQL["cards"])]


def lock_rate_versions(connection: Connection) -> None:
    """Keep other processes from adding versions until this transaction ends."""
    connection.execute(_SQL["lock"])


def add_rate_version(
    connection: Connection,
    *,
    version: str,
    known_at: datetime,
    loaded_at: datetime,
    sha256: str,
    source: str,
    card: bytes,
) -> None:
    """Append one version under the next ordinal; others are locked out."""
    values = {"version": version, "known_at": known_at, "loaded_at": loaded_at, "sha256": sha256, "source": source}
    connection.execute(_SQL["add"], {**values, "card": card})
