"""Whether this process can take events, and how: each thing that it needs, and why not where it cannot.

Decisions, settlements and refunds have a queue of their own, which is looked at too. They are never spooled: while the
database is away they are refused.

| mode | what becomes of an event |
|---|---|
| `normal` | it is written to the ledger |
| `spooling` | the database is away; it is kept on this machine's disk and written later |
| `refusing` | it is refused; the checks say why |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from tallystick.app.disk import RESERVE_BYTES
from tallystick.app.runtime import Runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import TallyError
from tallystick.journal.group_writer import WriterState
from tallystick.journal.migrations import revisions
from tallystick.journal.probe import probe
from tallystick.journal.server_folder import free_bytes
from tallystick.journal.settlement_file import SettlementFile
from tallystick.journal.spool import Spool

Mode = Literal["normal", "spooling", "refusing"]
Figures = Mapping[str, int | float | str | None]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: its name, whether it is as it should be, a sentence, and what was measured."""

    name: str
    ok: bool
    detail: str
    figures: Figures = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was found.

    Attributes:
        mode: what becomes of events.
        degraded: something is not as it should be, whether events are taken or not.
        checks: everything that was looked at.
    """

    mode: Mode
    degraded: bool
    checks: Sequence[Check]

    @property
    def ready(self) -> bool:
        """Whether events are taken."""
        return self.mode != "refusing"


def check_readiness(runtime: Runtime, more: Sequence[Check] = ()) -> Readiness:
    """Look at everything; it takes a few milliseconds, or some seconds while a database does not answer.

    Args:
        runtime: an open one.
        more: checks of what runs beside it; they may degrade the service and never make it refuse.
    """
    database, migrations = check_database(runtime.database.url)
    writer = _check_writer(runtime, "writer", "events", runtime.writer.state())
    # Decisions have no spool, and their writer no say in what becomes of events: it degrades, as it would alone.
    operations = _check_writer(runtime, "operations", "operations", runtime.operations.state())
    cards, disk = _check_rate_cards(runtime), check_disk(runtime.settings)
    spool, takes_more, is_empty = check_spool(runtime.settings)
    if database.ok and writer.ok:
        mode: Mode = "normal" if migrations.ok and cards.ok and disk.ok else "refusing"
    else:
        mode = "spooling" if runtime.spools and takes_more and cards.ok and disk.ok else "refusing"
    checks = [
        database,
        migrations,
        cards,
        writer,
        operations,
        spool,
        check_settlements(runtime.settings),
        _check_keys(runtime),
        disk,
        *_check_server(runtime),
        *more,
    ]
    return Readiness(mode, not is_empty or not all(check.ok for check in checks), checks)


def schema_revision() -> str:
    """The revision of the database's schema that this release works with; starting brings a database to it."""
    return revisions()[-1]


def check_database(url: str) -> tuple[Check, Check]:
    """Whether the database answers, and whether its schema is the one that this release works with."""
    try:
        server_version, revision = probe(url)
    except TallyError as error:
        return Check("database", False, error.detail), Check("migrations", False, "the database could not be asked")
    needed = schema_revision()
    detail = f"the schema is at {revision}"
    return (
        Check("database", True, f"PostgreSQL {server_version // 10000} answers"),
        Check("migrations", revision == needed, detail if revision == needed else f"{detail}, and {needed} is needed"),
    )


def _check_rate_cards(runtime: Runtime) -> Check:
    versions = runtime.cards.versions
    if not versions:
        return Check("rate_cards", False, "no rate card is loaded")
    return Check("rate_cards", True, f"{len(versions)} versions are loaded")


