"""Transactions in the three roles that work with the database, and what a lost connection means to a caller."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
from psycopg import sql

from tallystick.core.errors import BadInput
from tallystick.journal.arrow_reading import ArrowReading
from tallystick.journal.migrate import storage_full, unreachable
from tallystick.journal.patience import PatientConnection
from tallystick.journal.pool import Connection, Pool
from tallystick.journal.roles import APP, LOGINS, OPERATOR, WRITER, session_conninfo

__all__ = ["Connection", "Database"]

# How many connections each role has at most, in one process. The writer's are for what is written apart from the
# group writer, which keeps one of its own.
_CONNECTIONS_MAX = {APP: 12, OPERATOR: 8, WRITER: 2}

# Statements are prepared where they say so: `prepare=True`.
_ONLY_WHEN_ASKED = sys.maxsize

# What a transaction begins with, whatever the one before left in the session.
_FRESH = "reset session authorization; reset role; reset all"

# A plan that may not scan a whole table is right however large the table becomes.
_PLANS_KEPT = "; set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off"


class Database:
    """Connections to one database; each `org()`, `operator()` or `writer()` block is one transaction.

    Transactions are at READ COMMITTED. The first statement in a block may still be `set transaction …`.
    """

    def __init__(self, url: str, *, role_logins: bool = False, withheld: bool = False) -> None:
        """Nothing is connected yet.

        Args:
            url: of the database, with a login that is a member of the three roles.
            role_logins: connect as the roles themselves; the embedded server lets us.
            withheld: connect to nothing until this attribute is false: nobody has looked the database over yet.
        """
        self.url = url
        self.withheld = withheld
        self._is_closed = False
        self.role_logins = role_logins
        self._pools = {
            role: Pool(partial(self.connect, role), connections_max=_CONNECTIONS_MAX[role]) for role in LOGINS
        }
        self.arrow = ArrowReading(self.conninfo(OPERATOR))
        """What reads many rows at once, as the operator."""

    def conninfo(self, role: str) -> str:
        """How another library connects as that role, as libpq takes it."""
        return session_conninfo(self.url, role, role_logins=self.role_logins)

    def close(self) -> None:
        """Close every connection; blocks that are under way end first. None is made after that."""
        self._is_closed = True
        for pool in self._pools.values():
            pool.close()
        self.arrow.close()

    @contextmanager
    def org(self, org_id: str, *, plans_kept: bool = False) -> Iterator[Connection]:
        """One transaction for one org: of every table with an `org_id` it sees that org's rows, and may add no others.

        Args:
            org_id: whose rows.
            plans_kept: queries that are executed with `prepare=True` are planned once in a session, for any values;
                else each time, for its own. They must ask by keys. For who does the same for one org after the other.

        Raises:
            BadInput: `invalid_text`, when no org can be called so.
            Unavailable: as `operator()`.
        """
        check_org_id(org_id)
        # Local to the transaction: it is gone with it, and the next one sets its own.
        chosen = sql.SQL("; set local tallystick.org = {}").format(sql.Literal(org_id)).as_string(None)
        opening = _FRESH + chosen + (_PLANS_KEPT if plans_kept else "")
        with _lost_connections_named(), self._pools[APP].transaction(opening) as connection:
            yield connection

    @contextmanager
    def operator(self) -> Iterator[Connection]:
        """One transaction that sees all orgs, and may add what belongs to none.

        It is committed in the end, or rolled back when the block raises.

        Raises:
            Unavailable: `database_unreachable`, when the connection is lost or none can be had within about 3 seconds;
                `database_busy`, when all stay at work; `storage_full`. Whether a commit that was under way arrived is
                unknown then; writes here are safe to send again.
        """
        with _lost_connections_named(), self._pools[OPERATOR].transaction(_FRESH) as connection:
            yield connection

    @contextmanager
    def writer(self) -> Iterator[Connection]:
        """One transaction that adds entries for any org, as `operator()`."""
        with _lost_connections_named(), self._pools[WRITER].transaction(_FRESH) as connection:
            yield connection

    def connect_writer(self) -> Connection:
        """A connection of the writer's that the caller keeps and closes; not in autocommit, and patient (see there).

        Raises:
            psycopg.OperationalError: it cannot be had within about 3 seconds.
        """
        return self.connect(WRITER)

    def connect(self, role: str) -> Connection:
        """A connection in one of the roles, as `connect_writer()`."""
        if self._is_closed:
            raise psycopg.OperationalError("it is closed")
        if self.withheld:
            raise psycopg.OperationalError("it was away when this process began, and is not looked over yet")
        # What the writer does takes moments, and it prepares by itself; what the others read may take long.
        if role == WRITER:
            return PatientConnection.connect(self.conninfo(role), prepare_threshold=None)
        return psycopg.Connection.connect(self.conninfo(role), prepare_threshold=_ONLY_WHEN_ASKED)


def check_org_id(org_id: str) -> None:
    """Refuse what the database cannot hold as an org's id.

    Raises:
        BadInput: `invalid_text`.
    """
    if not org_id or "\0" in org_id or not _is_unicode(org_id):
        raise BadInput(
            "invalid_text", "no org can be called so", next_step="check the id for stray characters", where="org_id"
        )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


@contextmanager
def _lost_connections_named() -> Iterator[None]:
    try:
        yield
    except psycopg.InterfaceError as error:
        raise unreachable(error) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:  # it has become a standby
        raise unreachable(error) from error
    except psycopg.errors.DiskFull as error:
        raise storage_full(error) from error
    except psycopg.OperationalError as error:
        if isinstance(error, psycopg.errors.TransactionRollback):  # deadlock, serialization: the caller retries
            raise
        raise unreachable(error) from error
