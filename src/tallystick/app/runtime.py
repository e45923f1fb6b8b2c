"""A running Tallystick: the database (embedded unless told otherwise), its schema, the rate card and the clock.

Everything that a command or the API does with stored data begins with `open_runtime`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from tallystick.app.cards import load_card_history
from tallystick.app.disk import DiskGuard
from tallystick.app.key_ring import KeyRing
from tallystick.app.late_start import LateStart, recall_meters, remember_meters
from tallystick.app.rates_store import load_cards
from tallystick.app.restore_mark import refuse_unfinished
from tallystick.app.settings import Settings
from tallystick.app.spool import SpoolGate
from tallystick.app.spool_drain import Drainer
from tallystick.core.errors import BadInput, Unavailable
from tallystick.core.instants import Clock
from tallystick.journal.contracts import declared_meters
from tallystick.journal.database import Database
from tallystick.journal.group_work import EventWork
from tallystick.journal.group_writer import GroupWriter
from tallystick.journal.migrate import migrate, unreachable
from tallystick.journal.operations_writer import Operations, OperationWork
from tallystick.journal.prepare import Batch, prepare
from tallystick.journal.self_test import check_walls
from tallystick.journal.server import EmbeddedServer, ServerState
from tallystick.journal.spool import Spool
from tallystick.journal.test_clocks import OrgClocks
from tallystick.journal.waiting_queue import QueueState
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
        operations: decides and writes operations on accounts, likewise.
        keys: finds the keys that callers show.
        org_clocks: the present instant for each org: test orgs have clocks of their own.
        clock: the present instant; a fixed one in tests.
        cards: every rate-card version in the database, in the order in which we came to know them.
        server: the embedded database server, None where somebody else's is used.
        late_start: what completes a start that found the database away; None where it was there.
        random_bytes: where salts come from; a seeded source in the demonstration.
        event_counts: what became of the events that this process was sent, by status and reason code.
    """

    settings: Settings
    database: Database
    writer: GroupWriter[Batch, list[Receipt]]
    clock: Clock
    cards: CardHistory
    server: EmbeddedServer | None = None
    late_start: LateStart | None = None
    random_bytes: Callable[[int], bytes] = os.urandom
    event_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _known_meters: frozenset[str] = field(default=frozenset())
    operations: Operations = field(init=False)
    keys: KeyRing = field(init=False)
    org_clocks: OrgClocks = field(init=False)
    _gate: SpoolGate = field(init=False)
    _disk: DiskGuard | None = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self._disk = DiskGuard(settings.data_dir) if self.server is not None else None
        days = settings.retention_days
        work = OperationWork(
            lambda: self.clock(),  # noqa: PLW0108 - clock and salts may be exchanged
            lambda: self.card,
            lambda count: self.random_bytes(count),  # noqa: PLW0108
            None if days is None else timedelta(days=days),
        )
        self.operations = Operations(
            self.database.connect_writer,
            work,
            check=None if self._disk is None else self._disk.check,
            linger_seconds=settings.group_linger_ms / 1000,
            group_events_max=settings.group_events_max,
            queue_events_max=settings.queue_events_max,
        )
        self.org_clocks = OrgClocks(self.database, lambda: self.clock())  # noqa: PLW0108
        self.keys = KeyRing(self.database, serves_while_away=self.spools)
        self._gate = SpoolGate(
            self.open_spool,
            self.write,
            self.clock,
            spools=self.spools,
            queue_events_max=settings.queue_events_max,
        )

    @property
    def card(self) -> RateCard:
        """The newest rate card: what new events are priced with."""
        return self.cards.latest

    def now(self, org_id: str) -> datetime:
        """The present instant for an org: that of its own clock where it is a test org, else the machine's."""
        return self.org_clocks.now(org_id)

    def is_test_org(self, org_id: str) -> bool:
        """Whether the org has a clock of its own.

        Raises:
            Unavailable: `database_unreachable`.
        """
        return self.org_clocks.is_test(org_id)

    def append(self, events: Sequence[UsageEvent]) -> list[Receipt]:
        """Store checked events, each exactly once, together with what other threads store at that moment.

        One receipt for each event, in order; what was accepted is on disk when this returns.

        Raises:
            Unavailable: as `submit`, or as its future.
        """
        return self.submit(events).result()

    def submit(self, events: Sequence[UsageEvent]) -> Future[list[Receipt]]:
        """Price and encode checked events, as recorded now, and have them written; it does not wait for that.

        While the database is away they are spooled, where the operator wants that: see `app.spool`.

        Raises:
            Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`, `storage_full`, or what the spool
                raises; also as the future's error.
        """
        return self._gate.submit(events)

    def write(self, events: Sequence[UsageEvent], salts: bytes | None = None) -> Future[list[Receipt]]:
        """As `submit`, past the spool; `salts` are those of the events' fingerprints, when they have some already."""
        if self._disk is not None:
            self._disk.check()
        if self.database.withheld:  # before anything is priced: the rate cards may be others
            raise unreachable(RuntimeError("it was away when this process began, and is not looked over yet"))
        return self.writer.submit(self.prepare(events, salts))

    def prepare(self, events: Sequence[UsageEvent], salts: bytes | None = None) -> Batch:
        """Price and encode checked events, as recorded now; nothing is stored yet."""
        now, days = self.clock(), self.settings.retention_days
        known_since = None if days is None else now - timedelta(days=days)
        salts = self.random_bytes(SALT_BYTES * len(events)) if salts is None else salts
        return prepare(events, now, self.card, salts, known_since=known_since)

    @property
    def spools(self) -> bool:
        """Whether events are kept on this machine's disk while the database is away."""
        return self.settings.when_database_away == "spool"

    def open_spool(self) -> Spool:
        """The spool of this data directory, for the thread that calls; it is to be closed."""
        return Spool(self.settings.data_dir, events_max=self.settings.spool_events_max)

    def spool_state(self) -> QueueState:
        """What is in the spool.

        Raises:
            Unavailable: `spool_unusable`.
        """
        with closing(self.open_spool()) as spool:
            return spool.state()

    def server_state(self) -> ServerState | None:
        """How the embedded server fares; None where there is none."""
        return None if self.server is None else self.server.state()

    def close(self) -> None:
        """Write what waits, then stop writing."""
        self.keys.close()
        self.operations.close()
        self.writer.close()
        self._gate.close()

    def known_meters(self, *, reload: bool = False) -> frozenset[str]:
        """The built-in meters and those that applied contracts declare, as last read from the database.

        Raises:
            Unavailable: `database_unreachable`; where events are spooled only when asked to `reload`, for otherwise
                those that were known last are used.
        """
        if reload or not self._known_meters:
            try:
                with self.database.operator() as connection:
                    self._known_meters = frozenset(METERS) | declared_meters(connection)
            except Unavailable:
                if reload or not self.spools:
                    raise
                self._known_meters = recall_meters(self.settings.data_dir)
            else:
                if self.spools:
                    remember_meters(self.settings.data_dir, self._known_meters)
        return self._known_meters

    def forget_meters(self) -> None:
        """Ask the database for the meters when they are needed next."""
        self._known_meters = frozenset()

    def reload_cards(self) -> None:
        """Read rate-card versions that another process has loaded since."""
        self.cards = load_cards(self.database, self.settings, self.clock())


