"""What months are looked at with: the contract versions that promise something, and the incidents that are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from tallystick.app.billing_terms import load_stored_contract
from tallystick.app.entries import Ledger
from tallystick.billing.incidents import Incident, holding
from tallystick.contract.model import Contract
from tallystick.core.errors import NotFound
from tallystick.core.instants import parse_instant
from tallystick.invoice.model import Invoice
from tallystick.journal.contracts import ContractVersion, list_contract_versions
from tallystick.journal.incidents import incidents_touching, last_incident


@dataclass(frozen=True, slots=True)
class Known:
    """What was known at one moment, for months that lie within some time.

    Attributes:
        versions: every contract version, by its name and hash.
        records: of incidents that touch the time, and those that take one of them back.
        through: the number of the last record of all.
    """

    versions: Mapping[tuple[str, str], ContractVersion]
    records: tuple[Incident, ...]
    through: int

    def contract(self, name: str, sha256: str) -> Contract:
        """The contract version of that hash.

        Raises:
            NotFound: `unknown_contract_version`.
        """
        version = self.versions.get((name, sha256))
        if version is None:
            raise NotFound(
                "unknown_contract_version",
                f"the version of contract {name} with the hash {sha256[:12]}… is not in the database",
                next_step="restore the database: contract versions are never deleted",
                where=name,
            )
        return load_stored_contract(version)

    def promising(self) -> list[tuple[str, str]]:
        """The contract versions of which a plan promises something, by name and hash."""
        return [named for named, one in self.versions.items() if _promises(one)]

    def promises_anything(self) -> bool:
        """Whether any plan of any contract version does."""
        return any(_promises(one) for one in self.versions.values())

    def promises(self, invoice: Invoice) -> bool:
        """Whether a contract version of the invoice's month may promise something; plan by plan is for its terms."""
        named = {(one.contract, one.sha256) for one in invoice.sections}
        return any(one not in self.versions or _promises(self.versions[one]) for one in named)

    def incidents(self, invoice: Invoice, through: int) -> list[Incident]:
        """Those that concern the invoice's org, touch its month, and hold as of record `through`."""
        start, end = parse_instant(invoice.period.start), parse_instant(invoice.period.end)
        found = holding(self.records, through)
        return [one for one in found if one.concerns(invoice.org_id) and one.start < end and one.end > start]


def read_known(ledger: Ledger, times: Iterable[tuple[datetime, datetime]]) -> Known:
    """What is known now.

    Args:
        times: of the months, half-open.

    Raises:
        Unavailable: `database_unreachable`.
    """
    listed = list(times)
    with ledger.database.operator() as connection:
        versions = {(one.contract, one.sha256): one for one in list_contract_versions(connection)}
        through = last_incident(connection)  # before the records: those that come meanwhile have larger numbers
        start, end = min((one[0] for one in listed), default=None), max((one[1] for one in listed), default=None)
        records = () if start is None or end is None else tuple(incidents_touching(connection, start, end))
    return Known(versions, records, through)


@lru_cache(maxsize=4096)
def _promises(version: ContractVersion) -> bool:
    return any(plan.sla is not None for plan in load_stored_contract(version).plans.values())
