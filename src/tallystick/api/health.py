"""Is the process alive, and can it do its work?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response

from tallystick.api.context import OpenRuntime
from tallystick.api.shapes import Answer
from tallystick.app.health import check_readiness

router = APIRouter(tags=["health"])


class Alive(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class ReadinessCheck(Answer):
    """One thing that is needed, whether it is there, and a sentence about it."""

    name: str
    ok: bool
    detail: str


class Readiness(Answer):
    """Whether everything that is needed is there."""

    ready: bool
    checks: list[ReadinessCheck]


@router.get("/healthz", operation_id="get_health", summary="Whether the process is alive")
async def get_health() -> Alive:
    """It answers without looking at anything else."""
    return Alive()


@router.get(
    "/readyz",
    operation_id="get_readiness",
    summary="Whether it can do its work",
    responses={503: {"model": Readiness, "description": "Something that is needed is not there; it says what."}},
)
def get_readiness(runtime: OpenRuntime, response: Response) -> Readiness:
    """The database, its schema and the rate cards, each with its reason."""
    checks = [ReadinessCheck(name=each.name, ok=each.ok, detail=each.detail) for each in check_readiness(runtime)]
    ready = all(check.ok for check in checks)
    if not ready:
        response.status_code = 503
    return Readiness(ready=ready, checks=checks)
