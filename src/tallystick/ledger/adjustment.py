"""Adjustments: what was recorded of usage was not what the provider counted, and an entry says by how much.

An adjustment is an operation (`ledger.operations`) that moves no credits. It adds to what an org's month comes to: so
much more or less of each meter, at so much more or less cost. Where the evidence is of one request (an estimate), it
refers to that entry and has its time, so that both lie in one month; else it is of a provider's day and model.
"""

from __future__ import annotations

from typing import Final

import msgspec

from tallystick.usage.event import Outcome, Payer

ADJUSTMENT: Final = "adjustment"
"""The kind of such an entry."""


class AdjustedMeter(msgspec.Struct, frozen=True):
    """By how much one meter changes, and what we pay for it in pico-USD. Either may be below nothing."""

    meter: str
    quantity: int
    cost_pico: int


class Adjust(msgspec.Struct, frozen=True, kw_only=True):
    """Of an adjustment.

    Attributes:
        of_seq: the usage entry that it corrects; None when it is of a day and model.
        provider, model, environment, feature, api_key_id, action: as that entry has them, or of the day.
        outcome, payer: likewise; a failure's quantities are not charged, and what the customer paid is no cost of ours.
        lines: each meter once, in the order of their names.
        source, source_sha256: the provider's export that it follows from, and the hash of the file.
        author, reason: who says so, and why.
    """

    of_seq: int | None
    provider: str | None
    model: str
    environment: str
    feature: str | None = None
    api_key_id: str | None = None
    action: str | None = None
    outcome: Outcome = "success"
    payer: Payer = "seller"
    lines: tuple[AdjustedMeter, ...]
    source: str
    source_sha256: str
    author: str
    reason: str

    @property
    def cost_pico(self) -> int:
        """What all of it changes of the cost, in pico-USD."""
        return sum(line.cost_pico for line in self.lines)

    @property
    def our_cost_pico(self) -> int:
        """The same of what we pay: nothing where the customer's own key has paid."""
        return self.cost_pico if self.payer == "seller" else 0

    @property
    def is_sound(self) -> bool:
        """Whether it changes something, names each meter once and in order, and refers to what there can be."""
        meters = [line.meter for line in self.lines]
        changes = all(line.quantity or line.cost_pico for line in self.lines)
        return bool(meters) and changes and meters == sorted(set(meters)) and (self.of_seq is None or self.of_seq > 0)
