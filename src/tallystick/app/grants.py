"""Grants: credits come into an org's wallet, by somebody's word and for a reason."""

from __future__ import annotations

from functools import partial

from tallystick.app.account_terms import account_terms
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.runtime import Runtime
from tallystick.app.submit_once import submit_once
from tallystick.core.errors import Conflict
from tallystick.ledger.account_checks import grant_operation
from tallystick.ledger.operations import Grant, Recorded


def grant(runtime: Runtime, org_id: str, raw: object) -> Recorded:
    """Grant credits; the same request id again is the same grant.

    Args:
        runtime: an open one.
        org_id: the customer, who is known here.
        raw: the decoded JSON value, with the members `ledger.account_checks.GRANT_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; `invalid_amount`, `grant_expired_already`.
        NotFound: `unknown_org`; of a top-up: `no_plan_in_force`.
        Conflict: `top_up_not_available`, the org's plan has none; `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    operation = grant_operation(org_id, raw, salt=new_salt(runtime))
    existing_org(runtime, org_id)
    assert isinstance(operation.request, Grant)  # noqa: S101 - what a grant asks for
    if operation.request.source != "top_up":
        return submit_and_wait(runtime, operation)
    # One that was taken already is told what became of it, whatever its plan is now.
    return submit_once(runtime, operation, if_new=partial(_check_top_up, runtime, org_id))


def _check_top_up(runtime: Runtime, org_id: str) -> None:
    terms = account_terms(runtime, org_id)
    plan = terms.plan
    if not plan.top_up:
        upgrade = terms.contract.plans.get(plan.upgrade_to or "")
        step = (
            f"upgrade it to {upgrade.name} first" if upgrade is not None and upgrade.top_up else "change its plan first"
        )
        raise Conflict(
            "top_up_not_available",
            f"{org_id} is on plan {plan.name}, which sells no further credits",
            next_step=f"{step}, or grant them for another reason",
            where="source",
        )
