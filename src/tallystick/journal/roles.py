"""The server's roles: how they are made, and how a session becomes one. What each may do is granted in the migrations.

Roles belong to a PostgreSQL server, not to one of its databases: the same ones serve all of them.
"""

from __future__ import annotations

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tallystick.core.errors import Unavailable

APP = "tallystick_app"
"""Acts for one org at a time; row-level security shows it nothing of any other."""
WRITER = "tallystick_writer"
"""Adds entries for many orgs in one transaction, moves heads and balances; changes nothing else."""
OPERATOR = "tallystick_operator"
"""Reads across orgs, and adds what belongs to none."""
KEEPER = "tallystick_keeper"
"""Nobody's login: it owns the functions that erase persons and forget sealed entries."""

JOBS = "tallystick_jobs"
"""Works with the queue of jobs, in a schema of its own, and sees nothing else."""

LOGINS = (APP, WRITER, OPERATOR)
"""The roles that sessions work as on what is recorded."""
ALL_LOGINS = (*LOGINS, JOBS)
"""Those and the queue's."""

_ATTEMPTS = 10
_POWERLESS = "nosuperuser nocreatedb nocreaterole noreplication"
_BYPASSING = {APP: "nobypassrls", WRITER: "bypassrls", OPERATOR: "bypassrls", JOBS: "nobypassrls", KEEPER: "bypassrls"}

# jit: compiling a batch probe costs more than running it. plan_cache_mode: a generic plan made while the
# tables were small scans them whole later. search_path: nobody's schema or temporary table stands in for ours.
# The rest is what reading and writing here depend on, whatever the server, the database or the role have been set to.
_SETTINGS = {
    "jit": "off",
    "timezone": "UTC",
    "synchronous_commit": "on",
    "plan_cache_mode": "force_custom_plan",
    "datestyle": "ISO",
    "default_transaction_isolation": r"read\ committed",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "search_path": "public,pg_temp",
    # The server notices, too, when the machine of a client is gone: its locks are nobody's then.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
# idle_in_transaction_session_timeout: a writer that was frozen in the middle holds the heads of its orgs, for which all
# other writers wait. The rest: it asks by keys, a few rows at a time and the same statements again and again; planning
# them each time took a sixth of what a small group costs the server. A plan that may neither scan nor hash a whole
# table is right however large the tables become. No row is looked up twice: to remember them is in vain.
_WRITER_SETTINGS = {
    "idle_in_transaction_session_timeout": "10s",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_memoize": "off",
}

_SETTINGS_OF = {WRITER: _WRITER_SETTINGS, JOBS: {"search_path": "tallystick_jobs,pg_temp"}}

# How long a server that does not answer is waited for, in seconds (in milliseconds where the name does not say so).
_PATIENCE = {
    "connect_timeout": "3",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "3000",
}


def session_conninfo(url: str, role: str | None = None, *, role_logins: bool = False) -> str:
    """Where and how a session of that role connects, as libpq takes it.

    Args:
        url: of the database, with the login that was configured.
        role: one of `ALL_LOGINS`; None for the login itself.
        role_logins: log in as the role, as the embedded server lets us; otherwise the login becomes the role as it
            connects, for which it must be a member of it.
    """
    given = conninfo_to_dict(url)
    settings = {**_SETTINGS, **_SETTINGS_OF.get(role or "", {})}
    if role is not None and not role_logins:
        settings["role"] = role
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    wanted = {**_PATIENCE, **given}
    wanted["options"] = f"{given.get('options') or ''} {options}".strip()
    wanted["client_encoding"] = "utf8"  # COPY sends bytes as they are, whatever PGCLIENTENCODING says
    if role is not None and role_logins:
        wanted["user"] = role
        wanted.pop("password", None)  # it is the configured login's
    return make_conninfo("", **wanted)


def ensure_roles(connection: psycopg.Connection[tuple[object, ...]], *, may_log_in: bool, will_migrate: bool) -> None:
    """Make the roles that the server lacks, and the connection's own role a member of them; in autocommit.

    Args:
        connection: of the login that is to become those roles.
        may_log_in: whether sessions log in as the roles themselves.
        will_migrate: whether functions are about to be given to the keeper, for which one must be a member of it.

    Raises:
        Unavailable: `roles_missing`, when the connection's role has no right to; the next step is the SQL to run.
    """
    for attempt in range(_ATTEMPTS):
        statements = _missing(connection, may_log_in=may_log_in, will_migrate=will_migrate)
        try:
            for statement in statements:
                connection.execute(statement.encode())
        except psycopg.errors.InsufficientPrivilege as error:
            raise Unavailable(
                "roles_missing",
                "the login that was configured may not make the roles that keep tenants apart, or may not become them: "
                f"{' '.join(str(error).split())}",
                next_step="let an administrator of the server run this, then start again: " + "; ".join(statements),
            ) from None
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation, psycopg.errors.InternalError):
            # Another database of this server is being migrated at the same moment.
            if attempt + 1 == _ATTEMPTS:
                raise
        else:
            return


def _missing(connection: psycopg.Connection[tuple[object, ...]], *, may_log_in: bool, will_migrate: bool) -> list[str]:
    """The statements that are needed before the connection's role can work as the roles."""
    # Up to 15 a member may become the role; since then that is a right of its own, which its maker does not have.
    membership = "set" if connection.info.server_version >= 16_00_00 else "member"
    found = connection.execute(
        "select rolname, rolcanlogin, pg_has_role(current_user, oid, %s) from pg_roles where rolname = any(%s)",
        [membership, list(_BYPASSING)],
    ).fetchall()
    can_log_in = {name: can for name, can, _ in found}
    row = connection.execute("select quote_ident(current_user)").fetchone()
    login = row[0] if row else ""
    statements = []
    for role, bypassing in _BYPASSING.items():
        wants_login = may_log_in and role in ALL_LOGINS
        if role not in can_log_in:
            statements.append(f"create role {role} {_POWERLESS} {'login' if wants_login else 'nologin'} {bypassing}")
        elif wants_login and not can_log_in[role]:
            statements.append(f"alter role {role} login")
    members = {name for name, _, member in found if member}
    needed = (() if may_log_in else ALL_LOGINS) + ((KEEPER,) if will_migrate else ())
    statements += [f"grant {role} to {login}" for role in needed if role not in members]
    return statements
