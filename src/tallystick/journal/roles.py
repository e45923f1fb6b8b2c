"""The database's roles: who may do what is granted in the migrations; here is how a session becomes one of them."""

from __future__ import annotations

from psycopg.conninfo import conninfo_to_dict, make_conninfo

APP = "tallystick_app"
"""Acts for one org at a time; row-level security shows it nothing of any other."""
WRITER = "tallystick_writer"
"""Adds entries for many orgs in one transaction, moves heads and balances; changes nothing else."""
OPERATOR = "tallystick_operator"
"""Reads across orgs, and adds what belongs to none."""
KEEPER = "tallystick_keeper"
"""Nobody's login: it owns the functions that erase persons and forget sealed entries."""

LOGINS = (APP, WRITER, OPERATOR)
"""The roles that sessions work as."""

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
}

# How long a server that does not answer is waited for, in seconds (in milliseconds where the name does not say so).
_PATIENCE = {
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}


def session_conninfo(url: str, role: str | None = None, *, direct_login: bool = False) -> str:
    """Where and how a session of that role connects, as libpq takes it.

    Args:
        url: of the database, with the login that was configured.
        role: one of `LOGINS`; None for the login itself.
        direct_login: log in as the role, as the embedded server lets us; otherwise the login becomes the role as it
            connects, for which it must be a member of it.
    """
    given = conninfo_to_dict(url)
    settings = dict(_SETTINGS)
    if role is not None and not direct_login:
        settings["role"] = role
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    changed = {
        # COPY sends bytes as they are, whatever PGCLIENTENCODING says
        "client_encoding": "utf8",
        "options": f"{given.get('options') or ''} {options}".strip(),
        **{name: value for name, value in _PATIENCE.items() if name not in given},
    }
    if role is not None and direct_login:
        changed["user"] = role
    return make_conninfo(url, **changed)
