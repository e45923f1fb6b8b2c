"""Alerts: what fires, what nobody is to be told of for a while, and who wants to be told what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tallystick.api.access import OwnOrg
from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Asked, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.alert_list import PAGE_ALERTS_MAX, AlertQuestion, find_alerts, show_alert
from tallystick.app.alert_preferences import set_preferences, show_preferences
from tallystick.app.alert_silences import end_silence, list_silences, silence_alert, silence_rule

router = APIRouter(prefix="/v1", tags=["alerts"], route_class=StrictRoute)

AlertId = Annotated[str, Path(description="The alert.", min_length=1, max_length=64)]
Rule = Annotated[str | None, Query(description="Only of this rule, such as spend_spike.", max_length=64)]
Author = Annotated[str, Field(description="Who does it.")]
Severity = Literal["info", "warning", "critical"]
Wanted = Annotated[dict[str, Any], Field(description="See docs/alerts.md; what is left out is as by default.")]


class Alert(Answer):
    """An alert as it stands. `org_id` null: the operator's own. `figures`: numbers, by names that end with their unit;
    those that begin with `our_` are left out with a key of an org.
    """

    alert_id: str
    org_id: str | None
    rule: str
    title: str
    subject: str
    state: Literal["firing", "resolved"]
    severity: Severity
    level: int
    summary: str
    figures: dict[str, Any]
    next_step: str
    fired_at: Instant
    changed_at: Instant
    told: Annotated[bool, Field(description="Whether the last change was told to anybody.")]
    held_back: Annotated[str | None, Field(description="Why it was not: `silence:ID`, `quiet_hours`, …")]
    silenced_by: Annotated[str | None, Field(description="The silence that covers it now.")]
    test: bool


class AlertEvent(Answer):
    """Something that happened to an alert. `told`: what had held it back is over, and it still fired."""

    change: Literal["firing", "escalated", "told", "resolved"]
    at: Instant
    severity: Severity
    level: int
    summary: str
    told: bool
    held_back: str | None


class ShownAlert(Alert):
    """An alert, and all that happened to it."""

    history: list[AlertEvent]


class Alerts(Answer):
    """Alerts, what changed last first; `next_cursor` is null on the last page."""

    alerts: list[Alert]
    next_cursor: str | None


class SilenceAnswer(Answer):
    """A time for which nobody is told of some alerts; `rule`, `subject` null: of all. `silent`: whether it is now."""

    silence_id: str
    org_id: str | None
    rule: str | None
    subject: str | None
    starts_at: Instant
    ends_at: Instant
    silent: bool
    reason: str
    author: str


class Silences(Answer):
    """Silences that are not over."""

    silences: list[SilenceAnswer]


class SilenceRequest(Asked):
    """How long, and why; one of `until` and `for`."""

    until: Annotated[str | None, Field(description="RFC 3339.")] = None
    for_: Annotated[str | None, Field(alias="for", description="Such as 4h or 7d.")] = None
    reason: str
    author: Author


class RuleSilenceRequest(SilenceRequest):
    """Which alerts: an org's (without it, the operator's own), of a rule, on a subject of it."""

    org_id: Annotated[str | None, Field(max_length=512)] = None
    rule: Annotated[str | None, Field(max_length=64)] = None
    subject: str | None = None


class PreferencesRequest(Asked):
    """What is wanted, whole."""

    preferences: Wanted
    author: Author


class PreferencesAnswer(Answer):
    """What is wanted, defaults included; `version` 0: nobody has set anything."""

    org_id: str | None
    preferences: Wanted
    version: int
    author: str | None
    set_at: Instant | None


@router.get("/alerts", operation_id="list_alerts", summary="What is to be looked at")
def get_alerts(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    own: Annotated[bool, Query(description="Only the operator's own.")] = False,
    rule: Rule = None,
    state: Annotated[Literal["firing", "all"], Query(description="Also those that are over?")] = "firing",
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=64)] = None,
    limit: Annotated[int, Query(description="Most alerts on the page.", ge=1, le=PAGE_ALERTS_MAX)] = 100,
) -> Alerts:
    """What fires; those of test orgs are told of one org at a time. With a key of an org, its own."""
    asked = AlertQuestion(org_id if own_org is None else own_org, own, rule, state == "all")
    page = find_alerts(runtime, asked, cursor=cursor, limit=limit, for_customer=own_org is not None)
    return Alerts.model_validate(page._asdict())


@router.get("/alerts/{alert_id}", operation_id="show_alert", summary="One alert", responses=problems(404))
def get_alert(runtime: OpenRuntime, own_org: OwnOrg, alert_id: AlertId) -> ShownAlert:
    """Its figures, and all that happened to it. With a key of an org, one of its own."""
    return ShownAlert.model_validate(show_alert(runtime, alert_id, org_id=own_org, for_customer=own_org is not None))


@router.post("/alerts/{alert_id}/silence", operation_id="silence_alert", summary="Silence it", responses=problems(404))
def post_alert_silence(runtime: OpenRuntime, alert_id: AlertId, asked: SilenceRequest) -> SilenceAnswer:
    """Nobody is told of it meanwhile. What happens to it is listed; what still fires after that is told then."""
    return SilenceAnswer.model_validate(silence_alert(runtime, alert_id, _members(asked)))


@router.get("/alert-silences", operation_id="list_alert_silences", summary="What is silenced")
def get_silences(
    runtime: OpenRuntime,
    org_id: Annotated[str | None, Query(description="Only this org's.", max_length=512)] = None,
    own: Annotated[bool, Query(description="Only the operator's own.")] = False,
) -> Silences:
    """Silences that are not over."""
    return Silences.model_validate({"silences": list_silences(runtime, org_id, own=own)})


@router.post(
    "/alert-silences", operation_id="silence_alerts", summary="Silence a rule or an org", responses=problems(404)
)
def post_silence(runtime: OpenRuntime, asked: RuleSilenceRequest) -> SilenceAnswer:
    """Nobody is told of any of these meanwhile."""
    return SilenceAnswer.model_validate(silence_rule(runtime, _members(asked)))


@router.delete(
    "/alert-silences/{silence_id}", operation_id="end_alert_silence", summary="End a silence", responses=problems(404)
)
def delete_silence(
    runtime: OpenRuntime,
    silence_id: Annotated[str, Path(description="The silence.", min_length=1, max_length=64)],
    author: Annotated[str, Query(description="Who does it.", min_length=1, max_length=512)],
) -> SilenceAnswer:
    """Now; ended again, nothing changes."""
    return SilenceAnswer.model_validate(end_silence(runtime, silence_id, author))


@router.get("/alert-preferences", operation_id="show_own_alert_preferences", summary="What the operator is told of")
def get_own_preferences(runtime: OpenRuntime) -> PreferencesAnswer:
    """Of the operator's own alerts; each org's are at its own address."""
    return PreferencesAnswer.model_validate(show_preferences(runtime, None))


@router.put("/alert-preferences", operation_id="set_own_alert_preferences", summary="Set what the operator is told of")
def put_own_preferences(runtime: OpenRuntime, asked: PreferencesRequest) -> PreferencesAnswer:
    """Of the operator's own alerts, whole."""
    return PreferencesAnswer.model_validate(set_preferences(runtime, None, asked.preferences, asked.author))


@router.get(
    "/orgs/{org_id:path}/alert-preferences",
    operation_id="show_alert_preferences",
    summary="What is told of it",
    responses=problems(404),
)
def get_preferences(runtime: OpenRuntime, org_id: OrgId) -> PreferencesAnswer:
    """Thresholds, levels, and what is not wanted."""
    return PreferencesAnswer.model_validate(show_preferences(runtime, org_id))


@router.put(
    "/orgs/{org_id:path}/alert-preferences",
    operation_id="set_alert_preferences",
    summary="Set what is told of it",
    responses=problems(404),
)
def put_preferences(runtime: OpenRuntime, org_id: OrgId, asked: PreferencesRequest) -> PreferencesAnswer:
    """Whole: what is left out is as by default. The next look goes by it."""
    return PreferencesAnswer.model_validate(set_preferences(runtime, org_id, asked.preferences, asked.author))


def _members(asked: Asked) -> dict[str, Any]:
    return asked.model_dump(exclude_unset=True, by_alias=True)
