"""What a check of a proof found."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tallystick.core.errors import TallyError

PROBLEMS_MAX = 20


@dataclass(slots=True)
class ProofReport:
    """What a check of a proof found. It is `valid` when there is no problem.

    Attributes:
        trusted_by: why the checkpoint's signature is believed: `key` (one that was given), `checkpoint` (one that was
            kept elsewhere), or None: only the key that the proof itself brings vouches for it.
        entries: how many ledger entries the proof has.
        events: how many requests of the period the invoice states.
        block: the block in which the entries were sealed.
        log_size: how many blocks the checkpoint covers.
        key: the public key that signed it.
        contract, contract_sha256, plan, time_zone: what the invoice says was agreed last in the month; `plans` has all
            that it says was agreed. The ledger commits to entries, not to terms: whether these are the ones is for the
            reader to compare.
        problems: a sentence each, the first of them.
    """

    invoice_id: str
    org_id: str
    period: str
    total_usd: str
    digest: str
    first_seq: int
    through_seq: int
    events: int
    entries: int = 0
    block: int | None = None
    sealed_at: str | None = None
    log_origin: str | None = None
    log_size: int | None = None
    key: str | None = None
    trusted_by: str | None = None
    contract: str = ""
    contract_sha256: str = ""
    plan: str = ""
    plans: list[str] = field(default_factory=list)
    time_zone: str = ""
    problems: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        """Whether everything holds."""
        return not self.problems

    def add(self, problem: str) -> None:
        """Note a problem, unless there are enough."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(problem)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {"valid": self.valid, **asdict(self)}


@contextmanager
def named(report: ProofReport) -> Iterator[None]:
    """What a step of the check cannot accept becomes a problem of the report."""
    try:
        yield
    except TallyError as error:
        report.add(error.detail)
    except (ValueError, ArithmeticError, TypeError, KeyError) as error:
        report.add(str(error) or type(error).__name__)
