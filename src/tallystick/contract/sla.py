"""What a contract promises of service, and what a breach is credited with: the values.

A month's credit is a share of what the month charges. Of the steps of availability that were reached, the one with the
largest credit counts, and so of latency; both are added up, and `cap` bounds them. `sla_words.py` says them in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

SlaBase = Literal["charges", "base_fee"]


@dataclass(frozen=True, slots=True)
class DownStep:
    """Reached when less than `below_percent` percent of the time was without downtime."""

    below_percent: Fraction
    credit: Fraction


@dataclass(frozen=True, slots=True)
class SlowStep:
    """Reached when more than `share` of the successful requests took longer than `over_ms`, of `requests` at least."""

    over_ms: int
    share: Fraction
    requests: int
    credit: Fraction


@dataclass(frozen=True, slots=True)
class SlowMinutes:
    """Reached when incidents of latency were recorded of more than `minutes` minutes."""

    minutes: int
    credit: Fraction


Step = DownStep | SlowStep | SlowMinutes


@dataclass(frozen=True, slots=True)
class Sla:
    """The rule for service credits. Without any step nothing is promised.

    Attributes:
        availability: from the highest bound to the lowest, with rising credits.
        latency: measured from the ledger's requests, or recorded by an operator.
        cap: the largest share of the base that a month is credited.
        base: what the shares are of: all that the month charges, or its base fee alone.
        features: what is promised something of; empty for everything.
    """

    availability: tuple[DownStep, ...] = ()
    latency: tuple[SlowStep | SlowMinutes, ...] = ()
    cap: Fraction = Fraction(1)
    base: SlaBase = "charges"
    features: tuple[str, ...] = ()

    @property
    def promises(self) -> bool:
        """Whether there is a step at all."""
        return bool(self.availability or self.latency)

    def covers(self, feature: str | None) -> bool:
        """Whether what concerns that feature, or everything (None), concerns what is promised."""
        return feature is None or not self.features or feature in self.features
