"""What routes are given: the open runtime, and the small types that several of them share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from tallystick.app.runtime import Runtime


def get_runtime(request: Request) -> Runtime:
    """The runtime that the application was created over."""
    runtime: Runtime = request.app.state.runtime
    return runtime


OpenRuntime = Annotated[Runtime, Depends(get_runtime)]
OrgId = Annotated[str, Path(description="The customer.", min_length=1, max_length=512)]


class Answer(BaseModel):
    """Base of what is answered: its documented members, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Asked(BaseModel):
    """Base of what is asked in a body: an unknown member is a mistake and is named; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)
