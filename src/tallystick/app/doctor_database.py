"""What `tally doctor` asks of the database server: that it answers, its schema, settings, clock and walls."""

from __future__ import annotations

from contextlib import ExitStack, closing
from datetime import timedelta

from tallystick.app.doctor import Examination, Finding, from_check
from tallystick.app.health import check_database
from tallystick.app.rates_store import stored_cards
from tallystick.app.restore_mark import refuse_unfinished
from tallystick.app.runtime import Runtime, assemble, checked_url
from tallystick.app.settings import Settings
from tallystick.core.instants import Clock
from tallystick.journal.backup_load import refuse_claimed
from tallystick.journal.database import Database
from tallystick.journal.doctor import connected, server_clock, server_figures
from tallystick.journal.self_test import check_walls
from tallystick.journal.server import EmbeddedServer

SKEW_WARN = timedelta(seconds=1)
SKEW_FAIL = timedelta(seconds=30)
"""How far the clocks of this machine and of the database's may be apart."""
_CONNECTIONS_LEFT = 0.2
_IDLE_SECONDS_MAX = 600
_WANTED = {
    "fsync": ("on", "fail", "what was acknowledged is lost when the machine loses power"),
    "full_page_writes": ("on", "fail", "a page that was half-written when power failed cannot be mended"),
    "data_checksums": ("on", "warn", "the server does not notice when its disk returns other bytes than were written"),
    "autovacuum": ("on", "fail", "old versions of rows are never removed, and the database fills up"),
    "track_counts": ("on", "warn", "autovacuum does not know where to work"),
}


def examine(found: Examination, settings: Settings, clock: Clock, stack: ExitStack) -> str | None:
    """Make the checks that need no schema; the database's URL when its schema is ours and up to date, else None."""
    if found.findings and any(one.name == "restore" and one.level == "fail" for one in found.findings):
        found.not_checked.append("database")
        return None
    if settings.database_url is None and not (settings.data_dir / "postgres" / "PG_VERSION").exists():
        step = "start `tally serve`, which makes it; or set TALLY_DATA_DIR or DATABASE_URL as that has them"
        found.look("database", lambda: Finding("database", "fail", f"{settings.data_dir} holds no database", step))
        return None
    url: list[str] = []

    def connect() -> list[Finding]:
        refuse_unfinished(settings.data_dir)
        if settings.database_url is None:
            url.append(stack.enter_context(EmbeddedServer(settings.data_dir)))
        else:
            url.append(checked_url(settings.database_url))
        database, migrations = check_database(url[0])
        if not database.ok:
            return [from_check(database, "check DATABASE_URL, and that the server runs")]
        refuse_claimed(url[0])
        step = "start `tally serve`, which brings the schema up to date; take a backup first"
        return [from_check(database, ""), from_check(migrations, step)]

    if not found.look("database", connect):
        return None
    found.look("server", lambda: _server(url[0]))
    found.look("clock", lambda: _clock(url[0], clock))
    return url[0]


def open_as_it_is(found: Examination, settings: Settings, clock: Clock, url: str, stack: ExitStack) -> Runtime | None:
    """A runtime on a database whose schema is up to date, for the checks of the ledger; None where none would start."""
    logins = settings.database_url is None or settings.database_role_logins
    database = stack.enter_context(closing(Database(url, role_logins=logins)))
    opened: list[Runtime] = []

    def walls() -> Finding:
        check_walls(database)
        runtime = assemble(settings, database, clock, stored_cards(database))
        stack.callback(runtime.close)
        opened.append(runtime)
        said = "tenants see their own rows alone, and nothing that was recorded can be changed"
        return Finding("walls", "ok", said)

    found.look("walls", walls)
    return opened[0] if opened else None


def _server(url: str) -> list[Finding]:
    with connected(url) as connection:
        figures = server_figures(connection, list(_WANTED))
    findings = [
        Finding("server", "fail" if level == "fail" else "warn", f"{name} is {figures.settings[name]}: {why}",
                f"set {name} = {wanted} on the server")
        for name, (wanted, level, why) in _WANTED.items()
        if figures.settings.get(name, wanted) != wanted
    ]  # fmt: skip
    left = figures.connections_max - figures.connections
    measured: dict[str, int | float | str | None] = {
        "connections": figures.connections,
        "connections_max": figures.connections_max,
        "idle_in_transaction_seconds": figures.idle_seconds,
        "bytes": figures.bytes,
    }
    if left < figures.connections_max * _CONNECTIONS_LEFT:
        said = f"{figures.connections} of {figures.connections_max} connections are in use"
        findings.append(Finding("server", "warn", said, "raise max_connections, or end who holds them", measured))
    if figures.idle_seconds > _IDLE_SECONDS_MAX:
        said = f"a transaction has been doing nothing for {figures.idle_seconds:,} s, and keeps old rows from going"
        findings.append(Finding("server", "warn", said, "find it in pg_stat_activity, and end it", measured))
    if findings:
        return findings
    said = f"its settings keep what is written; {figures.bytes // 1_000_000:,} MB, {figures.connections} connections"
    return [Finding("server", "ok", said, figures=measured)]


def _clock(url: str, clock: Clock) -> Finding:
    with connected(url) as connection:
        before = clock()
        theirs = server_clock(connection)
        after = clock()
    # Between the two: only what lies outside them is a difference for certain.
    skew = max(before - theirs, theirs - after, timedelta(0))
    figures = {"skew_seconds": round(skew.total_seconds(), 3)}
    if skew <= SKEW_WARN:
        return Finding("clock", "ok", "this machine and the database's agree on the time", figures=figures)
    said = f"the clocks of this machine and of the database's are {skew.total_seconds():.1f} s apart"
    step = "set both by NTP: holds, keys and months begin and end by this machine's clock"
    return Finding("clock", "fail" if skew > SKEW_FAIL else "warn", said, step, figures)
