"""What is running and what holds: software, schema, rate cards and contracts, with hashes and effective dates."""

from __future__ import annotations

from typing import Any

from tallystick import __version__
from tallystick.app.contracts import ContractVersion, list_contracts
from tallystick.app.health import schema_revision
from tallystick.app.rates_view import list_versions
from tallystick.app.runtime import Runtime
from tallystick.core.instants import format_instant
from tallystick.journal.contracts import version_in_force
from tallystick.journal.migrations import schema_sha256


def show_versions(runtime: Runtime) -> dict[str, Any]:
    """What a request that comes now is decided, priced and stored under.

    `contracts` has the version of each contract that is in force now; `upcoming` those applied that will be.
    `rate_cards` are all that are known, oldest first: an entry names the one that priced it, `rate_version` is the one
    that prices now.
    """
    now = runtime.clock()
    names: dict[str, list[ContractVersion]] = {}
    for one in list_contracts(runtime):
        names.setdefault(one.contract, []).append(one)
    in_force = [version_in_force(versions, now) for versions in names.values()]
    upcoming = [one for versions in names.values() for one in versions if one.effective_from > now]
    cards = [{name: card[name] for name in ("version", "known_at", "sha256")} for card in list_versions(runtime.cards)]
    return {
        "tallystick": __version__,
        "schema_revision": schema_revision(),
        "schema_sha256": schema_sha256(),
        "rate_version": runtime.card.version,
        "rate_cards": cards,
        "contracts": [_contract(one) for one in in_force if one is not None],
        "upcoming": [_contract(one) for one in upcoming],
        "at": format_instant(now),
    }


def _contract(one: ContractVersion) -> dict[str, Any]:
    return {
        "contract": one.contract,
        "version": one.version,
        "sha256": one.sha256,
        "effective_from": format_instant(one.effective_from),
        "applied_at": format_instant(one.applied_at),
    }
