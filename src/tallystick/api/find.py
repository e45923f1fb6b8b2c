"""`GET /v1/find`: the whole story behind an id, for whoever runs the service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.strict import StrictRoute
from tallystick.app.find import find
from tallystick.core.instants import parse_instant

router = APIRouter(prefix="/v1", tags=["accounts"], route_class=StrictRoute)


@router.get("/find", operation_id="find", summary="The story behind an id", responses=problems(404))
def get_find(
    runtime: OpenRuntime,
    id: Annotated[
        str,
        Query(
            description="A caller's request id, a provider's, a work key; with `org_id` also an entry: 12, h12, s14.",
            min_length=1,
            max_length=512,
        ),
    ],
    org_id: Annotated[str | None, Query(description="Of this org alone.", min_length=1, max_length=512)] = None,
    since: Annotated[
        str | None, Query(alias="from", description="Read sealed blocks from then on.", max_length=40)
    ] = None,
    until: Annotated[str | None, Query(alias="to", description="And before then.", max_length=40)] = None,
) -> dict[str, Any]:
    """Decision, hold, call, usage per meter, price per line, entries, settlement, what refers to it, wallet, invoices.

    What is not in the database any more is read out of sealed blocks where a time is given, which may take a while.
    """
    start = None if since is None else parse_instant(since, where="from")
    end = None if until is None else parse_instant(until, where="to")
    reads_blocks = start is not None or end is not None
    return find(runtime, id, org_id=org_id, since=start, until=end, reads_blocks=reads_blocks)
