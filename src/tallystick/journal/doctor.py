"""What an operator asks of a database server: its settings, its clock, how full it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import psycopg

from tallystick.journal.database import Connection
from tallystick.journal.migrate import unreachable
from tallystick.journal.named_sql import load_queries
from tallystick.journal.roles import session_conninfo

_SQL = load_queries("doctor")


class ServerFigures(NamedTuple):
    """How a server is set up and how full it is.

    Attributes:
        settings: the settings that were asked for, by name; those that this server does not know are missing.
        connections, connections_max: those in use, and those that logins without privileges may have.
        idle_seconds: for how long the longest transaction has been doing nothing.
        bytes: the size of the database.
    """

    settings: Mapping[str, str]
    connections: int
    connections_max: int
    idle_seconds: int
    bytes: int


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection of the configured login, in autocommit.

    Raises:
        Unavailable: `database_unreachable`.
    """
    try:
        with psycopg.connect(session_conninfo(url), autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise unreachable(error) from None


def server_figures(connection: Connection, names: Sequence[str]) -> ServerFigures:
    """The server's settings of these names, and how full it is."""
    settings = dict(connection.execute(_SQL["settings"], {"names": list(names)}).fetchall())
    ((used, most),) = connection.execute(_SQL["connections"]).fetchall()
    ((idle,),) = connection.execute(_SQL["waiting"]).fetchall()
    ((size,),) = connection.execute(_SQL["size"]).fetchall()
    return ServerFigures(settings, int(used), int(most), int(idle), int(size))


def server_clock(connection: Connection) -> datetime:
    """The server's clock, right now."""
    ((now,),) = connection.execute(_SQL["clock"]).fetchall()
    if not isinstance(now, datetime):
        raise TypeError("clock_timestamp() gives an instant")
    return now
