"""Schema migrations: each is a file of plain SQL with a note at its head, and a revision that names it."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Any

from tallystick.core.errors import Unavailable

QUEUE_SCHEMA_SHA256 = "c70ec4b400a60ad9592787653aae5ae77ae41bf801d56b5bd2712751a07f2009"
"""Of the file `sql/schema.sql` of procrastinate 3.10."""


def revisions() -> list[str]:
    """The revisions this installation knows, oldest first: the numbers that the SQL files begin with."""
    return sorted(path.name.split("_")[0] for path in files(__name__).iterdir() if path.name.endswith(".sql"))


def schema_sha256() -> str:
    """The SHA-256 of all SQL files in order, and of the queue's schema, in hex: what the schema is made of."""
    found = sorted((path.name, path.read_bytes()) for path in files(__name__).iterdir() if path.name.endswith(".sql"))
    return sha256(b"".join(text for _, text in found) + QUEUE_SCHEMA_SHA256.encode()).hexdigest()


def run_sql(connection: Any, revision: str) -> None:
    """Run the SQL file of that revision on the psycopg connection, in the transaction it is in."""
    (path,) = (path for path in files(__name__).iterdir() if path.name.startswith(revision + "_"))
    connection.execute(path.read_bytes())


def make_queue(connection: Any) -> None:
    """Make the tables of the queue of jobs in the schema `tallystick_jobs`, as the installed library has them.

    A later version of the library comes with changes to them: they are a migration of ours, too, and until then that
    version is not taken, so that a database's schema depends on nothing but the revision that it is at.

    Raises:
        Unavailable: `migration_failed`, when the library's schema is not the one that this installation was made for.
    """
    text = (files("procrastinate") / "sql" / "schema.sql").read_bytes()
    if sha256(text).hexdigest() != QUEUE_SCHEMA_SHA256:
        raise Unavailable(
            "migration_failed",
            "the installed version of procrastinate has other tables than the one that this installation was made for",
            next_step="install the versions in requirements/runtime.txt, then start again",
        )
    connection.execute("set local search_path = tallystick_jobs, pg_temp")
    connection.execute(text)
    connection.execute(_JOBS_RIGHTS)
    connection.execute("set local search_path = public, pg_temp")


_JOBS_RIGHTS = """
do $$
declare
    name text;
begin
    for name in select tablename from pg_tables where schemaname = 'tallystick_jobs' and tablename like 'procrastinate%'
    loop
        execute format('grant select, insert, update, delete on tallystick_jobs.%I to tallystick_jobs', name);
        execute format('grant select on tallystick_jobs.%I to tallystick_operator', name);
    end loop;
    grant usage on all sequences in schema tallystick_jobs to tallystick_jobs, tallystick_operator;
end
$$
"""
