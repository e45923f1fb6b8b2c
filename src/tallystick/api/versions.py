"""What this process runs and prices with."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick import __version__
from tallystick.api.context import OpenRuntime
from tallystick.api.shapes import Answer
from tallystick.app.contracts import list_contracts
from tallystick.app.health import schema_revision

router = APIRouter(tags=["health"])


class ContractInForce(Answer):
    """The version of a contract that holds now."""

    contract: str
    version: str
    sha256: str


class Versions(Answer):
    """The program, the database's schema, the rate card for new events, and the contracts in force now."""

    tallystick: str
    schema_revision: str
    rate_version: str
    contracts: list[ContractInForce]


@router.get("/v1/versions", operation_id="get_versions", summary="What is running")
def get_versions(runtime: OpenRuntime) -> Versions:
    """What an event that arrives now would be priced with, and what a month that begins now would be billed by."""
    now = runtime.clock()
    in_force = {one.contract: one for one in list_contracts(runtime) if one.effective_from <= now}
    return Versions(
        tallystick=__version__,
        schema_revision=schema_revision(),
        rate_version=runtime.card.version,
        contracts=[
            ContractInForce(contract=one.contract, version=one.version, sha256=one.sha256) for one in in_force.values()
        ],
    )
