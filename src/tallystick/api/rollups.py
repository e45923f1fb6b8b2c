"""What an org used, from the month down to the request; how rollups and jobs fare."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response
from pydantic import Field

from tallystick.api.access import OwnOrg
from tallystick.api.context import OpenRuntime, OrgId
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.api.strict import StrictRoute
from tallystick.app.job_list import find_job, list_jobs
from tallystick.app.job_runs import run_dict, runs_of
from tallystick.app.rollup_health import rollup_health
from tallystick.app.rollup_usage import (
    BY,
    PAGE_REQUESTS_MAX,
    UsageQuestion,
    list_day_requests,
    show_usage,
    usage_csv,
    usage_dict,
)
from tallystick.core.errors import BadInput

router = APIRouter(prefix="/v1", tags=["usage"], route_class=StrictRoute)

_DAYS = 30
_Names = Annotated[str | None, Query(max_length=512)]


class SliceNames(Answer):
    """What rows are told apart by; null where requests name none, left out where it was not asked for."""

    day: str | None = None
    month: str | None = None
    environment: str | None = None
    feature: str | None = None
    action: str | None = None
    provider: str | None = None
    model: str | None = None
    payer: str | None = None


class UsageSums(SliceNames):
    """Requests and what they cost. With a key of an org costs are left out. `unpriced` ones are in no cost yet."""

    requests: int
    failures: int
    empty: int
    unfinished: int
    unpriced: int
    cost_usd: str | None = None
    customer_cost_usd: Annotated[
        str | None, Field(description="What the customer's own keys have paid; in no cost of ours.")
    ] = None
    latency_ms_mean: int | None


class MeterUsage(SliceNames):
    """One meter: the requests with any of it, its quantity, and its part of the cost."""

    meter: str
    requests: int
    quantity: Annotated[str, Field(description="A whole number.")]
    cost_usd: str | None = None
    customer_cost_usd: str | None = None


class AccountUsage(Answer):
    """What happened to the account: how often, and the credits charged, granted, refunded or gone."""

    day: str | None = None
    month: str | None = None
    kind: str
    reason: str | None
    operations: int
    credits: str


class ReopenedDay(Answer):
    """A day that changed after it was over, by entries recorded on a later one. They are in the day's sums, too."""

    day: str
    recorded_on: str
    entries: int
    first_seq: int
    last_seq: int
    requests: int
    unpriced: int
    cost_usd: str | None = None


class Usage(Answer):
    """An org's usage. `complete`: every entry of the org is in it."""

    org_id: str
    from_: Annotated[str, Field(alias="from")]
    to: str
    period: Literal["all", "month", "day"]
    by: list[str]
    filters: dict[str, str]
    rows: list[UsageSums]
    meters: list[MeterUsage]
    account: list[AccountUsage]
    reopened: list[ReopenedDay]
    rolled_through_seq: int
    last_seq: int
    complete: bool


class DayRequest(Answer):
    """A request as it stands in the ledger; its cost is that of its correction where it has one."""

    seq: int
    request_id: str
    time: str
    recorded_at: str
    environment: str
    feature: str
    action: str | None
    provider: str | None
    model: str
    payer: Literal["seller", "customer"]
    outcome: str
    usage_status: str
    latency_ms: int | None
    meters: dict[str, int]
    cost_status: str
    cost_usd: str | None = None
    correction_seq: int | None


class DayRequests(Answer):
    """Requests by their place in the ledger; `next_cursor` is null on the last page."""

    requests: list[DayRequest]
    next_cursor: str | None


@router.get(
    "/orgs/{org_id:path}/usage/requests",
    operation_id="list_usage_requests",
    summary="The requests of a day",
    responses=problems(404),
    response_model=DayRequests,
    response_model_exclude_unset=True,
)
def get_usage_requests(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: OrgId,
    day: Annotated[date | None, Query(description="The UTC day; today if none.")] = None,
    environment: _Names = None,
    feature: _Names = None,
    action: _Names = None,
    provider: _Names = None,
    model: _Names = None,
    payer: _Names = None,
    meter: _Names = None,
    cursor: Annotated[str | None, Query(description="The `next_cursor` of the page before.", max_length=20)] = None,
    limit: Annotated[int, Query(description="Most requests on the page.", ge=1, le=PAGE_REQUESTS_MAX)] = 100,
) -> DayRequests:
    """Those behind a row of the day's usage: each name that is given must be the request's, '' for none."""
    given = (environment, feature, action, provider, model, payer, meter)
    asked = day or runtime.clock().date()
    page = list_day_requests(
        runtime, org_id, asked, filters=_filters(given), cursor=cursor, limit=limit, with_costs=own_org is None
    )
    return DayRequests.model_validate(page)


