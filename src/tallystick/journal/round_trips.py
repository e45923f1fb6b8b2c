"""Several statements in one message to the server, and one wait for all of their answers.

A group of a few events is written in about a millisecond; much of it would go into waiting for the server between one
statement and the next, and into planning statements that are the same each time. So they are prepared once in a
session, and sent together in PostgreSQL's simple protocol, in which a COPY may be among them. Parameters are part of
the text there; they are all arrays, and `texts`, `numbers` and `instants` write their literals.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import errors
from psycopg.generators import copy_to, execute
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

from tallystick.journal.database import Connection

_SOUND = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_IN)


def ask(connection: Connection, script: bytes) -> list[PGresult]:
    """Send statements and wait for their results, in order; those behind a COPY wait for its rows (`give_rows`).

    Raises:
        psycopg.Error: the first statement that failed; those behind it were not run.
    """
    connection.pgconn.send_query(script)
    return _results(connection)


def give_rows(connection: Connection, parts: Iterable[bytes]) -> list[PGresult]:
    """Send the rows that a COPY waits for; the results of the COPY and of the statements behind it.

    Args:
        connection: whose last script has come to a COPY.
        parts: of what the COPY reads, each at most some hundred kilobytes; they may be made as they are sent.

    Raises:
        psycopg.Error: as `ask`.
    """
    pgconn = connection.pgconn
    try:
        for part in parts:
            connection.wait(copy_to(pgconn, part, flush=True))
    except BaseException:
        if not connection.closed:
            pgconn.put_copy_end(b"not all of the rows came")
            connection.wait(execute(pgconn))
        raise
    pgconn.put_copy_end(None)
    return _results(connection)


def texts(values: Iterable[str]) -> bytes:
    """A literal of an array of texts, none of which has a NUL."""
    given = list(values)
    joined = '","'.join(given)
    if "\\" in joined or "'" in joined or joined.count('"') > 2 * max(len(given) - 1, 0):
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"').replace("'", "''") for value in given])
    return f"""'{{"{joined}"}}'""".encode() if given else b"'{}'"


def numbers(values: Iterable[int]) -> bytes:
    """A literal of an array of whole numbers."""
    return _array(map(str, values))


def instants(values: Iterable[bytes]) -> bytes:
    """A literal of an array of instants, each as `instant_json` gives it."""
    return b"'{%b}'" % b",".join(values)


def _array(elements: Iterable[str]) -> bytes:
    return f"'{{{','.join(elements)}}}'".encode()


def _results(connection: Connection) -> list[PGresult]:
    results: list[PGresult] = connection.wait(execute(connection.pgconn))
    for result in results:
        if result.status not in _SOUND:
            raise errors.error_from_result(result, encoding="utf-8")
    return results
