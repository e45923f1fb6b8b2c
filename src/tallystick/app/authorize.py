"""Authorize: may this be done, what would it be charged, and a hold on it when it may."""

from __future__ import annotations

from concurrent.futures import Future
from functools import partial

from tallystick.app.operate import with_meters
from tallystick.app.runtime import Runtime
from tallystick.app.worst_cost import worst_cost_pico
from tallystick.ledger.encoding import SALT_BYTES
from tallystick.ledger.operations import Authorize, Operation, Recorded
from tallystick.ledger.request_checks import authorize_operation


def submit_authorize(runtime: Runtime, raw: object) -> Future[Recorded]:
    """Check a request and have it decided; it does not wait for that.

    The future gives a hold (`result` is a `Held`) or a denial (a `Denied`), once it is on disk. A hold lives for the
    contract's hold life, and is to be settled or released; the same request again is the same hold. A denial claims
    nothing: asked again, it is decided anew.

    Args:
        runtime: an open one.
        raw: the decoded JSON value, see `ledger.request_checks.AUTHORIZE_MEMBERS`.

    Raises:
        BadInput, Problems: what is wrong with the request; see `ledger.request_checks`.
        Unavailable: `journal_busy`, `database_unreachable`, `journal_closed`; also as the future's error.
        Conflict: `request_id_conflict`, as the future's error: another hold has this request id.
    """
    return runtime.operations.submit(with_meters(runtime, partial(checked_authorize, runtime, raw)))


def authorize(runtime: Runtime, raw: object) -> Recorded:
    """As `submit_authorize`, and waits for the answer."""
    return submit_authorize(runtime, raw).result()


def checked_authorize(runtime: Runtime, raw: object, known_meters: frozenset[str]) -> Operation:
    """The operation that a request asks for, by the meters that are known; it asks the database for nothing.

    Raises:
        BadInput, Problems: as `submit_authorize`.
    """
    now, card = runtime.clock(), runtime.card

    def worst_cost(request: Authorize) -> int | None:
        return worst_cost_pico(card, request, now)

    salt = runtime.random_bytes(SALT_BYTES)
    return authorize_operation(raw, salt=salt, known_meters=known_meters, now=now, worst_cost=worst_cost)
