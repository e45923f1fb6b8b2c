"""The figures that Prometheus reads."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from tallystick.api.context import OpenRuntime
from tallystick.app.metrics import CONTENT_TYPE, metrics_text

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics(runtime: OpenRuntime) -> Response:
    """Prometheus' text format. Where keys are needed, with an operator's key for `read`: it tells what is earned.

    Figures without the label `process` come from the database and are the same from each worker.
    """
    return Response(metrics_text(runtime), media_type=CONTENT_TYPE)
