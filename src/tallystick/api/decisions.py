"""`POST /v1/authorize`, `/v1/settle`, `/v1/release`, `/v1/refunds`: may it be done, it is done, it was not, give back.

Each is one operation on an org's account, decided and written together with others (`journal.operations_writer`), and
answered once it is on disk; sent again it has the same answer, to the byte. A request that is denied is answered as a
problem, with the whole decision in it: 402 for credits, 403 for what the terms do not allow, 429 for limits, which
says in `Retry-After` when they begin anew.

Plain requests go a short way (`short_ways`), all others through a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, NamedTuple

import anyio.to_thread
import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tallystick.api.access import require_org
from tallystick.api.bodies import bounded_body, check_values, media_type_of
from tallystick.api.decision_schema import asked_as
from tallystick.api.decision_shapes import AuthorizeAnswer, RefundAnswer, ReleaseAnswer, SettleAnswer
from tallystick.api.event_answers import Answer
from tallystick.api.event_bodies import JSON_TYPE
from tallystick.api.event_schema import ref
from tallystick.api.openapi import problems
from tallystick.api.problems import PROBLEM_TYPE, problem, request_id_of
from tallystick.api.short_ways import Reply, failure_answer, plain_object
from tallystick.app.authorize import checked_authorize
from tallystick.app.decision_answers import answer_of, seconds_until_reset
from tallystick.app.left_entries import answer_from_blocks, may_have_left
from tallystick.app.loop_inbox import LoopInbox
from tallystick.app.operate import with_meters
from tallystick.app.refund import checked_refund
from tallystick.app.release import checked_release
from tallystick.app.runtime import Runtime
from tallystick.app.settle import checked_settle, settle_by_own_clock
from tallystick.contract.policy import DENIALS, HTTP_STATUS
from tallystick.core.errors import BadInput, TallyError
from tallystick.core.json_text import read_json, without_bom
from tallystick.ledger.operations import Denied, Operation, Recorded

BODY_BYTES_MAX = 4 * 1024 * 1024
"""A settlement of as many events as it may bring has about half a megabyte."""
VALUES_MAX = 100_000

_encode = msgspec.json.Encoder().encode


class OperationAddress(NamedTuple):
    """An address at which operations are asked for.

    Attributes:
        scope: what a caller's key must be for.
        check: makes the operation of a decoded body, by the meters that are known; it waits for nothing.
        check_patiently: the same on the long way, where it may wait for the database; None where that is no other.
    """

    path: str
    scope: str
    check: Callable[[Runtime, object, frozenset[str]], Operation]
    check_patiently: Callable[[Runtime, object, frozenset[str]], Operation] | None = None


AUTHORIZE: Final = OperationAddress("/v1/authorize", "authorize", checked_authorize)
SETTLE: Final = OperationAddress("/v1/settle", "authorize", checked_settle, settle_by_own_clock)
RELEASE: Final = OperationAddress("/v1/release", "authorize", checked_release)
REFUND: Final = OperationAddress("/v1/refunds", "admin", checked_refund)
ADDRESSES: Final = (AUTHORIZE, SETTLE, RELEASE, REFUND)


# ── how operations are answered ─────────────────────────────────────────────────────────────────────────────────────


def operation_answer(recorded: Recorded, request_id: str) -> Answer:
    """The answer to an operation; a denial is a problem document with the decision in it.

    Args:
        recorded: its entry.
        request_id: of this HTTP request.
    """
    members = answer_of(recorded)
    if not isinstance(recorded.result, Denied):
        return Answer(200, _encode(members))
    decision = recorded.result.decision
    denial = DENIALS[decision.code]
    document = problem(
        HTTP_STATUS[denial], decision.code, decision.message, decision.next_step.text, request_id=request_id
    )
    document |= {name: members[name] for name in ("org_id", "decision", "wallet", "versions", "entry")}
    seconds = seconds_until_reset(recorded, decision) if denial == "limited" else None
    headers = None if seconds is None else {"retry-after": str(seconds)}
    return Answer(HTTP_STATUS[denial], _encode(document), PROBLEM_TYPE, headers)


# ── the short way ───────────────────────────────────────────────────────────────────────────────────────────────────


class ShortOperations:
    """The short way of one address, for one event loop; see `short_ways.ShortWay`."""

    events: int | None = None

    def __init__(self, address: OperationAddress, runtime: Runtime, inbox: LoopInbox) -> None:
        self.path = address.path
        self.scope = address.scope
        self._check = address.check
        self._runtime = runtime
        self._inbox = inbox

    def take(self, body: bytes, request_id: str, reply: Reply, org_id: str | None = None) -> bool:
        """See `ShortWay.take`."""
        operation = self._read(body)
        if operation is None or (org_id is not None and operation.org_id != org_id):
            return False
        try:
            future = self._runtime.operations.submit(operation)
        except Exception as error:
            self._inbox.leave(partial(_fail, reply, error, request_id))
        else:
            future.add_done_callback(
                lambda done: self._inbox.leave(partial(self._answer, operation, reply, done, request_id))
            )
        return True

    def _answer(self, operation: Operation, reply: Reply, future: Future[Recorded], request_id: str) -> None:
        error = future.exception()
        if error is None or not may_have_left(error):
            _answer(reply, future, request_id)
            return
        from_blocks = partial(answer_from_blocks, self._runtime, operation, error)  # it reads files: not in the loop
        self._inbox.loop.run_in_executor(None, from_blocks).add_done_callback(
            lambda done: _answer(reply, done, request_id)
        )

    def _read(self, body: bytes) -> Operation | None:
        raw = plain_object(body)
        if raw is None:
            return None
        try:
            return self._check(self._runtime, raw, self._runtime.known_meters())
        except Exception:  # on the long way it is told what is wrong
            return None


def _answer(reply: Reply, future: Future[Recorded] | asyncio.Future[Recorded], request_id: str) -> None:
    try:
        answer = operation_answer(future.result(), request_id)
    except BaseException as error:
        _fail(reply, error, request_id)
    else:
        reply(answer)


def _fail(reply: Reply, error: BaseException, request_id: str) -> None:
    reply(failure_answer(error, request_id))


# ── the long way ────────────────────────────────────────────────────────────────────────────────────────────────────

router = APIRouter(tags=["decisions"])

_DENIED: Final[dict[str, Any]] = {"content": {PROBLEM_TYPE: {"schema": ref("Denial")}}}


@router.post(
    AUTHORIZE.path,
    operation_id="authorize",
    summary="May it be done?",
    response_model=AuthorizeAnswer,
    responses={
        **problems(404, 409, 503),
        402: {"description": "Denied: the wallet has too little.", **_DENIED},
        403: {"description": "Denied: the terms do not allow it.", **_DENIED},
        429: {
            "description": "Denied: a limit or budget would be passed; see Retry-After. Or too much comes in.",
            **_DENIED,
        },
    },
    openapi_extra=asked_as("AuthorizeRequest"),
)
async def post_authorize(request: Request) -> Response:
    """Asks before the work is done. When it may be, what it takes at most is held, until it is settled or released, or
    the hold's life is over. A denial says why, and what to do now; it claims no request id, and may be asked again.
    """
    return await _post(AUTHORIZE, request)


@router.post(
    SETTLE.path,
    operation_id="settle",
    summary="The work is done",
    response_model=SettleAnswer,
    responses={**problems(404, 409, 503)},
    openapi_extra=asked_as("SettleRequest"),
)
async def post_settle(request: Request) -> Response:
    """Records the usage of a hold's work, charges what the contract says for its outcome, and gives the rest back. A
    hold is settled once: the same again has the same answer, another outcome or other events are a conflict.
    """
    return await _post(SETTLE, request)


@router.post(
    RELEASE.path,
    operation_id="release",
    summary="The work was not done",
    response_model=ReleaseAnswer,
    responses={**problems(404, 409, 503)},
    openapi_extra=asked_as("ReleaseRequest"),
)
async def post_release(request: Request) -> Response:
    """All that the hold has reserved goes back."""
    return await _post(RELEASE, request)


@router.post(
    REFUND.path,
    operation_id="refund",
    summary="Give charged credits back",
    response_model=RefundAnswer,
    responses={**problems(404, 409, 503)},
    openapi_extra=asked_as("RefundRequest"),
)
async def post_refund(request: Request) -> Response:
    """Credits that a settlement has charged go back to the grants that they came from, whole or in part."""
    return await _post(REFUND, request)


async def _post(address: OperationAddress, request: Request) -> Response:
    state = request.app.state
    runtime: Runtime = state.runtime
    media_type = media_type_of(request)
    bytes_max = min(BODY_BYTES_MAX, runtime.settings.body_bytes_max)
    async with bounded_body(request, bytes_max, state.body_budget) as body:
        operation, future = await anyio.to_thread.run_sync(
            _offer, address, request, body, media_type, limiter=state.ingest_limiter
        )
    try:
        # Shielded: whoever stops waiting for what is being written must not stop the writing.
        recorded = await asyncio.shield(asyncio.wrap_future(future))
    except TallyError as error:
        if not may_have_left(error):
            raise
        from_blocks = partial(answer_from_blocks, runtime, operation, error)
        recorded = await anyio.to_thread.run_sync(from_blocks, limiter=state.ingest_limiter)
    return operation_answer(recorded, request_id_of(request)).response()


def _offer(
    address: OperationAddress, request: Request, body: bytes, media_type: str
) -> tuple[Operation, Future[Recorded]]:
    runtime: Runtime = request.app.state.runtime
    if media_type != JSON_TYPE:
        raise BadInput(
            "unsupported_media_type",
            f"a request is not taken as {media_type!r}" if media_type else "the request does not say what its body is",
            next_step=f"set Content-Type to {JSON_TYPE}",
            where="Content-Type",
        )
    check_values(body, VALUES_MAX)
    raw = read_json(without_bom(body))
    operation = with_meters(runtime, partial(address.check_patiently or address.check, runtime, raw))
    require_org(request, operation.org_id)
    return operation, runtime.operations.submit(operation)
