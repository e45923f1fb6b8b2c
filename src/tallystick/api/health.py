"""Is the process alive, and can it take events?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import Field

from tallystick.api.context import OpenRuntime
from tallystick.api.shapes import Answer
from tallystick.app.billing_health import check_billing
from tallystick.app.health import check_readiness
from tallystick.app.job_list import jobs_of
from tallystick.app.job_runs import check_jobs
from tallystick.app.rollup_health import check_rollups
from tallystick.app.seal_loop import check_sealing

router = APIRouter(tags=["health"])


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadinessCheck(Answer):
    """One thing that was looked at: whether it is as it should be, a sentence about it, and what was measured."""

    name: str
    ok: bool
    detail: str
    figures: dict[str, int | float | str | None]


class Readiness(Answer):
    """Whether events are taken, and how.

    `mode`: `normal`, they are written to the ledger; `spooling`, the database is away and they are kept on disk for it;
    `refusing`, they are refused, and the checks say why. `degraded`: something is not as it should be, although events
    may be taken.
    """

    ready: bool
    mode: Literal["normal", "spooling", "refusing"]
    degraded: bool
    checks: list[ReadinessCheck] = Field(
        description="database, migrations, rate_cards, writer (of events), operations (of decisions, settlements and "
        "refunds), spool, settlements (of the gateway's calls), keys (whether changes to them are heard of), disk, "
        "embedded_server where there is one, sealing, and, while the database is there, rollups, jobs, holds (none "
        "stands long after its end) and prices (every request has one)."
    )


@router.get("/healthz", operation_id="get_health", summary="Whether the process is alive")
async def get_health() -> Alive:
    """It answers without looking at anything else."""
    return Alive()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Whether it takes events",
    responses={503: {"model": Readiness, "description": "Events are refused; the checks say why."}},
)
def get_readiness(runtime: OpenRuntime, response: Response) -> Readiness:
    """The mode that it is in, and all that it needs, each with its reason."""
    more = [check_sealing(runtime.settings)]
    if runtime.writer.state().down is None and not runtime.database.withheld:  # else they would only wait for it, too
        more += [check_rollups(runtime), check_jobs(runtime, jobs_of(runtime.settings)), *check_billing(runtime)]
    found = check_readiness(runtime, more)
    if not found.ready:
        response.status_code = 503
    return Readiness.model_validate(
        {
            "ready": found.ready,
            "mode": found.mode,
            "degraded": found.degraded,
            "checks": [
                ReadinessCheck(name=one.name, ok=one.ok, detail=one.detail, figures=dict(one.figures))
                for one in found.checks
            ],
        }
    )
