"""Who did what: the audit trail."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.audit import PAGE_ACTS_MAX, Wanted, list_acts, show_act
from tallystick.core.instants import parse_instant

router = APIRouter(prefix="/v1/audit", tags=["operations"], route_class=StrictRoute)


class Act(Answer):
    """Something that somebody did.

    `actor` is who it was as we know it: a key's id or a login name; `author` is who the act names. `entry_seq` is the
    place of the ledger entry that the act is.
    """

    act_id: str
    at: Instant
    org_id: str | None
    act: str
    subject: str
    entry_seq: int | None
    actor_kind: Literal["key", "anyone", "os_user", "job"]
    actor: str
    via: str
    request_id: str | None
    author: str | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ActPage(Answer):
    """Acts, the oldest first; `next_cursor` is null on the last page."""

    acts: list[Act]
    next_cursor: str | None


_Text = Annotated[str | None, Query(max_length=512)]


@router.get("", operation_id="list_acts", summary="Who did what")
def get_acts(
    runtime: OpenRuntime,
    begin: Annotated[str | None, Query(alias="from", description="RFC 3339; recorded then or later.")] = None,
    until: Annotated[str | None, Query(alias="to", description="RFC 3339; recorded before that.")] = None,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    act: Annotated[
        str | None, Query(description="Only these, such as `key.create`; `key` has all of keys.", max_length=64)
    ] = None,
    actor: Annotated[
        str | None, Query(description="Only this one's: a key's id, a login name or an author.", max_length=512)
    ] = None,
    subject: Annotated[str | None, Query(description="Only on this.", max_length=512)] = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=64)] = None,
    limit: Annotated[int, Query(description="Most acts on the page.", ge=1, le=PAGE_ACTS_MAX)] = 100,
) -> ActPage:
    """Every administrative act, with who did it, from where, and why; append-only."""
    wanted = Wanted(
        begin=None if begin is None else parse_instant(begin, where="from"),
        until=None if until is None else parse_instant(until, where="to"),
        org_id=org_id,
        act=act,
        actor=actor,
        subject=subject,
    )
    acts, next_cursor = list_acts(runtime, wanted, cursor=cursor, limit=limit)
    return ActPage.model_validate({"acts": acts, "next_cursor": next_cursor})


@router.get("/{act_id}", operation_id="show_act", summary="One act", responses=problems(404))
def get_act(runtime: OpenRuntime, act_id: Annotated[str, Path(max_length=20)]) -> Act:
    """Who did it, what stood before and after it, and why."""
    return Act.model_validate(show_act(runtime, act_id))
