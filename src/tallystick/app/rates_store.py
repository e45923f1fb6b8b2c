"""Rate cards go from files into the database as versions, and come back from there: a replay needs no file.

The database's versions form one chain, each card file naming the SHA-256 of the one before. A file that is not
in the database yet is appended when it continues that chain. One that does not changes nothing: what was known
when stays as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from tallystick.app.cards import read_card_files
from tallystick.app.settings import Settings
from tallystick.journal.audit import record_act
from tallystick.journal.database import Connection, Database
from tallystick.journal.rate_versions import (
    add_rate_version,
    list_rate_versions,
    lock_rate_versions,
    read_cards,
)
from tallystick.ledger.acts import Act
from tallystick.rates.card import CardHistory
from tallystick.rates.cardfile import CardVersion, parse_card_file


def load_cards(database: Database, settings: Settings, now: datetime) -> CardHistory:
    """Append the card files that continue the database's chain, then give the history as the database holds it.

    Raises:
        Problems: a card file cannot be read.
        Unavailable: `database_unreachable`.
    """
    contents = read_card_files(settings.data_dir / "cards")
    with database.operator() as connection:
        stored = [version.sha256 for version in list_rate_versions(connection)]
        if _next_files(contents, stored):
            lock_rate_versions(connection)
            stored = [version.sha256 for version in list_rate_versions(connection)]
            added = _next_files(contents, stored)
            for content, version in added:
                add_rate_version(
                    connection,
                    version=version.name,
                    known_at=version.header.known_at,
                    loaded_at=now,
                    sha256=version.sha256,
                    source=version.header.source,
                    card=content,
                )
            if added:
                _record(connection, stored, [version for _, version in added], now)
        cards = read_cards(connection)
    return _history(tuple(cards))


def _record(connection: Connection, stored: Sequence[str], added: Sequence[CardVersion], now: datetime) -> None:
    before = {"sha256": stored[-1], "versions": len(stored)} if stored else None
    newest = added[-1]
    after = {"sha256": newest.sha256, "versions": len(stored) + len(added), "added": [one.name for one in added]}
    record_act(connection, Act("rates.load", newest.name, now, before=before, after=after))


@lru_cache(maxsize=2)
def _history(cards: tuple[bytes, ...]) -> CardHistory:
    """The history of these files. Read again unchanged, it is the same one, with all that it has compiled."""
    return CardHistory(tuple(parse_card_file(content) for content in cards))


def stored_cards(database: Database) -> CardHistory:
    """The history as the database holds it, whatever files there are.

    Raises:
        Unavailable: `database_unreachable`.
    """
    with database.operator() as connection:
        return _history(tuple(read_cards(connection)))


def _next_files(contents: Sequence[bytes], stored: Sequence[str]) -> list[tuple[bytes, CardVersion]]:
    """The files that continue the chain, in its order."""
    known = set(stored)
    fresh = {hashlib.sha256(content).hexdigest(): content for content in contents}
    following: dict[str | None, tuple[bytes, CardVersion]] = {}
    for sha256, content in fresh.items():
        if sha256 not in known:
            version = parse_card_file(content)
            following.setdefault(version.header.previous, (content, version))
    found = []
    last = stored[-1] if stored else None
    while last in following:
        content, version = following.pop(last)
        found.append((content, version))
        last = version.sha256
    return found
