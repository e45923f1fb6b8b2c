"""What happens to an invoice at once, from several processes: each thing once, and nothing is both paid and void."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from billing import OCTOBER, SELLER, VOID, billed_org, findings, money, note, payment
from conftest import NOW
from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.invoice_due import finalize_due
from tallystick.app.invoice_life import finalize_month, list_life
from tallystick.app.runtime import Runtime, open_runtime
from tallystick.app.settings import Settings
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.core.errors import TallyError


@pytest.fixture
def processes(database_url: str, tmp_path: Path) -> Iterator[list[Runtime]]:
    """Three that share a database; each has writers of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(open_runtime(Settings(database_url=database_url, data_dir=tmp_path), lambda: NOW))
            for _ in range(3)
        ]


def at_once(attempts: list[Callable[[], Any]]) -> list[Any]:
    def outcome(attempt: Callable[[], Any]) -> Any:
        try:
            return attempt()
        except TallyError as error:
            return error.code

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(outcome, attempts))


def is_balanced(runtime: Runtime) -> None:
    """What is receivable is invoices less notes and voids less payments, of each org and in sum."""
    due: dict[str, int] = {}
    for life in list_life(runtime):
        account = life.account
        assert account is not None
        assert not (account.voided and account.paid_cents)
        due[life.org_id] = due.get(life.org_id, 0) + account.due_cents
    assert {org_id: money(runtime, org_id)["receivable"] for org_id in due} == due
    with runtime.database.operator() as connection:
        ((kept,),) = connection.execute(
            "select coalesce(sum(debit_pico - credit_pico), 0)::text from account_balances where account = 'receivable'"
        ).fetchall()
    assert int(kept) == sum(due.values()) * 10**10
    assert findings(runtime) == []


@pytest.mark.parametrize("seed", range(4))
def test_payments_notes_and_voids_at_once(processes: list[Runtime], seed: int) -> None:
    lives = billed_org(processes[0], "globex", "initech", "hooli")
    order = random.Random(seed)
    attempts: list[Callable[[], Any]] = []
    for life in lives:
        for number in range(4):
            runtime = order.choice(processes)
            name = life.invoice_id
            attempts.append(lambda r=runtime, n=name, k=number: record_payment(r, n, payment(f"p{k % 2}-{n}", "4")))
            attempts.append(lambda r=runtime, n=name, k=number: credit_invoice(r, n, note(f"n{k % 3}", "4")))
        attempts += [lambda r=runtime, n=life.invoice_id: void_invoice(r, n, VOID) for runtime in processes]
    order.shuffle(attempts)
    outcomes = at_once(attempts)
    codes = {one for one in outcomes if isinstance(one, str)}
    assert codes <= {"invoice_void", "invoice_paid", "credit_exceeds_invoice"}
    is_balanced(processes[0])


def test_closing_and_issuing_at_once_while_facts_come_late(processes: list[Runtime]) -> None:
    first = processes[0]
    apply(first, SELLER)
    september = datetime(2026, 9, 20, tzinfo=UTC)
    orgs = [f"org-{number}" for number in range(5)]
    for org_id in orgs:
        subscribe(first, org_id, effective_from=datetime(2026, 9, 1, tzinfo=UTC))
        record(first, [event("r1", org_id)])
    at_once(
        [
            lambda: finalize_month(processes[0], "2026-09"),
            lambda: close_month(processes[1], OCTOBER),
            lambda: [record(first, [event("late", org_id, time=september)]) for org_id in orgs],
            lambda: finalize_due(processes[2]),
            lambda: finalize_month(processes[1], OCTOBER),
            lambda: finalize_due(processes[0]),
        ]
    )
    assert not any(one.error for one in finalize_due(first))
    lives = list(list_life(first))
    assert len(lives) == 10
    assert sorted(one.account.number for one in lives if one.account) == [f"ACME-2026-{n:06}" for n in range(1, 11)]
    is_balanced(first)


def test_a_clock_that_two_processes_advance(processes: list[Runtime]) -> None:
    apply(processes[0], SELLER)
    make_test_org(processes[0], "sandbox", datetime(2026, 1, 1, tzinfo=UTC), author="ann")
    subscribe(processes[0], "sandbox")
    april = datetime(2026, 4, 3, tzinfo=UTC)
    at_once([lambda r=r: advance_clock(r, "sandbox", to=april, author="ann") for r in processes])
    numbers = sorted(one.account.number for one in list_life(processes[0]) if one.account)
    assert numbers == [f"TEST-ACME-2026-{place:06}" for place in range(1, 4)]
    assert finalize_due(processes[1], "sandbox") == []
    is_balanced(processes[0])