@router.get(
    "/orgs/{org_id:path}/usage",
    operation_id="show_usage",
    summary="What it used",
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **problems(404)},
    response_model=Usage,
    response_model_exclude_unset=True,
)
def get_usage(
    runtime: OpenRuntime,
    own_org: OwnOrg,
    org_id: OrgId,
    first: Annotated[date | None, Query(alias="from", description="First UTC day; 30 days up to `to` if none.")] = None,
    to: Annotated[date | None, Query(description="Last UTC day, included; today if none.")] = None,
    period: Annotated[Literal["all", "month", "day"], Query(description="A row for each, or for all of it.")] = "all",
    by: Annotated[str, Query(description=f"What to tell apart, with commas: {', '.join(BY)}.", max_length=128)] = "",
    environment: _Names = None,
    feature: _Names = None,
    action: _Names = None,
    provider: _Names = None,
    model: _Names = None,
    payer: _Names = None,
    meter: _Names = None,
    answer_format: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Any:
    """Sums of days, which are brought up to date first. `meters` are there when they are told apart or picked out."""
    today = runtime.clock().date()
    last = to or (today if first is None or first <= today else first)
    if last < date(2000, 1, 1):
        raise BadInput("invalid_range", f"{last} is before any day there is", next_step="give a later day", where="to")
    begin = first or last - timedelta(days=_DAYS - 1)
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    given = (environment, feature, action, provider, model, payer, meter)
    answer = show_usage(runtime, UsageQuestion(org_id, begin, last, period, names, _filters(given)))
    if answer_format == "csv":
        if own_org is not None:
            raise BadInput(
                "invalid_usage_question",
                "the table names costs, which are no matter of an org's key",
                next_step="ask for JSON, or use an operator's key",
                where="format",
            )
        return Response("".join(usage_csv(answer)), media_type="text/csv")
    return Usage.model_validate(usage_dict(answer, with_costs=own_org is None))


class JobRunAnswer(Answer):
    """A run: `done` says how many things it did; looks that find nothing to do are one run of several `looks`."""

    started_at: str
    seen_at: str
    ended_at: str | None
    seconds: float | None
    outcome: Literal["running", "done", "failed", "killed"]
    looks: int
    done: int
    detail: str
    error: str | None
    started_by: str


class JobAnswer(Answer):
    """A job and how it fares. `lag_seconds`: for how long a run has been due that did not go well yet."""

    name: str
    title: str
    every_seconds: int
    runs_in: Literal["loop", "queue"]
    running: bool
    last_run: JobRunAnswer | None
    last_success_at: str | None
    failures_since: int
    last_error: str | None
    last_error_at: str | None
    next_run_at: str | None
    lag_seconds: float
    late: bool


class Jobs(Answer):
    """Everything that runs by itself."""

    jobs: list[JobAnswer]


class JobRuns(Answer):
    """The last runs of a job, the newest first."""

    runs: list[JobRunAnswer]


@router.get("/jobs", operation_id="list_jobs", summary="What runs by itself", tags=["jobs"])
def get_jobs(runtime: OpenRuntime) -> Jobs:
    """Each job's last run, how late it is, when it is due next, and what went wrong last."""
    return Jobs.model_validate({"jobs": [row.as_dict() for row in list_jobs(runtime)]})


@router.get(
    "/jobs/{name}/runs",
    operation_id="list_job_runs",
    summary="A job's last runs",
    tags=["jobs"],
    responses=problems(404),
)
def get_job_runs(
    runtime: OpenRuntime,
    name: Annotated[str, Path(description="The job.", max_length=64)],
    limit: Annotated[int, Query(description="Most runs.", ge=1, le=200)] = 20,
) -> JobRuns:
    """As many as are remembered."""
    find_job(runtime.settings, name)
    return JobRuns.model_validate({"runs": [run_dict(run) for run in runs_of(runtime, name, limit)]})


class MissingDay(Answer):
    """A day that is over and lacks entries."""

    org_id: str
    day: str


class Rollups(Answer):
    """How far the sums of days are behind the ledger."""

    ok: bool
    detail: str
    orgs_behind: int
    entries_behind: int
    oldest_at: Instant | None
    lag_seconds: float
    missing: list[MissingDay]
    rolled_at: Instant | None


@router.get("/rollups", operation_id="show_rollups", summary="How far usage is added up", tags=["jobs"])
def get_rollups(runtime: OpenRuntime) -> Rollups:
    """Entries that wait, since when, and days that are over and lack some because nothing has added them up."""
    found = rollup_health(runtime)
    return Rollups(
        ok=found.ok,
        detail=found.detail,
        orgs_behind=found.orgs_behind,
        entries_behind=found.entries_behind,
        oldest_at=found.oldest_at,  # type: ignore[arg-type]
        lag_seconds=found.lag_seconds,
        missing=[MissingDay(org_id=one.org_id, day=one.day.isoformat()) for one in found.missing],
        rolled_at=found.rolled_at,  # type: ignore[arg-type]
    )


def _filters(given: tuple[str | None, ...]) -> dict[str, str]:
    return {name: value for name, value in zip(BY, given, strict=True) if value is not None}
