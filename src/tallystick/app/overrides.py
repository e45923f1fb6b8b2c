"""Overrides: dated, signed-off exceptions for one org, each an entry, which end by themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from tallystick.app.account_terms import account_terms
from tallystick.app.answer_parts import override_members
from tallystick.app.decision_answers import grant_answer, noted_answer
from tallystick.app.entries import entries_at, stream_entries
from tallystick.app.left_entries import submit_and_wait
from tallystick.app.operate import existing_org, new_salt
from tallystick.app.org_terms import org_terms
from tallystick.app.runtime import Runtime
from tallystick.contract.model import Plan
from tallystick.contract.policy_terms import limit_called, limit_name
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant
from tallystick.journal.accounts import claimed_by
from tallystick.ledger.account_checks import override_operation
from tallystick.ledger.members import did_you_mean, short
from tallystick.ledger.operation_body import read_body
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import Grant, Operation, Recorded, SetOverride
from tallystick.usage.event_problems import is_sound_text


def add_override(runtime: Runtime, org_id: str, raw: object) -> dict[str, Any]:
    """Make an exception for an org; the same request id again is the same exception.

    Credits that come with it are a grant of its own, of source goodwill, which ends when the override does. Sent again,
    it has the answer that it had, whatever plan the org is on by then.

    Args:
        runtime: an open one.
        org_id: the customer, who is on a plan.
        raw: the decoded JSON value, with the members `ledger.account_checks.OVERRIDE_MEMBERS`.

    Returns:
        The answer, with `grant` for the credits (None without any).

    Raises:
        BadInput, Problems: what is wrong with the request; `same_person`, `expires_too_late`, `expired_already`,
            `empty_override`, `unknown_limit`, `unknown_action`.
        NotFound: `unknown_org`, `no_plan_in_force`.
        Conflict: `request_id_conflict`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; sending the same again is safe.
    """
    meant = _meant(runtime, org_id, raw)
    operation = override_operation(
        org_id,
        raw,
        salt=new_salt(runtime),
        now=runtime.now(org_id),
        plan=meant.plan,
        limit_index=meant.limit_index,
        limit_names=meant.limit_names,
        actions=meant.actions,
    )
    recorded = submit_and_wait(runtime, operation)
    assert isinstance(recorded.request, SetOverride)  # noqa: S101 - what an override asks for
    answer = noted_answer(recorded) | {"grant": None}
    if recorded.request.credits_pico is not None:
        answer["grant"] = _grant_credits(runtime, org_id, recorded, recorded.request)
    return answer


def list_overrides(runtime: Runtime, org_id: str) -> list[dict[str, Any]]:
    """The org's exceptions in force, the first to end first.

    Raises:
        NotFound: `unknown_org`.
    """
    existing_org(runtime, org_id)
    now = runtime.now(org_id)
    in_force = [one for one in org_terms(runtime, org_id).overrides.values() if one.expires_at > now]
    entries = entries_at(runtime, org_id, [one.seq for one in in_force])
    found = []
    for override in sorted(in_force, key=lambda one: (one.expires_at, one.seq)):
        entry = entries[override.seq]
        request, _ = read_body(entry.kind, entry.body or "")
        found.append(override_members(request, entry.seq) | {"recorded_at": format_instant(entry.recorded_at)})
    return found


class _Meant(NamedTuple):
    """What the names in an exception mean: the arguments of `override_operation`."""

    plan: str
    limit_index: Callable[[str], int]
    limit_names: Sequence[str]
    actions: Collection[str] | None


def _meant(runtime: Runtime, org_id: str, raw: object) -> _Meant:
    """Those of the org's plan; of an exception that is sent again, those of the plan that the org was on then."""
    existing_org(runtime, org_id)
    stored = _stored(runtime, org_id, raw.get("request_id")) if isinstance(raw, Mapping) else None
    if stored is None:
        terms = account_terms(runtime, org_id)
        called = [limit_called(limit) for limit in terms.plan.limits]
        return _Meant(terms.plan.name, limit_finder(terms.plan), called, terms.contract.actions)
    names = stored.override.limit_names
    called = [names.get(place, "") for place in range(max(names, default=-1) + 1)]
    return _Meant(stored.override.plan or "", partial(_stored_limit, called), called, None)


def _stored(runtime: Runtime, org_id: str, request_id: object) -> SetOverride | None:
    """The exception that has this request id already; None when none has."""
    if not isinstance(request_id, str) or not is_sound_text(request_id):
        return None
    with runtime.database.org(org_id) as connection:
        seq = claimed_by(connection, org_id, "override", request_id)
    if seq is None:
        return None
    (entry,) = stream_entries(runtime, org_id, seq, seq)
    request, _ = read_body(entry.kind, entry.body or "")
    assert isinstance(request, SetOverride)  # noqa: S101 - what claims an id of this kind
    return request


def _stored_limit(called: Sequence[str], name: str) -> int:
    """The place of a limit that a stored exception names; one that it does not name makes it another exception."""
    names = [one.rpartition(", ")[0] for one in called]
    return names.index(name) if name in names else (_number(name) or 1) - 1


def _number(name: str) -> int | None:
    """A limit's number, from 1; None when it is none."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= 3 and int(name) else None


def limit_finder(plan: Plan) -> Callable[[str], int]:
    """Finds the place of a limit in the plan by what decisions call it, such as `tokens_in+tokens_out per day`."""
    names = [limit_name(limit) for limit in plan.limits]

    def find(name: str) -> int:
        if names.count(name) == 1:
            return names.index(name)
        number = _number(name)
        if number is not None and number <= len(names):
            return number - 1
        listed = ", ".join(f"{place} ({one})" for place, one in enumerate(names, 1)) or "none"
        several = "has several limits" if name in names else "has no limit"
        raise BadInput(
            "unknown_limit",
            f"plan {plan.name} {several} {short(name)!r}{did_you_mean(name, names)}",
            next_step=f"name one of the plan's limits, or its number: {listed}",
        )

    return find


def _grant_credits(runtime: Runtime, org_id: str, recorded: Recorded, request: SetOverride) -> dict[str, Any]:
    override = request.override
    grant = Grant(
        source="goodwill",
        amount_pico=request.credits_pico or 0,
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
    return grant_answer(submit_and_wait(runtime, operation))
