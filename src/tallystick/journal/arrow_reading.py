"""Rows read as Arrow batches, by the driver that fetches them with COPY."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tallystick.journal.migrate import unreachable

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager import AdbcDatabase


class ArrowReading:
    """One database as the driver knows it. Before its first query it learns every type of the database, which takes
    longer than most queries: that is done once, not for each connection.
    """

    def __init__(self, conninfo: str) -> None:
        """Nothing is connected yet."""
        self._conninfo = conninfo
        self._lock = threading.Lock()
        self._known: AdbcDatabase | None = None
        self._readers = 0
        self._is_closed = False

    @contextmanager
    def read(self, query: str, *, batch_bytes: int) -> Iterator[pa.RecordBatchReader]:
        """What a query answers, in batches of about so many bytes, in one snapshot and a connection of its own.

        Raises:
            Unavailable: `database_unreachable`.
        """
        import adbc_driver_manager as adbc
        import pyarrow as pa
        from adbc_driver_postgresql import StatementOptions

        hint = {StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(batch_bytes)}
        try:
            with (
                self._database() as database,
                adbc.AdbcConnection(database) as connection,
                adbc.AdbcStatement(connection) as statement,
            ):
                statement.set_options(**hint)
                statement.set_sql_query(query)
                stream, _ = statement.execute_query()
                with pa.RecordBatchReader._import_from_c(stream.address) as reader:
                    yield reader
        except adbc.Error as error:
            raise unreachable(error) from error

    def close(self) -> None:
        """Let go of what is known, as soon as nobody reads."""
        with self._lock:
            self._is_closed = True
            self._forget()

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
        if self._known is not None and not self._readers:
            self._known.close()
            self._known = None
