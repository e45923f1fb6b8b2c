"""Whether this process can do its work: each thing it needs, and why not when it cannot."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.app.runtime import Runtime
from tallystick.core.errors import TallyError
from tallystick.journal.migrations import revisions
from tallystick.journal.probe import probe


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that is needed: its name, whether it is there, and a sentence."""

    name: str
    ok: bool
    detail: str


def check_readiness(runtime: Runtime) -> list[Check]:
    """The database, its schema and the rate cards; it takes a few seconds at most, whatever is wrong."""
    return [*_check_database(runtime.database.url), _check_rate_cards(runtime)]


def schema_revision() -> str:
    """The revision of the database's schema that this release works with; starting brings a database to it."""
    return revisions()[-1]


def _check_database(url: str) -> list[Check]:
    try:
        server_version, revision = probe(url)
    except TallyError as error:
        return [Check("database", False, error.detail), Check("migrations", False, "the database could not be asked")]
    needed = schema_revision()
    detail = f"the schema is at {revision}"
    return [
        Check("database", True, f"PostgreSQL {server_version // 10000} answers"),
        Check("migrations", revision == needed, detail if revision == needed else f"{detail}, and {needed} is needed"),
    ]


def _check_rate_cards(runtime: Runtime) -> Check:
    versions = runtime.cards.versions
    if not versions:
        return Check("rate_cards", False, "no rate card is loaded")
    return Check("rate_cards", True, f"{len(versions)} versions are loaded")
