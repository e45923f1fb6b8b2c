"""Signed checkpoints: what to keep elsewhere, so that nobody can change the past unseen."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from tallystick.api.context import OpenRuntime
from tallystick.api.openapi import problems
from tallystick.api.shapes import Answer, Instant
from tallystick.app.runtime import Runtime
from tallystick.app.signing import find_checkpoint, known_keys

router = APIRouter(prefix="/v1/checkpoints", tags=["checkpoints"])


class CheckpointAnswer(Answer):
    """A signed note over the first `size` blocks (C2SP tlog-checkpoint), and the public keys of this ledger."""

    size: int
    signed_at: Instant
    note: str
    keys: list[str]


@router.get("/latest", operation_id="show_latest_checkpoint", summary="The newest checkpoint", responses=problems(404))
def get_latest(runtime: OpenRuntime) -> CheckpointAnswer:
    """Keep its note where this server cannot change it."""
    return _answer(runtime, None)


@router.get("/{size}", operation_id="show_checkpoint", summary="A checkpoint", responses=problems(404))
def get_checkpoint(
    runtime: OpenRuntime, size: Annotated[int, Path(description="How many blocks it covers.", ge=1, lt=2**63)]
) -> CheckpointAnswer:
    """The one over exactly so many blocks."""
    return _answer(runtime, size)


def _answer(runtime: Runtime, size: int | None) -> CheckpointAnswer:
    found = find_checkpoint(runtime, size)
    keys = [str(key) for key in known_keys(runtime)]
    return CheckpointAnswer.model_validate(
        {"size": found.size, "signed_at": found.signed_at, "note": found.note, "keys": keys}
    )
