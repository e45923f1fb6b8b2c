"""Schema migrations: each is a file of plain SQL with a note at its head, and a revision that names it."""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Any


def revisions() -> list[str]:
    """The revisions this installation knows, oldest first: the numbers that the SQL files begin with."""
    return sorted(path.name.split("_")[0] for path in files(__name__).iterdir() if path.name.endswith(".sql"))


def schema_sha256() -> str:
    """The SHA-256 of all SQL files in order, in hex: what the schema is made of."""
    folders = (files(__name__), files(__name__) / "jobs")
    found = [
        text
        for folder in folders
        for _, text in sorted((path.name, path.read_bytes()) for path in folder.iterdir() if path.name.endswith(".sql"))
    ]
    return sha256(b"".join(found)).hexdigest()


def run_sql(connection: Any, revision: str) -> None:
    """Run the SQL file of that revision on the psycopg connection, in the transaction it is in."""
    (path,) = (path for path in files(__name__).iterdir() if path.name.startswith(revision + "_"))
    connection.execute(path.read_bytes())


def run_jobs_sql(connection: Any, name: str) -> None:
    """Run a file of `jobs/`, the queue's own schema as its makers wrote it, in the schema `tallystick_jobs`.

    It is kept here, by the version that it is of, so that a database's schema depends on nothing but these files. A
    later version of the queue comes with its own changes, as a migration of ours.
    """
    text = (files(__name__) / "jobs" / f"{name}.sql").read_bytes()
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
