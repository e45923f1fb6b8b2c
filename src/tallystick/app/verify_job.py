"""The check of the whole ledger as a job: once a day, and its outcome kept, whoever had it done.

What a check has found stays known until one finds nothing: a person who runs `tally verify` is heard as the job is.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from tallystick.app.jobs import started_by
from tallystick.app.settings import Settings
from tallystick.app.verify_report import VerifyReport
from tallystick.core.errors import Conflict, Unavailable
from tallystick.journal.database import Connection
from tallystick.journal.jobs import RUNS_KEPT, Run, last_runs, note_run

if TYPE_CHECKING:  # a server looks at outcomes; what checks takes long to load, and runs elsewhere
    from tallystick.app.verify import Ledger

VERIFY = "verify"
"""The job's name."""
NOT_SOUND = "ledger_not_sound"
_LOOK_SECONDS = 0.05


class Verified(NamedTuple):
    """What a check that found nothing has checked."""

    entries: int
    orgs: int

    def sentence(self) -> str:
        """The same for a person."""
        return f"{self.entries:,} entries of {self.orgs:,} orgs are as they were written"


def verify_apart(settings: Settings, is_stopping: Callable[[], bool] = lambda: False) -> Verified:
    """Check everything, in a process of its own: whoever serves is not to be slowed down by it.

    Raises:
        Conflict: `ledger_not_sound`.
        Unavailable: `verification_failed`: it could not be checked.
    """
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tallystick.app.verify_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for whoever serves, who ends this
    ) as child:
        assert child.stdin is not None  # noqa: S101 - it was asked for
        assert child.stdout is not None  # noqa: S101
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(json.dumps({"settings": settings.model_dump(mode="json")}).encode() + b"\n")
                child.stdin.flush()
            while child.poll() is None:
                if is_stopping():
                    raise _not_checked("it was ended before it was done")
                time.sleep(_LOOK_SECONDS)
            said = child.stdout.read()
        finally:
            child.kill()
    return _read(said)


def _read(said: bytes) -> Verified:
    answer = json.loads(said) if said else {}
    if "findings" not in answer:
        raise _not_checked(answer.get("error", {}).get("detail", "its process was killed"))
    if answer["findings"]:
        raise _not_sound(answer["findings"], answer["first"])
    return Verified(answer["entries"], answer["orgs"])


def last_outcome(connection: Connection) -> Run | None:
    """The last check that came to an end: whether it found something (`error`) or nothing; None: there was none."""
    runs = last_runs(connection, VERIFY, RUNS_KEPT)
    return next((run for run in runs if run.outcome == "done" or NOT_SOUND in (run.error or "")), None)


def note_verification(
    ledger: Ledger, report: VerifyReport, *, org_id: str | None, started_at: datetime, now: datetime
) -> None:
    """Keep what a check has found. That one org's entries are sound says nothing of the others', and is not kept.

    Raises:
        Unavailable: `database_unreachable`.
    """
    if org_id is not None and report.sound:
        return
    error = None
    if not report.sound:
        found = _not_sound(report.findings.count, report.findings.kept[0].sentence())
        error = f"{found.detail} [{found.code}]"
    with ledger.database.operator() as connection:
        note_run(
            connection,
            VERIFY,
            started_at,
            now,
            started_by("command"),
            done=report.entries,
            detail=Verified(report.entries, report.orgs).sentence() if report.sound else "",
            error=error,
        )


def _not_sound(findings: int, first: str) -> Conflict:
    return Conflict(
        NOT_SOUND,
        f"{findings:,} findings, the first: {first}",
        next_step="run `tally verify`: it names what was changed",
    )


def _not_checked(why: str) -> Unavailable:
    return Unavailable("verification_failed", f"the ledger could not be checked: {why}", next_step="run `tally verify`")
