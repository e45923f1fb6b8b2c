"""`POST /v1/events`: the way in for usage, for one event or tens of thousands at a time.

Every event stands for itself and is answered for itself. What is answered `accepted` is on disk. A caller
that gets no answer sends the same body again: what arrived the first time is a `duplicate` then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tallystick.api.bodies import bounded_body, media_type_of
from tallystick.api.event_bodies import EventBody, Item, read_event_body
from tallystick.api.problems import error_response, request_id_of
from tallystick.app.ingest import EventResult, ingest_events
from tallystick.app.runtime import Runtime


async def post_events(request: Request) -> Response:
    """Read the body, record its events, answer for each; `event_schema` documents the shapes."""
    runtime: Runtime = request.app.state.runtime
    media_type = media_type_of(request)
    async with bounded_body(request, runtime.settings.body_bytes_max, request.app.state.body_budget) as body:
        answer, events = await anyio.to_thread.run_sync(
            _record, runtime, body, media_type, request_id_of(request), limiter=request.app.state.ingest_limiter
        )
    request.scope["events"] = events
    return answer


def _record(runtime: Runtime, body: bytes, media_type: str, request_id: str) -> tuple[Response, int]:
    """The answer, and how many events it answers for. It runs in a thread: reading and storing take a while."""
    read = read_event_body(body, media_type, events_max=runtime.settings.batch_events_max)
    results = ingest_events(
        runtime, [item.error or item.value for item in read.items], cloudevents=read.cloudevents or None
    )
    error = results[0].error if read.alone else None
    if error is not None:
        return error_response(error, request_id, **_both_fingerprints(results[0])), 1
    return _answer(read, results), len(results)


def _both_fingerprints(result: EventResult) -> dict[str, Any]:
    """For a conflict: of what was sent and of what is stored, and where that stands."""
    receipt = result.receipt
    if receipt is None or receipt.stored_fingerprint is None:
        return {}
    return {"fingerprint": receipt.fingerprint, "stored_fingerprint": receipt.stored_fingerprint, "seq": receipt.seq}


def _answer(read: EventBody, results: Sequence[EventResult]) -> Response:
    counts = Counter(result.status for result in results)
    document = {
        "results": [_result(item, result) for item, result in zip(read.items, results, strict=True)],
        "accepted": counts["accepted"],
        "duplicate": counts["duplicate"],
        "conflict": counts["conflict"],
        "rejected": counts["rejected"],
    }
    taken = counts["accepted"] + counts["duplicate"] == len(results)
    created = read.alone and counts["accepted"] == 1
    status = (201 if created else 200) if taken else 207
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _result(item: Item, result: EventResult) -> dict[str, Any]:
    """One event's result: what the ledger says of it, and what the sender needs to find it again."""
    members = result.as_dict()
    if item.line is not None:
        members["line"] = item.line
    if result.receipt is None and isinstance(item.value, dict):
        for name in ("org_id", "request_id"):
            value = item.value.get(name)
            if isinstance(value, str):
                members[name] = value[:512]
    return members
