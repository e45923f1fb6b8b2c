"""Invoices that are issued together share their commits, and each stands for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing import OCTOBER, SELLER, findings
from conftest import NOW
from invoicing import apply, event, record, subscribe
from journal_helpers import query
from tallystick.app.close_month import close_month
from tallystick.app.invoice_due import finalize_due
from tallystick.app.invoice_life import finalize_month, issue_invoice, list_life, show_life
from tallystick.app.issue_invoices import issue_stored
from tallystick.app.parties import erase_org_profiles, set_profile
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.journal import steps
from tallystick.journal.billing import unissued_rows

ORGS = [f"org-{number:02}" for number in range(30)]


def ready(runtime: Runtime, *orgs: str) -> None:
    apply(runtime, SELLER)
    for org_id in orgs:
        subscribe(runtime, org_id, effective_from=datetime(2026, 10, 1, tzinfo=UTC))
        record(runtime, [event("r1", org_id)])


def test_thirty_orgs_take_few_commits_and_their_numbers_in_order(runtime: Runtime) -> None:
    ready(runtime, *ORGS)
    close_month(runtime, OCTOBER)
    commits: list[str] = []
    steps.install(lambda step: commits.append(step) if step == "invoices.saved" else None)
    try:
        results = finalize_month(runtime, OCTOBER)
    finally:
        steps.install(None)
    assert len(commits) <= 5
    assert [one.org_id for one in results] == ORGS
    assert {one.status for one in results} == {"issued"}
    assert [life.account.number for one in results if (life := one.life) and life.account] == [
        f"ACME-2026-{place:06}" for place in range(1, 31)
    ]
    assert {one.status for one in finalize_month(runtime, OCTOBER)} == {"already_issued"}
    assert findings(runtime) == []


def test_one_that_cannot_be_issued_harms_no_other(runtime: Runtime) -> None:
    ready(runtime, "globex", "initech")
    close_month(runtime, OCTOBER)
    assert [one.state for one in list_life(runtime)] == ["final", "final"]
    with runtime.database.operator() as connection:
        stored = unissued_rows(connection)
    issues = list(issue_stored(runtime, [replace(stored[0], contract_sha256="0" * 64), stored[1]]))
    assert [one.error.code if one.error else one.is_new for one in issues] == ["unknown_contract", True]
    assert [one.status for one in finalize_due(runtime)] == ["issued"]
    assert findings(runtime) == []


@pytest.mark.parametrize("left", [0, 1])
def test_no_invoice_names_a_profile_that_was_erased_meanwhile(runtime: Runtime, left: int) -> None:
    ready(runtime, "globex")
    for number in range(2):
        set_profile(runtime, "globex", {"name": f"Ann {number}", "author": "ann", "user_id": f"user-{number}"})
    close_month(runtime, OCTOBER)
    erased: list[list[int]] = []

    def erase_before_it_is_written(step: str) -> None:
        if step == "operations.taken" and not erased:
            erased.append([])
            erased[0] += erase_org_profiles(runtime, "globex", user_id="user-1" if left else None)

    steps.install(erase_before_it_is_written)
    try:
        life = issue_invoice(runtime, "globex/2026-10")
    finally:
        steps.install(None)
    assert erased == [[2] if left else [1, 2]]
    assert life.state == "open"
    shown = show_life(runtime, "globex/2026-10").bill_to
    assert (None if shown is None else shown.version) == (1 if left else None)
    assert query(runtime, "select count(*) from invoice_events") == [(1,)]
    assert findings(runtime) == []


def test_a_queue_that_is_shorter_than_a_batch_is_waited_for(database_url: str, tmp_path: Path) -> None:
    settings = Settings(database_url=database_url, data_dir=tmp_path, queue_events_max=4)
    with open_runtime(settings, lambda: NOW) as runtime:
        ready(runtime, *ORGS)
        assert {one.status for one in finalize_month(runtime, OCTOBER)} == {"issued"}
        assert findings(runtime) == []
