"""The base of what is asked and answered in JSON, and the shapes that several routes share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Answer(BaseModel):
    """Base of what is answered: its documented members, and nothing else."""

    model_config = ConfigDict(extra="forbid")


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
