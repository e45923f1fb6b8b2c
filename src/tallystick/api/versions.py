"""What this process runs, decides and prices with."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick.api.context import OpenRuntime
from tallystick.api.shapes import Answer
from tallystick.app.versions import show_versions

router = APIRouter(tags=["health"])


class ContractVersion(Answer):
    """A version of a contract: the hash of its content, and from when it holds."""

    contract: str
    version: str
    sha256: str
    effective_from: str
    applied_at: str


class RateCardVersion(Answer):
    """A version of the rate card: the hash of its file, and when it became known."""

    version: str
    known_at: str
    sha256: str


class Versions(Answer):
    """The program, the database's schema, the rate cards (`rate_version` prices now) and the contracts in force."""

    tallystick: str
    schema_revision: str
    schema_sha256: str
    rate_version: str
    rate_cards: list[RateCardVersion]
    contracts: list[ContractVersion]
    upcoming: list[ContractVersion]
    at: str


@router.get("/v1/versions", operation_id="get_versions", summary="What is running")
def get_versions(runtime: OpenRuntime) -> Versions:
    """What an event that arrives now is priced with, what a request is decided under, and which contracts come next.

    Every decision names its contract's version and hash, every entry its rate card.
    """
    return Versions.model_validate(show_versions(runtime))
