"""The check of the whole ledger as a job: once a day, and its outcome kept, whoever had it done.

What a check has found stays known until one finds nothing: a person who runs `tally verify` is heard as the job is.
"""

from __future__ import annotations

from datetime import datetime

from tallystick.app.jobs import started_by
from tallystick.app.verify import Ledger, verify_ledger
from tallystick.app.verify_report import VerifyReport
from tallystick.core.errors import Conflict
from tallystick.journal.jobs import note_run

VERIFY = "verify"
"""The job's name."""
NOT_SOUND = "ledger_not_sound"


def verify_all(ledger: Ledger) -> VerifyReport:
    """Check everything, in this process alone: others have work to do meanwhile.

    Raises:
        Conflict: `ledger_not_sound`.
        Unavailable: `database_unreachable`.
    """
    report = verify_ledger(ledger, processes=1)
    if not report.sound:
        raise not_sound(report)
    return report


def note_verification(
    ledger: Ledger, report: VerifyReport, *, org_id: str | None, started_at: datetime, now: datetime
) -> None:
    """Keep what a check has found. That one org's entries are sound says nothing of the others', and is not kept.

    Raises:
        Unavailable: `database_unreachable`.
    """
    if org_id is not None and report.sound:
        return
    with ledger.database.operator() as connection:
        note_run(
            connection,
            VERIFY,
            started_at,
            now,
            started_by("command"),
            done=report.entries,
            detail=verified_sentence(report) if report.sound else "",
            error=None if report.sound else f"{not_sound(report).detail} [{NOT_SOUND}]",
        )


def verified_sentence(report: VerifyReport) -> str:
    """What was checked."""
    return f"{report.entries:,} entries of {report.orgs:,} orgs are as they were written"


def not_sound(report: VerifyReport) -> Conflict:
    """The refusal of a ledger that is not as it was written."""
    first = report.findings.kept[0].sentence() if report.findings.kept else ""
    return Conflict(
        NOT_SOUND,
        f"{report.findings.count:,} findings, the first: {first}",
        next_step="run `tally verify`: it names what was changed",
    )
