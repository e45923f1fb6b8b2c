"""`POST /v1/events`: the way in for usage, for one event or tens of thousands at a time.

Every event stands for itself and is answered for itself. What is answered `accepted` is on disk. A caller
that gets no answer sends the same body again: what arrived the first time is a `duplicate` then.

A thread reads, checks and encodes a body; nobody's thread waits while the journal writes it. A body of so many
events that they do not go into the journal together keeps its thread until the last are written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from tallystick.api.access import EVENTS_SCOPE, require_scope
from tallystick.api.bodies import bounded_body, media_type_of
from tallystick.api.event_answers import answer_events
from tallystick.api.event_bodies import EventBody, read_event_body
from tallystick.api.problems import request_id_of
from tallystick.app.event_results import Refused
from tallystick.app.ingest import BATCH_EVENTS, check_items, sound_ones, store_sound
from tallystick.app.keys import Key
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Forbidden
from tallystick.ledger.receipt import Receipt
from tallystick.usage.event import UsageEvent

LOOP_EVENTS_MAX = 1000
"""An answer for more events than these is encoded in a thread, so that nobody else waits for it."""


class _Offered(NamedTuple):
    """A body that was read, what its items are, and the receipts that the journal gives or will give."""

    read: EventBody
    checked: Sequence[UsageEvent | Refused]
    receipts: Future[list[Receipt]]


async def post_events(request: Request) -> Response:
    """Read the body, record its events, answer for each; `event_schema` documents the shapes."""
    state = request.app.state
    runtime: Runtime = state.runtime
    key = require_scope(request, EVENTS_SCOPE)
    media_type = media_type_of(request)
    async with bounded_body(request, runtime.settings.body_bytes_max, state.body_budget) as body:
        offered = await anyio.to_thread.run_sync(_offer, runtime, body, media_type, key, limiter=state.ingest_limiter)
        # Shielded: whoever stops waiting for what is being written must not stop the writing.
        receipts = await asyncio.shield(asyncio.wrap_future(offered.receipts))
        parts = (offered.read, offered.checked, receipts, request_id_of(request))
        if len(offered.checked) <= LOOP_EVENTS_MAX:
            answer = answer_events(*parts)
        else:
            answer = await anyio.to_thread.run_sync(answer_events, *parts, limiter=state.ingest_limiter)
    request.scope["events"] = len(offered.checked)
    return answer.response()


def _offer(runtime: Runtime, body: bytes, media_type: str, key: Key | None) -> _Offered:
    read = read_event_body(body, media_type, events_max=runtime.settings.batch_events_max)
    checked = check_items(runtime, read.values, cloudevents=read.cloudevents or None)
    if key is not None:
        checked = [_of_its_org(one, key) for one in checked]
    events = sound_ones(checked)
    if 0 < len(events) <= BATCH_EVENTS:
        return _Offered(read, checked, runtime.submit(events))
    written: Future[list[Receipt]] = Future()
    written.set_result(store_sound(runtime, events))
    return _Offered(read, checked, written)


def _of_its_org(one: UsageEvent | Refused, key: Key) -> UsageEvent | Refused:
    """What was checked; refused when it is about another org than the key's."""
    if not isinstance(one, UsageEvent):
        return one
    try:
        key.require_org(one.org_id)
    except Forbidden as error:
        return Refused(error.with_traceback(None), one.request_id)
    return one
