"""Standing: an org is suspended or taken up again, or decided for in a mode of its own, such as shadow."""

from __future__ import annotations

from typing import Any

from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_request_id, new_salt
from tallystick.app.org_terms import org_terms
from tallystick.app.runtime import Runtime
from tallystick.ledger.account_checks import standing_operation
from tallystick.ledger.operations import Recorded


def set_standing(runtime: Runtime, org_id: str, raw: object) -> Recorded:
    """Set an org's whole standing: what is left out is none.

    Args:
        runtime: an open one.
        org_id: the customer, who is known here.
        raw: the decoded JSON value, with the members `ledger.account_checks.STANDING_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request.
        NotFound: `unknown_org`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`.
    """
    new_id = new_request_id(runtime)
    operation = standing_operation(org_id, raw, salt=new_salt(runtime), new_id=new_id)
    existing_org(runtime, org_id)
    return submit_and_wait(runtime, operation)


def show_standing(runtime: Runtime, org_id: str) -> dict[str, Any]:
    """The org's standing now.

    Raises:
        NotFound: `unknown_org`.
    """
    existing_org(runtime, org_id)
    terms = org_terms(runtime, org_id)
    return {"org_id": org_id, "suspended": terms.suspended, "enforcement": terms.enforcement}


def suspend(runtime: Runtime, org_id: str, *, reason: str, author: str) -> Recorded:
    """Suspend an org; its mode of enforcement stays. Raises as `set_standing`."""
    return set_standing(runtime, org_id, {"suspended": reason, "author": author, "keep": ["enforcement"]})


def resume(runtime: Runtime, org_id: str, *, author: str) -> Recorded:
    """Take a suspended org up again; its mode of enforcement stays. Raises as `set_standing`."""
    return set_standing(runtime, org_id, {"suspended": None, "author": author, "keep": ["enforcement"]})


def set_mode(runtime: Runtime, org_id: str, mode: str | None, *, author: str) -> Recorded:
    """Decide for an org in `shadow` or `enforce` mode, whatever its plan says; None for the plan's mode.

    Whether it is suspended stays. Raises as `set_standing`.
    """
    return set_standing(runtime, org_id, {"enforcement": mode, "author": author, "keep": ["suspended"]})
