"""Rows read as Arrow batches, by the driver that fetches them with COPY."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from tallystick.journal.migrate import unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager import AdbcConnection, AdbcDatabase, AdbcStatement, ArrowArrayStreamHandle


class ArrowReading:
    """One database as the driver knows it. Before its first query it learns every type of the database, which takes
    longer than most queries: that is done once, not for each connection. One connection is kept for the next query:
    who verifies asks many, one after the other.
    """

    def __init__(self, conninfo: str) -> None:
        """Nothing is connected yet."""
        self._conninfo = conninfo
        self._lock = threading.Lock()
        self._known: AdbcDatabase | None = None
        self._readers = 0
        self._idle: AdbcConnection | None = None
        self._is_closed = False

    @contextmanager
    def read(self, query: str, *, batch_bytes: int) -> Iterator[pa.RecordBatchReader]:
        """What a query answers, in batches of about so many bytes, in one snapshot. Nobody else uses its connection.

        Raises:
            Unavailable: `database_unreachable`, when it cannot be asked, or the connection is lost, or the query fails,
                while batches are read.
        """
        import adbc_driver_manager as adbc
        import pyarrow as pa
        from adbc_driver_postgresql import StatementOptions

        hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(batch_bytes)}
        try:
            with self._database() as database, ExitStack() as held:
                connection, statement, stream = self._ask(database, query, hint)
                held.callback(connection.close)
                with statement, pa.RecordBatchReader._import_from_c(stream.address) as reader:
                    yield pa.RecordBatchReader.from_batches(reader.schema, _each(reader))
                if self._keep(connection):
                    held.pop_all()
        except adbc.Error as error:
            raise unreachable(error) from error

    def close(self) -> None:
        """Let go of what is known, as soon as nobody reads."""
        with self._lock:
            self._is_closed = True
            self._forget()

    def _ask(
        self, database: AdbcDatabase, query: str, options: dict[str, str]
    ) -> tuple[AdbcConnection, AdbcStatement, ArrowArrayStreamHandle]:
        """What the query answers, from the connection that is kept, or from a new one where that does not live."""
        import adbc_driver_manager as adbc

        with self._lock:
            kept, self._idle = self._idle, None
        if kept is not None:
            with suppress(adbc.Error):  # the server went away meanwhile; perhaps it is back
                return _execute(kept, query, options)
        return _execute(adbc.AdbcConnection(database), query, options)

    def _keep(self, connection: AdbcConnection) -> bool:
        with self._lock:
            if self._is_closed or self._idle is not None:
                return False
            self._idle = connection
            return True

    @contextmanager
    def _database(self) -> Iterator[AdbcDatabase]:
        import adbc_driver_postgresql as postgresql

        with self._lock:
            if self._known is None:
                self._known = postgresql.connect(self._conninfo)
            database = self._known
            self._readers += 1
        try:
            yield database
        finally:
            with self._lock:
                self._readers -= 1
                if self._is_closed:
                    self._forget()

    def _forget(self) -> None:
        if self._idle is not None:
            self._idle.close()
            self._idle = None
        if self._known is not None and not self._readers:
            self._known.close()
            self._known = None


def _each(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Its batches. The driver says of a lost connection what is said of files, too, so that it is told apart here."""
    import pyarrow as pa

    try:
        yield from reader
    except (OSError, pa.ArrowException) as error:
        raise unreachable(error) from error


def _execute(
    connection: AdbcConnection, query: str, options: dict[str, str]
) -> tuple[AdbcConnection, AdbcStatement, ArrowArrayStreamHandle]:
    """What the query answers. The connection is closed when it answers nothing."""
    import adbc_driver_manager as adbc

    with ExitStack() as held:
        held.callback(connection.close)
        statement = held.enter_context(adbc.AdbcStatement(connection))
        statement.set_options(**options)
        statement.set_sql_query(query)
        stream, _ = statement.execute_query()
        held.pop_all()
    return connection, statement, stream
