"""Contracts in the database: applied once each, never edited, each version in force until the next one is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tallystick.app.audit import Act, record_act
from tallystick.app.runtime import Runtime
from tallystick.contract.loader import load_contract
from tallystick.contract.model import Contract
from tallystick.core.errors import Conflict, NotFound
from tallystick.core.instants import format_instant
from tallystick.journal.contracts import (
    ContractVersion,
    add_contract_version,
    list_contract_versions,
    lock_contracts,
)

__all__ = ["Applied", "ContractVersion", "apply_contract", "find_contract", "list_contracts", "unknown_contract"]


@dataclass(frozen=True, slots=True)
class Applied:
    """An applied version, the contract that its text holds, and whether this call applied it."""

    version: ContractVersion
    contract: Contract
    is_new: bool


def apply_contract(runtime: Runtime, text: str, name: str, effective_from: datetime | None = None) -> Applied:
    """Apply a contract; the same one again changes nothing.

    Args:
        runtime: an open one.
        text: the whole file.
        name: what errors call the file.
        effective_from: from when it holds; None for the instant that the file says. It may lie in the past:
            `applied_at` keeps when it was applied, and closed months stay as they were.

    Raises:
        Problems: `invalid_contract`, with every error in the file.
        Conflict: `contract_version_exists` (that version was applied with other content or for another
            instant), `contract_overlap` (it would not begin after the newest version).
    """
    contract = load_contract(text, name)
    begins = effective_from or contract.effective_from
    with runtime.database.operator() as connection:
        lock_contracts(connection)
        versions = list_contract_versions(connection, contract.name)
        for version in versions:
            if version.version == contract.version:
                _check_same(version, contract, effective_from or version.effective_from)
                return Applied(version, contract, is_new=False)
        if versions and begins <= versions[-1].effective_from:
            newest = versions[-1]
            raise Conflict(
                "contract_overlap",
                f"{contract.name}@{contract.version} would hold from {format_instant(begins)}, not after "
                f"{newest.version}, which holds from {format_instant(newest.effective_from)}",
                next_step="give it a later effective_from; a version in force is never replaced from its beginning",
                where=name,
            )
        version = ContractVersion(
            contract=contract.name,
            version=contract.version,
            sha256=contract.sha256,
            effective_from=begins,
            applied_at=runtime.clock(),
            source_name=name,
            source_text=text,
        )
        add_contract_version(connection, version, list(contract.meters))
        act = Act(
            "contract.apply",
            f"{version.contract}@{version.version}",
            version.applied_at,
            before=_told(versions[-1]) if versions else None,
            after=_told(version),
        )
        record_act(connection, act)
    runtime.known_meters(reload=True)
    return Applied(version, contract, is_new=True)


def _told(version: ContractVersion) -> dict[str, str]:
    return {
        "version": version.version,
        "sha256": version.sha256,
        "effective_from": format_instant(version.effective_from),
        "source_name": version.source_name,
    }


def _check_same(version: ContractVersion, contract: Contract, begins: datetime) -> None:
    if version.sha256 != contract.sha256:
        said = f"was applied on {format_instant(version.applied_at)} with other content (sha256 {version.sha256})"
    elif version.effective_from != begins:
        said = f"was applied to hold from {format_instant(version.effective_from)}, not {format_instant(begins)}"
    else:
        return
    raise Conflict(
        "contract_version_exists",
        f"{version.contract}@{version.version} {said}",
        next_step="give the changed contract a version and an effective_from of its own",
    )


def list_contracts(runtime: Runtime, contract: str | None = None) -> list[ContractVersion]:
    """Every applied version, by contract and by the time from which it holds."""
    with runtime.database.operator() as connection:
        return list_contract_versions(connection, contract)


def find_contract(runtime: Runtime, contract: str, version: str | None = None) -> Applied:
    """An applied version, the newest when none is named.

    Raises:
        NotFound: `unknown_contract` or `unknown_contract_version`, listing those there are.
    """
    versions = list_contracts(runtime, contract)
    if not versions:
        raise unknown_contract(runtime, contract)
    found = next((one for one in versions if one.version == version), None) if version else versions[-1]
    if found is None:
        raise NotFound(
            "unknown_contract_version",
            f"there is no version {version!r:.80} of contract {contract!r:.80}",
            next_step="name one of " + ", ".join(one.version for one in versions),
        )
    return Applied(found, load_contract(found.source_text, found.source_name), is_new=False)


def unknown_contract(runtime: Runtime, contract: str) -> NotFound:
    """The error for a contract that was never applied."""
    names = sorted({one.contract for one in list_contracts(runtime)})
    known = "name one of " + ", ".join(names) if names else "apply one first: tally contract apply FILE"
    return NotFound("unknown_contract", f"there is no contract {contract!r:.80}", next_step=known, where="contract")
