"""Bring a database's schema to the one this installation needs, once, however many processes try."""

from __future__ import annotations

from importlib.resources import as_file, files

import psycopg

from tallystick.core.errors import Unavailable
from tallystick.journal.migrations import revisions
from tallystick.journal.roles import ensure_roles, session_conninfo

_LOCK_KEY = 0x7A11_5713  # any fixed number; advisory locks are counted within one database
_SERVER_VERSION_MIN = 15_00_00


def migrate(url: str, *, role_logins: bool = False, revision: str | None = None, restoring: bool = False) -> None:
    """Run the migrations that are missing, under an advisory lock; quick when there are none. Roles are made first.

    Args:
        url: of the database, with the login that will own its tables.
        role_logins: whether the roles may log in themselves.
        revision: how far to go; None: to the newest.
        restoring: whether the caller is who fills the database from a backup, and may work on what is not whole yet.

    Raises:
        Unavailable: `database_unreachable`, `database_too_old` (PostgreSQL below 15), `database_encoding` (not UTF-8),
            `database_is_newer` (a later release of Tallystick has migrated it), `roles_missing` (with what an
            administrator must run), `restore_unfinished` (a restore into it did not end) or `migration_failed`.
    """
    wanted = revision or revisions()[-1]
    try:
        with psycopg.connect(session_conninfo(url), autocommit=True) as connection:
            if connection.info.server_version < _SERVER_VERSION_MIN:
                raise Unavailable(
                    "database_too_old",
                    f"the server is PostgreSQL {connection.info.server_version // 10000}",
                    next_step="use PostgreSQL 15 or newer",
                )
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise Unavailable(
                    "database_encoding",
                    f"the database's encoding is {encoding}, which cannot hold every text",
                    next_step="create one for Tallystick with: create database NAME encoding 'UTF8' template template0",
                )
            if not restoring and _is_being_restored(connection):
                raise restore_unfinished("the database")
            # A login that owns nothing reads even the revision by right of those roles.
            ensure_roles(connection, may_log_in=role_logins, will_migrate=not _has_revision(connection))
            if current_revision(connection) == wanted:
                return
            ensure_roles(connection, may_log_in=role_logins, will_migrate=True)
            connection.execute("select pg_advisory_lock(%s)", [_LOCK_KEY])
            _upgrade(connection, wanted)
    except psycopg.OperationalError as error:
        raise unreachable(error) from None
    except psycopg.Error as error:
        raise Unavailable(
            "migration_failed",
            f"the schema could not be brought up to date: {' '.join(str(error).split())}",
            next_step="give the role the right to create tables in this database, then start again",
        ) from error


def unreachable(error: Exception) -> Unavailable:
    """The error for a database that cannot be connected to or has gone away."""
    return Unavailable(
        "database_unreachable",
        f"the database cannot be reached: {' '.join(str(error).split())}",
        next_step="check DATABASE_URL and that the server runs, then send the same again: nothing is counted twice",
    )


def restore_unfinished(place: str) -> Unavailable:
    """The error for a place that a restore has begun to fill and has not finished."""
    return Unavailable(
        "restore_unfinished",
        f"a restore into {place} was begun and has not ended; what is there is not whole",
        next_step="wait for the restore if it still runs; else remove the place (delete the data directory, drop the "
        "database) and restore the backup again into an empty one",
    )


def storage_full(error: Exception) -> Unavailable:
    """The error for a database that has no space left; it takes up again by itself when there is some."""
    return Unavailable(
        "storage_full",
        f"the database has no space left: {' '.join(str(error).split())}",
        next_step="make space on the disk of the database, then send the same again: nothing is counted twice",
        retry_after_seconds=10,
    )


def current_revision(connection: psycopg.Connection[tuple[object, ...]]) -> str | None:
    """The revision that the database is at, None before the first migration.

    Raises:
        Unavailable: `database_is_newer`.
    """
    if not _has_revision(connection):
        return None
    row = connection.execute("select version_num from alembic_version").fetchone()
    if row is not None and row[0] not in revisions():
        raise Unavailable(
            "database_is_newer",
            f"the database is at schema {row[0]}, which this release does not know",
            next_step="use the release of Tallystick that migrated it, or a newer one",
        )
    return None if row is None else str(row[0])


def _has_revision(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return connection.execute("select to_regclass('alembic_version')").fetchone() != (None,)


def _is_being_restored(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    return connection.execute("select to_regnamespace('tallystick_restore')").fetchone() != (None,)


def _upgrade(connection: psycopg.Connection[tuple[object, ...]], revision: str) -> None:
    # Alembic and SQLAlchemy take half a second to import: only a database that needs them pays for it.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import StaticPool

    connection.autocommit = False  # Alembic begins and commits each migration itself
    engine = create_engine("postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool)
    with as_file(files("tallystick.journal") / "migrations") as folder, engine.connect() as alembic_connection:
        config = Config(attributes={"connection": alembic_connection})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            command.upgrade(config, revision)
            alembic_connection.commit()
        except DBAPIError as error:
            # The database's own words, without SQLAlchemy's around them.
            raise error.orig if isinstance(error.orig, psycopg.Error) else error from None
