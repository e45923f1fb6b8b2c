"""Whether the database still keeps tenants apart and history unchanged: asked at every start, before anything else.

The migrations set it up; an administrator's change, a restored dump or a server with other defaults may undo it.
What is checked is what the database says of itself, and then what a tenant's session really sees.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from tallystick.core.errors import Unavailable
from tallystick.journal.database import Connection, Database
from tallystick.journal.migrate import unreachable
from tallystick.journal.named_sql import load_queries
from tallystick.journal.roles import ALL_LOGINS, APP, KEEPER, LOGINS, WRITER

_ROLLUPS = ("reopened_days", "rollup_meters", "rollup_operations", "rollup_requests", "rollup_states")
PASSING = ("counters", "finished_work", "open_alerts", "open_holds", *_ROLLUPS)
"""Tables that only remember what the ledger's entries come to, whose rows may go; `tally verify` compares them."""
MOVING = (
    "account_balances", "alert_marks", "counters", "disputes", "finished_work", "grants", "invoice_accounts",
    "invoice_credit_lots", "number_series", "open_alerts", "org_heads", "org_states", "promo_counts",
    "webhook_deliveries", "webhook_endpoints", *_ROLLUPS,
)  # fmt: skip
"""The tables whose rows are updated, by the writer; everything else is append-only."""
REMOVED_BY_WRITER = ("counters", "open_alerts", "open_holds", *_ROLLUPS)

_POLICY = "(org_id = NULLIF(current_setting('tallystick.org'::text, true), ''::text))"
_ISOLATION = ("powers", "memberships", "owned", "unwalled", "views", "functions", "schema")
_HISTORY = ("rights", "guards")
_SQL = load_queries("self_test")
_LOOK = sql.SQL("select from {} limit 1")

_Fault = tuple[str, str]  # what is wrong, naming role and table; the statement that mends it


def check_walls(database: Database) -> None:
    """Refuse a database in which a tenant could see another's rows, or anybody could change what was recorded.

    Raises:
        Unavailable: `tenant_isolation_broken` or `append_only_broken`, naming each role and table and the statements
            that mend it; `rights_missing`, likewise; `database_unreachable`.
    """
    with database.operator() as connection:
        isolation = _faults(connection, _ISOLATION)
        history = _faults(connection, _HISTORY)
        missing = _faults(connection, ("missing_rights",))
    if not isolation and not missing:
        isolation = _seen_without_org(database)
    if isolation:
        raise _broken("tenant_isolation_broken", "tenants are not kept apart in this database", isolation)
    if history:
        raise _broken("append_only_broken", "what was recorded could be changed in this database", history)
    if missing:
        raise _broken("rights_missing", "the roles of this database lack rights, as after a restore", missing)


def _faults(connection: Connection, queries: tuple[str, ...]) -> list[_Fault]:
    values = {"app": APP, "writer": WRITER, "keeper": KEEPER, "roles": list(ALL_LOGINS), "readers": list(LOGINS)}
    values |= {"moving": list(MOVING), "passing": list(PASSING), "removed": list(REMOVED_BY_WRITER), "policy": _POLICY}
    with connection.pipeline():
        found = [connection.execute(_SQL[query], values) for query in queries]
    return [fault for one in found for fault in one]


def _seen_without_org(database: Database) -> list[_Fault]:
    """Look with a tenant's own session, on a connection that has never named an org."""
    faults = []
    try:
        with database.connect(APP) as connection:
            user = connection.execute("select current_user").fetchall()[0][0]
            if user != APP:
                return [(f"sessions for tenants work as role {user}", f"grant {APP} to the configured login")]
            tables = connection.execute(_SQL["tables_of_orgs"]).fetchall()
            walled = [table for table, active in tables if active]
            with connection.pipeline():
                looks = [connection.execute(_LOOK.format(sql.SQL(table))) for table in walled]
            for table, active in tables:
                if not active:
                    said = f"row-level security does not apply to role {APP} on table {table}"
                    faults.append((said, f"see {table}'s owner"))
            for table, seen in zip(walled, looks, strict=True):
                if seen.rowcount:
                    said = f"role {APP} sees rows of table {table} without naming an org"
                    faults.append((said, f"see {table}'s policies"))
    except psycopg.OperationalError as error:
        raise unreachable(error) from error
    return faults


def _broken(code: str, detail: str, faults: list[_Fault]) -> Unavailable:
    return Unavailable(
        code,
        f"{detail}: " + "; ".join(said for said, _ in faults),
        next_step="let the owner of the tables, or an administrator of the server, run this, then start again: "
        + "; ".join(dict.fromkeys(mended for _, mended in faults)),
    )
