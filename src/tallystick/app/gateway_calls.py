"""A call that passes the gateway, on its org's account: the hold before it, the settlement or release after it.

    begin    authorize the most that the call may take; a hold, or a denial
    settle   what it used becomes an entry, the contract says what is charged
    release  nothing was sent to the provider: all goes back

A call is known by its request id, which is its hold's, and that of its usage. While the hold is open, or once the call
has succeeded, the same id is refused; after an attempt that failed, was released or expired, the next one is taken
under `ID~2`, `ID~3`, ... So a caller's own retries work, and none is charged twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

from tallystick.app.answer_parts import pico_to_credits, total
from tallystick.app.authorize import checked_authorize
from tallystick.app.decision_answers import answer_of
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict
from tallystick.core.instants import format_instant
from tallystick.core.money import pico_to_usd
from tallystick.journal.accounts import entries_referring
from tallystick.ledger.encoding import operation_fingerprint, personal_json
from tallystick.ledger.entry import Entry
from tallystick.ledger.operation_body import encode_part, read_body
from tallystick.ledger.operations import Operation, Recorded
from tallystick.usage.event import Payer

ATTEMPTS_MAX = 100
"""How many attempts one request id may have."""


class Call(NamedTuple):
    """Who calls what, and the most that it may take: all that a hold needs.

    Attributes:
        request_id: the caller's, or a new one.
        meters: the most of each.
        payer: `customer` when the call goes with the caller's own provider key; None: as the plan says.
        attributes: whatever the caller wants to find again.
    """

    org_id: str
    request_id: str
    user_id: str
    session_id: str
    feature: str
    environment: str
    api_key_id: str
    provider: str | None
    model: str | None
    meters: Mapping[str, int]
    action: str | None = None
    work_key: str | None = None
    payer: Payer | None = None
    attributes: Mapping[str, str] = {}


def hold_operation(runtime: Runtime, call: Call, attempt: int = 1) -> Operation:
    """What asks whether the call may be made; it waits for nothing.

    Args:
        attempt: from 1; see the module.

    Raises:
        BadInput, Problems: what is wrong with it; see `ledger.request_checks.authorize_operation`.
    """
    raw: dict[str, Any] = {
        "org_id": call.org_id,
        "request_id": attempt_id(call.request_id, attempt),
        "user_id": call.user_id,
        "session_id": call.session_id,
        "feature": call.feature,
        "environment": call.environment,
        "action": call.action,
        "model": call.model,
        "provider": call.provider,
        "api_key_id": call.api_key_id,
        "meters": call.meters,
        "payer": call.payer,
        "attributes": call.attributes,
    }
    if call.work_key is not None:
        raw["work_key"] = call.work_key
    return checked_authorize(runtime, raw, runtime.known_meters())


def submit(runtime: Runtime, operation: Operation) -> Future[Recorded]:
    """Have an operation decided and written; as `Operations.submit`."""
    return runtime.operations.submit(operation)


def is_own(operation: Operation, recorded: Recorded) -> bool:
    """Whether the entry is this very operation, and no earlier one of the same content.

    It may have been there already although nobody sent it before: when the answer to its own commit was lost.
    """
    if recorded.is_new:
        return True
    personal = personal_json(operation.session_id, operation.user_id, operation.attributes)
    names = (operation.kind, operation.org_id, operation.request_id)
    own = operation_fingerprint(operation.salt, *names, encode_part(operation.request), personal)
    return own.hex() == recorded.fingerprint


def attempt_id(request_id: str, attempt: int) -> str:
    """The id under which an attempt is taken."""
    return request_id if attempt == 1 else f"{request_id}~{attempt}"


def check_next_attempt(runtime: Runtime, held: Recorded) -> None:
    """Whether another attempt may be made after this one, which is in the ledger already; it asks the database.

    Args:
        held: the hold of the attempt before.

    Raises:
        Conflict: `request_in_flight`: it is not over; `request_already_charged`: it has succeeded.
        Unavailable: `database_unreachable`.
    """
    with runtime.database.org(held.org_id) as connection:
        later = entries_referring(connection, held.org_id, [held.seq])
    ends = next((entry for entry in later if entry.kind in ("settlement", "release", "expiry")), None)
    if ends is None:
        raise Conflict(
            "request_in_flight",
            f"request {held.request_id} is being served: hold h{held.seq} is open",
            next_step="wait for its answer; send another request under another x-tally-request-id",
            where="x-tally-request-id",
        )
    if ends.kind == "settlement":
        _refuse_repeat(held, ends)


def _refuse_repeat(held: Recorded, ends: Entry) -> None:
    assert ends.body is not None  # noqa: S101 - operations have one
    request, result = read_body("settlement", ends.body)
    if request.outcome == "failure":
        return
    charged_pico = total(result.charged) + total(result.overage) + result.receivable_pico
    raise Conflict(
        "request_already_charged",
        f"request {held.request_id} was served and settled at {format_instant(ends.recorded_at)}: entry {ends.seq},"
        f" cost {pico_to_usd(result.cost_pico)} USD, {pico_to_credits(charged_pico)} credits charged",
        next_step="its answer cannot be given again; send a new request under a new x-tally-request-id",
        where="x-tally-request-id",
    )


def denial_members(denied: Recorded) -> dict[str, Any]:
    """What is told of a denial besides its code and sentence: the decision, the wallet, and where it stands."""
    answer = answer_of(denied)
    return {name: answer[name] for name in ("org_id", "decision", "wallet", "versions", "entry")}
