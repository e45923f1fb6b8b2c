"""What is done to an org's account by somebody's word: grants, budgets, exceptions, suspension."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tallystick.api.account_shapes import BudgetAnswer, GrantAnswer, OverrideAnswer, StandingAnswer
from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Asked
from tallystick.api.strict import StrictRoute
from tallystick.app.budgets import remove_budget, set_budget
from tallystick.app.decision_answers import answer_of
from tallystick.app.grants import grant
from tallystick.app.overrides import add_override
from tallystick.app.standing import set_standing
from tallystick.ledger.operations import Recorded

router = APIRouter(prefix="/v1/orgs", tags=["accounts"], route_class=StrictRoute)

RequestId = Annotated[str, Field(description="Your id of this request: sent again, it changes nothing.")]
OwnId = Annotated[str | None, Field(description="Your id of this request; one is made when it is left out.")]
Credits = Annotated[str, Field(description="A decimal string above zero.", examples=["500"])]
BudgetName = Annotated[str, Path(description="The budget's name.", min_length=1, max_length=64)]


class GrantRequest(Asked):
    """Credits to come in."""

    request_id: RequestId
    source: Literal["top_up", "promo", "sla", "dispute", "goodwill"]
    credits: Credits
    priority: Annotated[int, Field(description="Lower ones burn first among those that expire together.")] = 0
    expires_at: Annotated[str | None, Field(description="RFC 3339; never when left out.")] = None
    author: str
    reason: str


@router.post(
    "/{org_id:path}/grants", operation_id="grant_credits", summary="Grant credits", responses=problems(404, 409)
)
def post_grant(runtime: OpenRuntime, org_id: OrgId, asked: GrantRequest) -> GrantAnswer:
    """Bought, or given away for a reason. The same request id again is the same grant."""
    return GrantAnswer.model_validate(_answer(grant(runtime, org_id, _members(asked))))


class BudgetRequest(Asked):
    """A cost guard. One for a user, key or feature without a `subject` holds for each by itself."""

    request_id: OwnId = None
    scope: Literal["org", "user", "api_key", "feature"] = "org"
    subject: Annotated[str | None, Field(description="Which user, key or feature.")] = None
    of: Annotated[Literal["cost", "charge"], Field(description="Our cost, or what the customer is charged.")] = "cost"
    per: Literal["day", "month"]
    kind: Annotated[Literal["hard", "soft"], Field(description="A hard one denies, a soft one warns.")]
    max_usd: Annotated[str, Field(description="A decimal string.", examples=["25"])]
    author: str


@router.put(
    "/{org_id:path}/budgets/{name}", operation_id="set_budget", summary="Set a budget", responses=problems(404, 409)
)
def put_budget(runtime: OpenRuntime, org_id: OrgId, name: BudgetName, asked: BudgetRequest) -> BudgetAnswer:
    """It holds from now on, in the place of the one of that name; what is spent in the window counts already."""
    return BudgetAnswer.model_validate(_answer(set_budget(runtime, org_id, name, _members(asked))))


@router.delete(
    "/{org_id:path}/budgets/{name}",
    operation_id="remove_budget",
    summary="Take a budget away",
    responses=problems(404, 409),
)
def delete_budget(
    runtime: OpenRuntime,
    org_id: OrgId,
    name: BudgetName,
    author: Annotated[str, Query(description="Who takes it away.", min_length=1, max_length=512)],
    request_id: Annotated[
        str | None, Query(description="Your id of this request.", min_length=1, max_length=512)
    ] = None,
) -> BudgetAnswer:
    """It holds no more."""
    return BudgetAnswer.model_validate(_answer(remove_budget(runtime, org_id, name, author, request_id)))


class OverrideRequest(Asked):
    """A dated, signed-off exception: limits raised, actions or models let in, hard budgets let pass, credits given."""

    request_id: RequestId
    author: str
    approved_by: Annotated[str, Field(description="Another person than the author.")]
    reason: str
    expires_at: Annotated[str, Field(description="RFC 3339; 90 days ahead at most.")]
    limits: Annotated[
        dict[str, int | None],
        Field(description="By name (`tokens_out per month`) or number, from 1; null for no limit.", max_length=100),
    ] = Field(default_factory=dict)
    allow_actions: Annotated[list[str], Field(max_length=100)] = Field(default_factory=list)
    allow_models: Annotated[list[str], Field(description="Patterns with `*`.", max_length=100)] = Field(
        default_factory=list
    )
    allow_overspend: bool = False
    credits: Annotated[str | None, Field(description="Goodwill credits, gone when the exception ends.")] = None


@router.post(
    "/{org_id:path}/overrides", operation_id="add_override", summary="Make an exception", responses=problems(404, 409)
)
def post_override(runtime: OpenRuntime, org_id: OrgId, asked: OverrideRequest) -> OverrideAnswer:
    """It is an entry of the ledger, shows in every decision that it changes, and ends by itself."""
    return OverrideAnswer.model_validate(add_override(runtime, org_id, _members(asked)))


class StandingRequest(Asked):
    """An org's whole standing: what is left out is none, unless `keep` names it."""

    request_id: OwnId = None
    suspended: Annotated[str | None, Field(description="Why; null to take the org up again.")] = None
    enforcement: Annotated[
        Literal["enforce", "shadow"] | None, Field(description="Its own mode; null for its plan's.")
    ] = None
    author: str
    keep: Annotated[
        list[Literal["suspended", "enforcement"]], Field(description="Which of the two stays as it is.", max_length=2)
    ] = Field(default_factory=list)


@router.put(
    "/{org_id:path}/standing",
    operation_id="set_standing",
    summary="Suspend it, or shadow it",
    responses=problems(404, 409),
)
def put_standing(runtime: OpenRuntime, org_id: OrgId, asked: StandingRequest) -> StandingAnswer:
    """A suspended org is denied everything; in shadow mode denials are only recorded."""
    return StandingAnswer.model_validate(_answer(set_standing(runtime, org_id, _members(asked))))


def _members(asked: Asked) -> dict[str, Any]:
    return asked.model_dump(exclude_unset=True)


def _answer(recorded: Recorded) -> dict[str, Any]:
    return answer_of(recorded)
