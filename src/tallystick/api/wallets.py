"""An org's account as it stands: wallet, open holds, limits, budgets, exceptions, the price list, and its history."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from tallystick.api.account_shapes import (
    AccountEntryPage,
    Actions,
    BudgetList,
    HoldPage,
    Limits,
    OrgWallet,
    OverrideList,
)
from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.strict import StrictRoute
from tallystick.app.actions import list_actions
from tallystick.app.budgets import list_budgets
from tallystick.app.explain_entry import show_entry
from tallystick.app.limits import show_limits
from tallystick.app.overrides import list_overrides
from tallystick.app.wallet import PAGE_ENTRIES_MAX, list_holds, show_wallet, wallet_entries

router = APIRouter(prefix="/v1/orgs", tags=["accounts"], route_class=StrictRoute)

Cursor = Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=40)]
Limit = Annotated[int, Query(description="Most items on the page.", ge=1, le=PAGE_ENTRIES_MAX)]


@router.get(
    "/{org_id:path}/wallet/entries",
    operation_id="list_wallet_entries",
    summary="What happened to its wallet",
    responses=problems(404),
)
def get_wallet_entries(
    runtime: OpenRuntime,
    org_id: OrgId,
    cursor: Cursor = None,
    limit: Limit = 100,
    order: Annotated[Literal["oldest", "newest"], Query(description="Which come first.")] = "oldest",
) -> AccountEntryPage:
    """Every grant, hold, denial, settlement, release, expiry and refund, and every change of budgets, exceptions and
    standing: what it was, by whom, what it moved, and why.
    """
    return AccountEntryPage.model_validate(wallet_entries(runtime, org_id, cursor=cursor, limit=limit, order=order))


@router.get("/{org_id:path}/wallet", operation_id="show_wallet", summary="Its wallet", responses=problems(404))
def get_wallet(runtime: OpenRuntime, org_id: OrgId) -> OrgWallet:
    """What it has, grant by grant in the order in which they burn, what is held, and what comes to its end next."""
    return OrgWallet.model_validate(show_wallet(runtime, org_id))


@router.get("/{org_id:path}/holds", operation_id="list_holds", summary="Its open holds", responses=problems(404))
def get_holds(runtime: OpenRuntime, org_id: OrgId, cursor: Cursor = None, limit: Limit = 100) -> HoldPage:
    """What was allowed, and is neither settled nor released yet, oldest first."""
    return HoldPage.model_validate(list_holds(runtime, org_id, cursor=cursor, limit=limit))


@router.get(
    "/{org_id:path}/limits", operation_id="show_limits", summary="Its limits and budgets", responses=problems(404)
)
def get_limits(runtime: OpenRuntime, org_id: OrgId) -> Limits:
    """Each limit of its plan and each budget: used, held, most, when it begins anew, and the warnings reached."""
    return Limits.model_validate(show_limits(runtime, org_id))


@router.get(
    "/{org_id:path}/actions",
    operation_id="list_actions",
    summary="What it may do, and the price",
    responses=problems(404),
)
def get_actions(runtime: OpenRuntime, org_id: OrgId) -> Actions:
    """The price list as its customer sees it: each action, what it costs on the plan, and whether the plan has it."""
    return Actions.model_validate(list_actions(runtime, org_id))


@router.get("/{org_id:path}/budgets", operation_id="list_budgets", summary="Its budgets", responses=problems(404))
def get_budgets(runtime: OpenRuntime, org_id: OrgId) -> BudgetList:
    """The cost guards that are set."""
    return BudgetList.model_validate({"budgets": list_budgets(runtime, org_id)})


@router.get(
    "/{org_id:path}/overrides", operation_id="list_overrides", summary="Its exceptions", responses=problems(404)
)
def get_overrides(runtime: OpenRuntime, org_id: OrgId) -> OverrideList:
    """The signed-off exceptions in force."""
    return OverrideList.model_validate({"overrides": list_overrides(runtime, org_id)})


@router.get(
    "/{org_id:path}/entries/{seq}", operation_id="show_entry", summary="One entry, explained", responses=problems(404)
)
def get_entry(
    runtime: OpenRuntime,
    org_id: OrgId,
    seq: Annotated[int, Path(description="Its place in the org's ledger.", ge=1, le=2**63 - 1)],
) -> dict[str, Any]:
    """Any entry of its ledger: usage with its price, a correction, or an operation with its decision and what it
    moved; `what` and `why` say it in a sentence each.
    """
    return show_entry(runtime, org_id, seq)
