"""Checking the ledger while it is at work: what is half done is not damage, and what is damaged still is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from invoicing import event, record
from tallystick.app.erase import ERASE_STEPS, erase_person
from tallystick.app.runtime import Runtime
from tallystick.app.seal import SEAL_STEPS, block_store, seal_once
from tallystick.app.verify import verify_ledger
from tallystick.app.verify_report import VerifyReport
from tallystick.journal import steps

HALF_DONE_SECONDS = 0.4  # longer than a check of so few entries takes


@contextmanager
def checked_at(runtime: Runtime, *names: str) -> Iterator[list[Future[VerifyReport]]]:
    """Check the ledger each time that one of these steps is reached, and let the work rest there for a while."""
    reports: list[Future[VerifyReport]] = []
    with ThreadPoolExecutor(len(names)) as pool:

        def check(step: str) -> None:
            if step in names:
                reports.append(pool.submit(verify_ledger, runtime))
                time.sleep(HALF_DONE_SECONDS)

        steps.install(check)
        try:
            yield reports
        finally:
            steps.install(None)


@pytest.mark.parametrize(
    ("names", "work"),
    [
        (SEAL_STEPS[4:], lambda runtime: seal_once(runtime, everything=True)),
        (ERASE_STEPS[:4], lambda runtime: erase_person(runtime, "globex", "user-1")),
    ],
)
def test_work_under_way_is_not_taken_for_damage(
    runtime: Runtime, names: tuple[str, ...], work: Callable[[Runtime], object]
) -> None:
    record(runtime, [event("r1"), event("r2", user_id="user-2"), event("a1", "acme")])
    seal_once(runtime, everything=True)
    record(runtime, [event("r3"), event("a2", "acme")])
    with checked_at(runtime, *names) as reports:
        work(runtime)
    assert len(reports) >= len(names)
    assert [one.result().findings.kept for one in reports] == [[]] * len(reports)
    assert verify_ledger(runtime).sound


def test_a_checkpoint_that_a_dead_run_has_left_out_is_missed(runtime: Runtime) -> None:
    record(runtime, [event("r1")])

    class Killed(Exception):
        pass

    def die(step: str) -> None:
        if step == "seal.committed":
            raise Killed

    steps.install(die)
    try:
        with pytest.raises(Killed):
            seal_once(runtime, everything=True)
    finally:
        steps.install(None)
    (finding,) = verify_ledger(runtime).findings.kept
    assert (finding.check, "no checkpoint covers block 1" in finding.detail) == ("checkpoint", True)


def test_a_note_of_blocks_that_the_database_does_not_know_is_named(runtime: Runtime) -> None:
    """As when the last block's rows were removed, or the database was restored from an older backup."""
    record(runtime, [event("r1")])
    seal_once(runtime, everything=True)
    note = block_store(runtime.settings).root / "checkpoints" / "000000000002.note"
    note.write_text("a signed one")
    (finding,) = verify_ledger(runtime).findings.kept
    assert (finding.check, finding.file) == ("note_file", "checkpoints/000000000002.note")
