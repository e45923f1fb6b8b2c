"""Numbers of invoices have no gaps and come once: of many processes, of orgs of one seller, and of what was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing import OCTOBER, SELLER, findings, note, payment
from conftest import NOW
from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.invoice_actions import credit_invoice, record_payment
from tallystick.app.invoice_due import finalize_due
from tallystick.app.invoice_life import finalize_month, issue_invoice, list_life, show_life
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.core.errors import Conflict
from tallystick.journal import steps

ORGS = [f"org-{number:02}" for number in range(12)]
STEPS = ["invoices.series_locked", "invoices.saved", "operations.copied", "operations.committed", "operations.answered"]


def ready(runtime: Runtime, *orgs: str) -> None:
    apply(runtime, SELLER)
    for org_id in orgs:
        subscribe(runtime, org_id, effective_from=datetime(2026, 10, 1, tzinfo=UTC))
        record(runtime, [event("r1", org_id)])


def numbers(runtime: Runtime) -> list[str]:
    return sorted(one.account.number for one in list_life(runtime) if one.account is not None)


def due(count: int) -> list[str]:
    return [f"ACME-2026-{place:06}" for place in range(1, count + 1)]


def test_processes_that_finalize_at_once_give_each_number_once(database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        runtimes = [
            stack.enter_context(open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW))
            for _ in range(3)
        ]
        ready(runtimes[0], *ORGS)
        with ThreadPoolExecutor(3) as pool:
            outcomes = list(pool.map(lambda runtime: finalize_month(runtime, OCTOBER), runtimes))
        issued = [one.org_id for results in outcomes for one in results if one.status == "issued"]
        assert sorted(issued) == ORGS
        assert numbers(runtimes[0]) == due(12)
        assert findings(runtimes[0]) == []


def test_what_is_refused_takes_no_number(runtime: Runtime) -> None:
    ready(runtime, "globex", "initech")
    (life,) = [one.life for one in finalize_month(runtime, OCTOBER, ["globex"])]
    assert life is not None
    with pytest.raises(Conflict):
        credit_invoice(runtime, life.invoice_id, note("n1", "99999"))
    assert credit_invoice(runtime, life.invoice_id, note("n2", "1")).as_dict()["note_number"] == "ACME-CN-2026-000001"
    finalize_month(runtime, OCTOBER, ["initech"])
    assert numbers(runtime) == due(2)


def test_each_year_begins_with_its_first_number(runtime: Runtime) -> None:
    ready(runtime, "globex")
    runtime.clock = lambda: datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    finalize_month(runtime, OCTOBER)
    runtime.clock = lambda: datetime(2027, 1, 1, tzinfo=UTC)
    finalize_month(runtime, "2026-11")
    assert numbers(runtime) == ["ACME-2026-000001", "ACME-2027-000001"]


@pytest.mark.parametrize("step", STEPS)
def test_a_process_that_is_killed_at_any_step_leaves_no_gap(
    runtime: Runtime, database_url: str, tmp_path: Path, step: str
) -> None:
    ready(runtime, "globex", "initech")
    close_month(runtime, OCTOBER)
    program = f"""
import os, signal, sys
from datetime import datetime, UTC
from pathlib import Path
from tallystick.app.invoice_life import issue_invoice
from tallystick.app.runtime import open_runtime
from tallystick.app.settings import Settings
from tallystick.journal import steps
def at(step):
    if step == {step!r}:
        os.kill(os.getpid(), signal.SIGKILL)
with open_runtime(Settings(database_url=os.environ["URL"], data_dir=Path(os.environ["DIR"])),
                  lambda: datetime(2026, 11, 2, 12, tzinfo=UTC)) as runtime:
    steps.install(at)
    issue_invoice(runtime, "globex/2026-10")
"""
    environment = {**os.environ, "URL": database_url, "DIR": str(tmp_path)}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert killed.returncode == -9
    assert [one.status for one in finalize_due(runtime)] in (["issued"], ["issued", "issued"])
    assert numbers(runtime) == due(2)
    assert show_life(runtime, "globex/2026-10").life.state == "open"
    assert findings(runtime) == []


def test_a_group_that_fails_on_its_way_gives_its_numbers_back(runtime: Runtime) -> None:
    ready(runtime, "globex", "initech")
    close_month(runtime, OCTOBER)
    failed: list[str] = []

    def fail_once(step: str) -> None:
        if step == "invoices.saved" and not failed:
            failed.append(step)
            raise RuntimeError("something breaks")

    steps.install(fail_once)
    try:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it becomes, it is no receipt
            issue_invoice(runtime, "globex/2026-10")
    finally:
        steps.install(None)
    assert failed
    assert numbers(runtime) == []
    issue_invoice(runtime, "initech/2026-10")
    issue_invoice(runtime, "globex/2026-10")
    assert numbers(runtime) == due(2)
    assert findings(runtime) == []


def test_the_same_asked_at_once_is_done_once(runtime: Runtime) -> None:
    ready(runtime, "globex")
    (life,) = [one.life for one in finalize_month(runtime, OCTOBER)]
    assert life is not None
    with ThreadPoolExecutor(3) as pool:
        noted = list(pool.map(lambda _: credit_invoice(runtime, life.invoice_id, note("n1", "2")), range(3)))
        paid = list(pool.map(lambda _: record_payment(runtime, life.invoice_id, payment("p1", "3")), range(3)))
        issued = list(pool.map(lambda _: issue_invoice(runtime, life.invoice_id), range(3)))
    for done in (noted, paid):
        assert sum(one.recorded.is_new for one in done) == 1
        assert len({one.recorded.leaf for one in done}) == 1
    assert {one.as_dict()["due_usd"] for one in issued} == {"5.00"}
    assert findings(runtime) == []
