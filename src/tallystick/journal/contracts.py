"""Contract versions as the database holds them: the text that was applied, its hash, and from when it holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from tallystick.journal.database import Connection
from tallystick.journal.named_sql import load_queries

_SQL = load_queries("contracts")


@dataclass(frozen=True, slots=True)
class ContractVersion:
    """One applied version. It holds from `effective_from` until the next version of that contract does.

    `sha256` is the hash of its content (see the contract loader); `source_name` is the file it came from.
    """

    contract: str
    version: str
    sha256: str
    effective_from: datetime
    applied_at: datetime
    source_name: str
    source_text: str


def lock_contracts(connection: Connection) -> None:
    """Keep other processes from applying contracts until this transaction ends."""
    connection.execute(_SQL["lock"])


def list_contract_versions(connection: Connection, contract: str | None = None) -> list[ContractVersion]:
    """Every version of one contract, or of all, by the time from which it holds."""
    query = "all" if contract is None else "versions"
    return [ContractVersion(*row) for row in connection.execute(_SQL[query], {"contract": contract})]


def version_in_force(versions: Iterable[ContractVersion], at: datetime) -> ContractVersion | None:
    """Of one contract's versions, the one in force at the instant; None before the first."""
    begun = [version for version in versions if version.effective_from <= at]
    return max(begun, key=lambda version: version.effective_from, default=None)


def add_contract_version(connection: Connection, version: ContractVersion, meters: Sequence[str]) -> None:
    """Append one version and the names of the meters it declares; others are locked out."""
    values = {name: getattr(version, name) for name in ContractVersion.__slots__}
    connection.execute(_SQL["add"], {**values, "meters": list(meters)})


def declared_meters(connection: Connection) -> frozenset[str]:
    """The meters that any version of any contract declares."""
    return frozenset(name for (name,) in connection.execute(_SQL["declared_meters"]))