def _check_writer(runtime: Runtime, name: str, what: str, state: WriterState) -> Check:
    """One of the two writers: of `what`, such as events."""
    age = state.last_commit_age_seconds
    figures = {
        f"queue_{what}": state.queue_events,
        f"queue_{what}_max": state.queue_events_max,
        f"{what}_written": state.events_written,
        "last_commit_age_seconds": None if age is None else round(age, 3),
        "last_error": state.last_error,
    }
    late = runtime.late_start
    if late is not None and late.error is not None:
        detail = f"the database was away when this process began, and is not used yet: {late.error.detail}"
        return Check(name, False, detail, figures)
    if state.down is not None:
        return Check(name, False, f"the database cannot be written to: {state.down}", figures)
    waiting = f"{state.queue_events:,} of at most {state.queue_events_max:,} {what} wait to be written"
    return Check(name, state.queue_events < state.queue_events_max, waiting, figures)


def check_spool(settings: Settings) -> tuple[Check, bool, bool]:
    """The check, whether the spool takes more events, and whether none waits in it."""
    spools, events_max = settings.when_database_away == "spool", settings.spool_events_max
    try:
        with closing(Spool(settings.data_dir, events_max=events_max)) as spool:
            state = spool.state()
    except TallyError as error:
        return Check("spool", False, error.detail), False, True
    figures = {
        "waiting": state.waiting,
        "waiting_max": events_max,
        "oldest": state.oldest,
        "refused": state.refused,
    }
    takes_more = state.waiting + state.refused < events_max
    parts = ["spools events while the database is away" if spools else "events are refused while the database is away"]
    if state.waiting:
        parts.append(f"{state.waiting:,} wait since {state.oldest}")
    if not takes_more:
        parts.append("it is full")
    if state.refused:
        parts.append(f"{state.refused:,} were refused by the ledger: see `tally spool`")
    ok = not state.refused and (takes_more or not spools)
    return Check("spool", ok, "; ".join(parts), figures), takes_more, not state.waiting


def check_settlements(settings: Settings) -> Check:
    """The queue of settlements that are written a moment later; what waits there is no event, and refuses none."""
    try:
        with closing(SettlementFile(settings.data_dir)) as file:
            state = file.state()
    except TallyError as error:
        return Check("settlements", False, error.detail)
    figures = {"waiting": state.waiting, "oldest": state.oldest, "refused": state.refused}
    parts = [f"{state.waiting:,} wait on disk" + (f" since {state.oldest}" if state.oldest else "")]
    if state.refused:
        parts.append(f"{state.refused:,} were refused by the ledger: see `tally settlements`")
    return Check("settlements", not state.refused, "; ".join(parts), figures)


def _check_keys(runtime: Runtime) -> Check:
    """Whether this process is told of changes to keys. While it is not, it asks for each key, and goes on slower."""
    heard = runtime.keys.heard()
    figures = {"remembered": heard.known, "changes": heard.changes, "last_error": heard.error}
    if heard.is_heard:
        return Check("keys", True, f"changes are heard of at once; keys remembered: {heard.known:,}", figures)
    if not heard.listens and heard.error is None:
        return Check("keys", True, "nobody listens to changes yet, and each key is asked of the database", figures)
    if heard.is_away:
        detail = "changes are not heard of while the database is away; keys are taken as they were known last"
    else:
        detail = "changes are not heard of, and each key is asked of the database: requests take longer"
    return Check("keys", False, detail, figures)


def check_disk(settings: Settings) -> Check:
    """Whether the data directory's disk has its reserve, where events need that disk."""
    folder = settings.data_dir
    free = free_bytes(folder)
    # Somebody else's server has a disk of its own; ours, and the spool, need this one.
    needed = RESERVE_BYTES if settings.database_url is None or settings.when_database_away == "spool" else 0
    detail = f"{free // 1_000_000:,} MB are free in {folder}"
    if free < needed:
        detail += f", and {needed // 1_000_000:,} MB are kept in reserve"
    return Check("disk", free >= needed, detail, {"free_bytes": free, "reserve_bytes": needed})


def _check_server(runtime: Runtime) -> list[Check]:
    state = runtime.server_state()
    if state is None:
        return []
    figures = {"restarts": state.restarts}
    if state.error is not None:
        return [Check("embedded_server", False, state.error.detail, figures)]
    detail = "it runs" if state.running else "it is gone, and being started again"
    return [Check("embedded_server", state.running, detail, figures)]
