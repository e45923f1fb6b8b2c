"""Asking the database whether it answers, quickly, on a connection of its own."""

from __future__ import annotations

import psycopg

from tallystick.journal.migrate import current_revision, unreachable
from tallystick.journal.roles import session_conninfo


def probe(url: str) -> tuple[int, str | None]:
    """The server's version number (180001 for 18.1) and the schema's revision.

    The pool is left out of it: a pool that waits for a free connection says nothing about the server.

    Raises:
        Unavailable: `database_unreachable` or `database_is_newer`.
    """
    try:
        with psycopg.connect(session_conninfo(url)) as connection:
            return connection.info.server_version, current_revision(connection)
    except psycopg.Error as error:
        raise unreachable(error) from None
