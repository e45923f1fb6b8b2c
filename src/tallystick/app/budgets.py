"""Budgets: cost guards of an org, set and taken away; how far each is spent is told by `app.limits`."""

from __future__ import annotations

from typing import Any

from tallystick.app.answer_parts import budget_members
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_request_id, new_salt
from tallystick.app.org_terms import org_terms
from tallystick.app.runtime import Runtime
from tallystick.ledger.account_checks import budget_operation, no_budget_operation
from tallystick.ledger.operations import Recorded


def set_budget(runtime: Runtime, org_id: str, name: str, raw: object) -> Recorded:
    """Set the budget of that name, in the place of the one there was.

    Args:
        runtime: an open one.
        org_id: the customer, who is known here.
        name: at most 64 characters.
        raw: the decoded JSON value, with the members `ledger.account_checks.BUDGET_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; `budget_subject`.
        NotFound: `unknown_org`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    new_id = new_request_id(runtime)
    operation = budget_operation(org_id, name, raw, salt=new_salt(runtime), new_id=new_id)
    existing_org(runtime, org_id)
    return submit_and_wait(runtime, operation)


def remove_budget(runtime: Runtime, org_id: str, name: str, author: str, request_id: str | None = None) -> Recorded:
    """Take the budget of that name away.

    Raises:
        BadInput, Problems: what is wrong with the request.
        NotFound: `unknown_org`, `budget_unknown`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    chosen_id = request_id or new_request_id(runtime)
    operation = no_budget_operation(org_id, name, author, salt=new_salt(runtime), request_id=chosen_id)
    existing_org(runtime, org_id)
    return submit_and_wait(runtime, operation)


def list_budgets(runtime: Runtime, org_id: str) -> list[dict[str, Any]]:
    """The budgets that are set, by name.

    Raises:
        NotFound: `unknown_org`.
    """
    existing_org(runtime, org_id)
    budgets = org_terms(runtime, org_id).budgets
    return [budget_members(budgets[name]) for name in sorted(budgets)]
