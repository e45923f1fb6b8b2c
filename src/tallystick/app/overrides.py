"""Overrides: dated, signed-off exceptions for one org, each an entry, which end by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tallystick.app.account_terms import account_terms
from tallystick.app.answer_parts import override_members
from tallystick.app.decision_answers import grant_answer, noted_answer
from tallystick.app.entries import stream_entries
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.org_terms import org_terms
from tallystick.app.runtime import Runtime
from tallystick.app.submit_once import submit_once
from tallystick.contract.model import Plan
from tallystick.contract.policy_terms import limit_called, limit_name
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.ledger.account_checks import override_operation
from tallystick.ledger.members import did_you_mean, short
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Grant, Operation, Recorded, SetOverride


def add_override(runtime: Runtime, org_id: str, raw: object) -> dict[str, Any]:
    """Make an exception for an org; the same request id again is the same exception.

    Credits that come with it are a grant of its own, of source goodwill, which ends when the override does.

    Args:
        runtime: an open one.
        org_id: the customer, who is on a plan.
        raw: the decoded JSON value, with the members `ledger.account_checks.OVERRIDE_MEMBERS`.

    Returns:
        The answer, with `grant` for the credits (None without any).

    Raises:
        BadInput, Problems: what is wrong with the request; `same_person`, `expires_too_late`, `expired_already`,
            `empty_override`, `unknown_limit`.
        NotFound: `unknown_org`, `no_plan_in_force`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending the same again is safe.
    """
    plan = account_terms(runtime, org_id).plan
    operation, credits_pico = override_operation(
        org_id,
        raw,
        salt=new_salt(runtime),
        now=runtime.clock(),
        plan=plan.name,
        limit_index=limit_finder(plan),
        limit_names=[limit_called(limit) for limit in plan.limits],
    )
    recorded = submit_once(runtime, operation)
    answer = noted_answer(recorded) | {"grant": None}
    if credits_pico is not None:
        answer["grant"] = _grant_credits(runtime, org_id, recorded, credits_pico)
    return answer


def list_overrides(runtime: Runtime, org_id: str) -> list[dict[str, Any]]:
    """The org's exceptions in force, the first to end first.

    Raises:
        NotFound: `unknown_org`.
    """
    existing_org(runtime, org_id)
    now = runtime.clock()
    in_force = [one for one in org_terms(runtime, org_id).overrides.values() if one.expires_at > now]
    found = []
    for override in sorted(in_force, key=lambda one: (one.expires_at, one.seq)):
        (entry,) = stream_entries(runtime, org_id, override.seq, override.seq)
        request, _ = read_body(entry.kind, entry.body or "")
        found.append(override_members(request, entry.seq) | {"recorded_at": format_instant(entry.recorded_at)})
    return found


def limit_finder(plan: Plan) -> Callable[[str], int]:
    """Finds the place of a limit in the plan by what decisions call it, such as `tokens_in+tokens_out per day`."""
    names = [limit_name(limit) for limit in plan.limits]

    def find(name: str) -> int:
        if names.count(name) == 1:
            return names.index(name)
        if name.isascii() and name.isdigit() and 1 <= int(name) <= len(names):
            return int(name) - 1
        listed = ", ".join(f"{place} ({one})" for place, one in enumerate(names, 1)) or "none"
        several = "has several limits" if name in names else "has no limit"
        raise BadInput(
            "unknown_limit",
            f"plan {plan.name} {several} {short(name)!r}{did_you_mean(name, names)}",
            next_step=f"name one of the plan's limits, or its number: {listed}",
        )

    return find


def _grant_credits(runtime: Runtime, org_id: str, recorded: Recorded, credits_pico: int) -> dict[str, Any]:
    assert isinstance(recorded.request, SetOverride)  # noqa: S101 - what an override asks for
    override = recorded.request.override
    grant = Grant(
        source="goodwill",
        amount_pico=credits_pico,
        expires_at=override.expires_at,
        author=override.author,
        reason=override.reason,
    )
    operation = Operation(
        org_id=org_id,
        kind="grant",
        request_id=f"{operation_id('override', recorded.seq)}.credits",
        request=grant,
        salt=new_salt(runtime),
    )
    return grant_answer(submit_once(runtime, operation))
