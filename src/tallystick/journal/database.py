"""The pool of connections to the database, and what a lost connection means to a caller."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from tallystick.journal.migrate import unreachable

Connection = psycopg.Connection[Any]

# jit: compiling a batch probe costs more than running it. plan_cache_mode: a generic plan made while the
# tables were small scans them whole later. The rest is what reading and writing here depend on, whatever the server,
# the database or the role have been set to.
_OPTIONS = (
    "-c jit=off -c timezone=UTC -c synchronous_commit=on -c plan_cache_mode=force_custom_plan -c datestyle=ISO"
    r" -c default_transaction_isolation=read\ committed"
)


class Database:
    """A pool of connections; each `connection()` block is one transaction at READ COMMITTED."""

    def __init__(self, url: str, *, connections_max: int = 12) -> None:
        self.url = url
        given = psycopg.conninfo.conninfo_to_dict(url).get("options") or ""
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            url,
            kwargs={
                "options": f"{given} {_OPTIONS}".strip(),
                "client_encoding": "utf8",  # COPY sends bytes as they are, whatever PGCLIENTENCODING says
                "prepare_threshold": None,
            },
            min_size=1,
            max_size=connections_max,
            timeout=30,
            check=ConnectionPool.check_connection,
            name="tallystick",
            open=False,
        )

    def open(self) -> None:
        """Connect.

        Raises:
            Unavailable: `database_unreachable`.
        """
        with _lost_connections_named():
            self._pool.open(wait=True)

    def close(self) -> None:
        self._pool.close()

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            Unavailable: `database_unreachable`, when the connection is lost or none can be had. Whether a
                commit that was under way arrived is unknown then; writes here are safe to send again.
        """
        with _lost_connections_named(), self._pool.connection() as connection:
            yield connection


@contextmanager
def _lost_connections_named() -> Iterator[None]:
    try:
        yield
    except (PoolTimeout, PoolClosed, psycopg.InterfaceError) as error:
        raise unreachable(error) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:  # it has become a standby
        raise unreachable(error) from error
    except psycopg.OperationalError as error:
        if isinstance(error, psycopg.errors.TransactionRollback):  # deadlock, serialization: the caller retries
            raise
        raise unreachable(error) from error
