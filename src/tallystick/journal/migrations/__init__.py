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
    found = sorted((path.name, path.read_bytes()) for path in files(__name__).iterdir() if path.name.endswith(".sql"))
    return sha256(b"".join(text for _, text in found)).hexdigest()


def run_sql(connection: Any, revision: str) -> None:
    """Run the SQL file of that revision on the psycopg connection, in the transaction it is in."""
    (path,) = (path for path in files(__name__).iterdir() if path.name.startswith(revision + "_"))
    connection.execute(path.read_bytes())
