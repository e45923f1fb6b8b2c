"""The base of what is asked and answered in JSON, and the shapes that several routes share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from tallystick.core.instants import format_instant


def _instant_text(value: object) -> object:
    return format_instant(value) if isinstance(value, datetime) else value


Instant = Annotated[str, BeforeValidator(_instant_text), WithJsonSchema({"type": "string", "format": "date-time"})]
"""An instant as it is answered: RFC 3339 in UTC."""


class Answer(BaseModel):
    """Base of what is answered: its documented members, and nothing else."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Asked(BaseModel):
    """Base of what is asked in a body: an unknown member is a mistake and is named; nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CostLine(Answer):
    """One meter of a cost: quantity × rate / per = amount; the last three are null where there is no rate.

    `model` is there when a part of the work was passed on to another model.
    """

    meter: str
    quantity: int
    rate_usd: str | None
    per: int | None
    amount_usd: str | None
    model: str | None = Field(default=None)
