"""What a check of the ledger finds, and how it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

FINDINGS_MAX = 200
"""How many findings a report spells out; all are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it was written.

    Attributes:
        check: what was being checked, in stable snake_case; docs/proofs.md lists them.
        detail: what is wrong, a sentence.
        org_id: whose it is, when it is an org's.
        seq: the entry, when it is one.
        file: the file, relative to the folder of blocks, when it is in one.
    """

    check: str
    detail: str
    org_id: str | None = None
    seq: int | None = None
    file: str | None = None

    def sentence(self) -> str:
        """The finding for a person."""
        where = [] if self.org_id is None else [self.org_id if self.seq is None else f"{self.org_id} entry {self.seq}"]
        where += [] if self.file is None else [self.file]
        return f"{', '.join(where)}: {self.detail}" if where else self.detail


@dataclass(slots=True)
class Findings:
    """Findings as they come up: all are counted, the first are kept."""

    count: int = 0
    kept: list[Finding] = field(default_factory=list)

    def add(
        self, check: str, detail: str, org_id: str | None = None, seq: int | None = None, file: str | None = None
    ) -> None:
        """Note one."""
        self.count += 1
        if len(self.kept) < FINDINGS_MAX:
            self.kept.append(Finding(check, detail, org_id, seq, file))

    def extend(self, others: Findings) -> None:
        """Add what another check has found."""
        self.count += others.count
        self.kept += others.kept[: FINDINGS_MAX - len(self.kept)]


@dataclass(slots=True)
class VerifyReport:
    """What was checked and what was found; `sound` when nothing was.

    Attributes:
        entries: ledger entries, each in the database, in a block, or in both.
        archived: those of them that are in blocks alone.
        operations: those of them that are operations on orgs' accounts.
        erased: those of them whose personal data was erased on request.
        checkpoint: the size of the newest checkpoint, None when nothing is sealed.
        keys: the public keys that checkpoints are signed with.
        kept_checkpoint: the size of the checkpoint that was given to compare with.
    """

    orgs: int = 0
    entries: int = 0
    archived: int = 0
    operations: int = 0
    erased: int = 0
    blocks: int = 0
    checkpoints: int = 0
    invoices: int = 0
    checkpoint: int | None = None
    keys: list[str] = field(default_factory=list)
    kept_checkpoint: int | None = None
    findings: Findings = field(default_factory=Findings)

    @property
    def sound(self) -> bool:
        """Whether everything is as it was written."""
        return self.findings.count == 0

    def first_bad(self) -> dict[str, Any]:
        """The first org, with its first bad entry, and the first file that anything is wrong with."""
        kept = self.findings.kept
        orgs = sorted({one.org_id for one in kept if one.org_id is not None})
        org = orgs[0] if orgs else None
        seqs = [one.seq for one in kept if one.org_id == org and one.seq is not None]
        files = sorted({one.file for one in kept if one.file is not None})
        return {"org_id": org, "seq": min(seqs, default=None), "file": files[0] if files else None}

    def as_dict(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return {
            "sound": self.sound,
            "orgs": self.orgs,
            "entries": self.entries,
            "archived": self.archived,
            "operations": self.operations,
            "erased": self.erased,
            "blocks": self.blocks,
            "checkpoints": self.checkpoints,
            "invoices": self.invoices,
            "checkpoint": self.checkpoint,
            "keys": self.keys,
            "kept_checkpoint": self.kept_checkpoint,
            "finding_count": self.findings.count,
            "first_bad": None if self.sound else self.first_bad(),
            "findings": [asdict(one) for one in self.findings.kept],
        }
