"""Contracts: check a file, apply it, list and show what is applied."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Response

from tallystick.api.context import OpenRuntime, RawBody, describe_raw_body, raw_body
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.app.contract_files import check_contract_text
from tallystick.app.contracts import apply_contract, find_contract, list_contracts
from tallystick.contract.price_list import price_list_json
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant, parse_instant

router = APIRouter(prefix="/v1/contracts", tags=["contracts"])

_YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_BODY = describe_raw_body({"application/yaml": {"type": "string", "description": "The contract file, in UTF-8."}})
YamlBody = Annotated[RawBody, Depends(raw_body(*_YAML_TYPES))]
FileName = Annotated[str, Query(description="What errors call the file.", min_length=1, max_length=255)]


class ContractWarning(Answer):
    """Something the contract says and probably does not mean; `where` is FILE:LINE: key."""

    code: str
    where: str
    detail: str


class CheckedContract(Answer):
    """A contract that can be applied, and what deserves a second look in it."""

    contract: str
    version: str
    sha256: str
    effective_from: str
    plans: list[str]
    actions: list[str]
    warnings: list[ContractWarning]


@router.post("/check", operation_id="check_contract", summary="Check a contract file", openapi_extra=_BODY)
def post_check(body: YamlBody, name: FileName = "contract.yaml") -> CheckedContract:
    """Nothing is stored. A file with errors is a problem document with all of them, each with its line."""
    contract, warnings = check_contract_text(_text(body, name), name)
    return CheckedContract(
        contract=contract.name,
        version=contract.version,
        sha256=contract.sha256,
        effective_from=format_instant(contract.effective_from),
        plans=list(contract.plans),
        actions=list(contract.actions),
        warnings=[ContractWarning(code=one.code, where=one.where, detail=one.sentence) for one in warnings],
    )


class AppliedContract(Answer):
    """One applied version. It holds from `effective_from` until the next version of that contract does."""

    contract: str
    version: str
    sha256: str
    effective_from: Instant
    applied_at: Instant
    source_name: str


@router.post(
    "",
    operation_id="apply_contract",
    summary="Apply a contract file",
    openapi_extra=_BODY,
    responses={201: {"model": AppliedContract, "description": "It is applied now."}, **problems(409)},
    response_description="It was applied before, with the same content; nothing changed.",
)
def post_contract(
    runtime: OpenRuntime,
    body: YamlBody,
    response: Response,
    name: FileName = "contract.yaml",
    effective_from: Annotated[
        str | None, Query(description="From when it holds; what the file says if left out.")
    ] = None,
) -> AppliedContract:
    """A version is applied once and never edited; one that overlaps an earlier one is refused."""
    begins = None if effective_from is None else parse_instant(effective_from, where="effective_from")
    applied = apply_contract(runtime, _text(body, name), name, begins)
    response.status_code = 201 if applied.is_new else 200
    return AppliedContract.model_validate(applied.version)


def _text(body: RawBody, name: str) -> str:
    try:
        return body.content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.content.count(b"\n", 0, error.start) + 1
        raise BadInput(
            "invalid_utf8",
            f"byte {error.start + 1:,} of the file is not UTF-8 text",
            next_step="save the file as UTF-8",
            where=f"{name}:{line}",
        ) from None


class ContractVersions(Answer):
    """Applied versions, by contract and by the time from which each holds."""

    contracts: list[AppliedContract]


@router.get("", operation_id="list_contracts", summary="Applied contract versions")
def get_contracts(
    runtime: OpenRuntime,
    contract: Annotated[str | None, Query(description="Only this contract's.", max_length=255)] = None,
) -> ContractVersions:
    """Every version that was ever applied."""
    return ContractVersions.model_validate({"contracts": list_contracts(runtime, contract)})


class ShownContract(AppliedContract):
    """An applied version with its terms in words, and the file as it was applied."""

    terms: dict[str, str]
    actions: dict[str, dict[str, str]]
    plans: dict[str, dict[str, str]]
    source_text: str


@router.get("/{contract}", operation_id="show_contract", summary="An applied contract", responses=problems(404))
def get_contract(
    runtime: OpenRuntime,
    contract: Annotated[str, Path(description="The contract's name.", min_length=1, max_length=255)],
    version: Annotated[str | None, Query(description="Which version; the newest if left out.", max_length=255)] = None,
) -> ShownContract:
    """What each plan costs, includes and limits, in words, and the file's own text."""
    found = find_contract(runtime, contract, version)
    listed = price_list_json(found.contract)
    return ShownContract.model_validate(
        {
            **AppliedContract.model_validate(found.version).model_dump(),
            **{name: listed[name] for name in ("terms", "actions", "plans")},
            "source_text": found.version.source_text,
        }
    )
