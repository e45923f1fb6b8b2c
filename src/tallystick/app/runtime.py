"""A running Tallystick: the database (embedded unless told otherwise), its schema, the rate card and the clock.

Everything that a command or the API does with stored data begins with `open_runtime`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tallystick.app.rates_store import load_cards
from tallystick.app.settings import Settings
from tallystick.core.errors import BadInput
from tallystick.core.instants import Clock
from tallystick.journal.contracts import declared_meters
from tallystick.journal.database import Database
from tallystick.journal.group_writer import GroupWriter
from tallystick.journal.migrate import migrate
from tallystick.journal.self_test import check_walls
from tallystick.journal.server import EmbeddedServer
from tallystick.journal.writer import Batch, prepare
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.receipt import Receipt
from tallystick.rates.card import CardHistory
from tallystick.rates.pricing import RateCard
from tallystick.usage.event import UsageEvent
from tallystick.usage.meters import METERS


def utc_now() -> datetime:
    """The machine's clock: the present instant in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Runtime:
    """What use cases work with.

    Attributes:
        settings: what the operator has set.
        database: `database.org(org_id)`, `.operator()` and `.writer()` each give one transaction.
        writer: writes events for all threads of this process.
        clock: the present instant; a fixed one in tests.
        cards: every rate-card version in the database, in the order in which we came to know them.
    """

    settings: Settings
    database: Database
    writer: GroupWriter
    clock: Clock
    cards: CardHistory
    _known_meters: frozenset[str] = field(default=frozenset())

    @property
    def card(self) -> RateCard:
        """The newest rate card: what new events are priced with."""
        return self.cards.latest

    def append(self, events: Sequence[UsageEvent]) -> list[Receipt]:
        """Store checked events, each exactly once, together with what other threads store at that moment.

        One receipt for each event, in order; what was accepted is on disk when this returns.

        Raises:
            Unavailable: as `submit`, or as its future.
        """
        return self.submit(events).result()

    def submit(self, events: Sequence[UsageEvent]) -> Future[list[Receipt]]:
        """Price and encode checked events, as recorded now, and have them written; it does not wait for that.

        Raises:
            Unavailable: `journal_busy`, `database_unreachable` or `journal_closed`; see `GroupWriter.submit`.
        """
        return self.writer.submit(self.prepare(events))

    def prepare(self, events: Sequence[UsageEvent]) -> Batch:
        """Price and encode checked events, as recorded now; nothing is stored yet."""
        now, days = self.clock(), self.settings.retention_days
        known_since = None if days is None else now - timedelta(days=days)
        return prepare(events, now, self.card, os.urandom(SALT_BYTES * len(events)), known_since=known_since)

    def known_meters(self, *, reload: bool = False) -> frozenset[str]:
        """The built-in meters and those that applied contracts declare, as last read from the database."""
        if reload or not self._known_meters:
            with self.database.operator() as connection:
                self._known_meters = frozenset(METERS) | declared_meters(connection)
        return self._known_meters

    def reload_cards(self) -> None:
        """Read rate-card versions that another process has loaded since."""
        self.cards = load_cards(self.database, self.settings, self.clock())


@contextmanager
def open_runtime(settings: Settings, clock: Clock = utc_now) -> Iterator[Runtime]:
    """Start or join the database, bring its schema and rate cards up to date, and close it all in the end.

    Raises:
        BadInput: `invalid_database_url`.
        Unavailable: the database cannot be started or reached, or does not keep tenants apart or history unchanged; see
            `journal.server`, `journal.migrate` and `journal.self_test`.
        Conflict: a rate-card file contradicts the version of that name in the database.
    """
    with ExitStack() as stack:
        if settings.database_url is None:
            url = stack.enter_context(EmbeddedServer(settings.data_dir))
        else:
            url = _checked_url(settings.database_url)
        # Our own server lets the roles log in; elsewhere the login that was configured becomes each of them.
        role_logins = settings.database_url is None
        migrate(url, role_logins=role_logins)
        database = Database(url, role_logins=role_logins)
        stack.callback(database.close)
        check_walls(database)
        cards = load_cards(database, settings, clock())
        writer = GroupWriter(
            database.connect_writer,
            linger_seconds=settings.group_linger_ms / 1000,
            group_events_max=settings.group_events_max,
            queue_events_max=settings.queue_events_max,
        )
        stack.callback(writer.close)
        yield Runtime(settings, database, writer, clock, cards)


def _checked_url(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(url)
    except ProgrammingError as error:
        raise BadInput(
            "invalid_database_url",
            f"DATABASE_URL cannot be read: {' '.join(str(error).split())}",
            next_step="write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            where="DATABASE_URL",
        ) from None
    return url