@contextmanager
def open_runtime(
    settings: Settings, clock: Clock = utc_now, *, may_start_late: bool = False, restoring: bool = False
) -> Iterator[Runtime]:
    """Start or join the database, bring its schema and rate cards up to date, and close it all in the end.

    Args:
        settings: what the operator has set.
        clock: the present instant.
        may_start_late: while the database is away, start all the same where events are spooled: see `app.late_start`.
        restoring: whether the caller is who fills this place from a backup, and may work on what is not whole yet.

    Raises:
        BadInput: `invalid_database_url`.
        Unavailable: `restore_unfinished`.
        Unavailable: the database cannot be started or reached, or does not keep tenants apart or history unchanged; see
            `journal.server`, `journal.migrate` and `journal.self_test`.
        Conflict: a rate-card file contradicts the version of that name in the database.
    """
    if not restoring:
        refuse_unfinished(settings.data_dir)
    with ExitStack() as stack:
        server = None
        if settings.database_url is None:
            server = EmbeddedServer(settings.data_dir)
            url = stack.enter_context(server)
        else:
            url = checked_url(settings.database_url)
        # Our own server lets the roles log in; elsewhere the configured login becomes each of them, unless told.
        role_logins = settings.database_url is None or settings.database_role_logins
        database = Database(url, role_logins=role_logins)
        stack.callback(database.close)
        away: Unavailable | None = None
        try:
            cards = _look_over(database, settings, clock, restoring=restoring)
        except Unavailable as error:
            if not may_start_late or settings.when_database_away != "spool" or error.code != "database_unreachable":
                raise
            database.withheld, away = True, error
            cards = load_card_history(settings.data_dir / "cards")
        runtime = assemble(settings, database, clock, cards, server)
        stack.callback(runtime.close)
        if away is not None:
            runtime.late_start = LateStart(partial(_complete, runtime), away)
            stack.callback(runtime.late_start.stop)
        drainer = Drainer(runtime.open_spool, runtime.write, clock)
        stack.callback(drainer.stop)
        yield runtime


def assemble(
    settings: Settings, database: Database, clock: Clock, cards: CardHistory, server: EmbeddedServer | None = None
) -> Runtime:
    """A runtime on a database that was looked over; until it is asked for something, it does nothing."""
    counts: Counter[tuple[str, str]] = Counter()
    writer = GroupWriter(
        database.connect_writer,
        EventWork(counts),
        linger_seconds=settings.group_linger_ms / 1000,
        group_events_max=settings.group_events_max,
        queue_events_max=settings.queue_events_max,
    )
    return Runtime(settings, database, writer, clock, cards, server, event_counts=counts)


def _look_over(database: Database, settings: Settings, clock: Clock, *, restoring: bool = False) -> CardHistory:
    """Bring the database up to date and make sure that it keeps its promises; its rate cards."""
    migrate(database.url, role_logins=database.role_logins, restoring=restoring)
    check_walls(database)
    return load_cards(database, settings, clock())


def _complete(runtime: Runtime) -> None:
    """Complete a late start: from then on the database is used."""
    with closing(Database(runtime.database.url, role_logins=runtime.database.role_logins)) as database:
        runtime.cards = _look_over(database, runtime.settings, runtime.clock)
    runtime.forget_meters()
    runtime.database.withheld = False


def checked_url(url: str) -> str:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        conninfo_to_dict(url)
    except ProgrammingError as error:
        said = re.sub('".*"', "…", " ".join(str(error).split()))  # what it quotes may be the password
        raise BadInput(
            "invalid_database_url",
            f"DATABASE_URL cannot be read: {said}",
            next_step="write it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
            where="DATABASE_URL",
        ) from None
    return url
