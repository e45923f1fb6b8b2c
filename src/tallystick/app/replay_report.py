"""What a replay of an invoice found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tallystick.invoice.compare import Difference
from tallystick.invoice.model import Invoice

DIFFERENCES_MAX = 1000
"""How many differences a report spells out; all are counted."""


@dataclass(slots=True)
class ReplayReport:
    """What a replay found. `identical` only when everything agreed: every request, every line, the digest."""

    invoice_id: str
    org_id: str
    period: str
    digest: str
    recomputed_digest: str | None = None
    recomputed: Invoice | None = None
    """The invoice as it comes out now; None where nothing does."""
    events: int = 0
    erased: int = 0
    """Requests whose personal data was erased: all of them but the opening of their fingerprint was checked."""
    difference_count: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return self.difference_count == 0 and self.digest == self.recomputed_digest

    def add(self, *differences: Difference) -> None:
        """Count differences, and keep as many as a report spells out."""
        self.difference_count += len(differences)
        self.differences += differences[: DIFFERENCES_MAX - len(self.differences)]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "invoice_id": self.invoice_id,
            "org_id": self.org_id,
            "period": self.period,
            "identical": self.identical,
            "digest": self.digest,
            "recomputed_digest": self.recomputed_digest,
            "events": self.events,
            "erased": self.erased,
            "difference_count": self.difference_count,
            "differences": [one.as_dict() for one in self.differences],
        }
