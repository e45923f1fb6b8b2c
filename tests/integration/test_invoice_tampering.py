"""What was done about invoices is proved: verify names every change, and sealing and leaving keep their state."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from billing import OCTOBER, SELLER, VOID, billed_org, findings, note, payment
from conftest import NOW
from invoicing import apply, event, record, subscribe
from leaving import let_go
from sealed_ledger import copied, copyable
from tallystick.app.erase import erase_person
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.invoice_life import finalize_month, list_life, show_life
from tallystick.app.parties import erase_org_profiles, find_profile, profile_history, set_profile
from tallystick.app.runtime import Runtime
from tallystick.core.errors import Conflict, NotFound

PROFILE = {"name": "Ann Globex", "address": ["1 Main Street"], "author": "ann", "user_id": "user-1"}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("update invoice_accounts set paid_cents = paid_cents + 1", "invoice_accounts: the invoice"),
        ("update invoice_accounts set due_at = due_at + interval '1 year'", "invoice_accounts: the invoice"),
        ("update invoice_accounts set number = 'ACME-2026-000007'", "invoice_accounts: the invoice"),
        ("delete from invoice_accounts", "is missing"),
        ("update invoice_events set amount_cents = 1 where kind = 'payment'", "invoice_events"),
        ("delete from invoice_events where kind = 'credit_note'", "numbers were given"),
        ("update number_series set last = 9 where series = 'ACME-2026'", "9 numbers were given"),
        ("update transfers set amount_pico = 1 where credit_account = 'receivable'", "transfers of money"),
        ("delete from transfers where debit_account = 'cash'", "transfers of money"),
        ("update account_balances set debit_pico = 0 where account = 'cash'", "account cash"),
        ('update billing_profile_texts set profile = \'{"name":"Else"}\'', "says something else"),
        ("delete from billing_profile_texts", "no erasure is recorded"),
        ("update billing_profiles set author = 'else'", "not in the register"),
        ("update invoices set total_cents = 1", "invoice"),
        (
            'update ledger_entries set body = replace(body, \'"amount_cents":"300"\', \'"amount_cents":"301"\')',
            "entry 3",
        ),
    ],
)
def test_a_change_by_the_owners_hand_is_found(
    server_url: str, written: tuple[str, Path], tmp_path: Path, change: str, found: str
) -> None:
    with copied(server_url, *written, tmp_path / "data") as ledger:
        with psycopg.connect(ledger.database.url) as connection:
            tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
            for (table,) in tables:
                connection.execute(f"alter table {table} disable trigger user".encode())
            assert connection.execute(change.encode()).rowcount >= 1
        told = findings(ledger)
        assert any(found in sentence for sentence in told), told


@pytest.fixture(scope="module")
def written(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A sound ledger with an invoice that was paid and credited in part."""

    def fill(runtime: Runtime) -> None:
        (life,) = billed_org(runtime)
        set_profile(runtime, "globex", PROFILE)
        record_payment(runtime, life.invoice_id, payment("p1", "3"))
        credit_invoice(runtime, life.invoice_id, note("n1", "2"))
        assert findings(runtime) == []

    folder = tmp_path_factory.mktemp("written")
    with copyable(server_url, folder, NOW, fill) as name:
        yield name, folder


def test_states_and_ids_stay_when_entries_leave_for_blocks(runtime: Runtime) -> None:
    runtime.clock = lambda: datetime(2026, 8, 3, tzinfo=UTC)  # the database's own clock lets what is of then go
    apply(runtime, SELLER)
    for org_id in ("globex", "initech"):
        subscribe(runtime, org_id)
        record(runtime, [event("r1", org_id, time=datetime(2026, 7, 15, tzinfo=UTC))])
    first, second = [one.life for one in finalize_month(runtime, "2026-07")]
    assert first is not None
    assert second is not None
    paid = record_payment(runtime, first.invoice_id, payment("p1", "3"))
    noted = credit_invoice(runtime, first.invoice_id, note("n1", "1", line=1))
    voided = void_invoice(runtime, second.invoice_id, VOID)
    before = [one.as_dict() for one in list_life(runtime)]
    let_go(runtime, runtime.clock())
    with runtime.database.operator() as connection:
        assert connection.execute("select count(*) from ledger_entries where body is not null").fetchone() == (0,)
    again = record_payment(runtime, first.invoice_id, payment("p1", "3"))
    assert (again.recorded.is_new, again.recorded.leaf) == (False, paid.recorded.leaf)
    with pytest.raises(Conflict) as other:
        record_payment(runtime, first.invoice_id, payment("p1", "4"))
    assert other.value.code == "request_id_conflict"
    for same, done in (
        (credit_invoice(runtime, first.invoice_id, note("n1", "1", line=1)), noted),
        (void_invoice(runtime, second.invoice_id, VOID), voided),
    ):
        assert (same.recorded.is_new, same.recorded.leaf) == (False, done.recorded.leaf)
    for changed in ({"amount_usd": "2"}, {"line": None}, {"reason": "else"}):
        with pytest.raises(Conflict) as conflict:
            credit_invoice(runtime, first.invoice_id, {**note("n1", "1", line=1), **changed})
        assert conflict.value.code == "request_id_conflict"
    assert {one.status for one in finalize_month(runtime, "2026-07")} == {"already_issued"}
    kept = [{**one, "state": ""} for one in before]
    assert [{**one.as_dict(), "state": ""} for one in list_life(runtime)] == kept
    assert [one.kind for one in show_life(runtime, first.invoice_id).events] == ["invoice", "payment", "credit_note"]
    more = record_payment(runtime, first.invoice_id, payment("p2", "6"))
    assert more.life.state == "paid"
    assert findings(runtime) == []


def test_a_profile_is_erased_with_its_person_unless_an_invoice_names_it(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    assert show_life(runtime, life.invoice_id).bill_to is None
    one = set_profile(runtime, "globex", PROFILE)
    two = set_profile(runtime, "globex", {**PROFILE, "name": "Ann G.", "request_id": "p2"})
    assert (one.version, two.version, two.is_new) == (1, 2, True)
    assert not set_profile(runtime, "globex", {**PROFILE, "name": "Ann G.", "request_id": "p2"}).is_new
    with pytest.raises(Conflict) as refused:
        set_profile(runtime, "globex", {**PROFILE, "name": "Another", "request_id": "p2"})
    assert refused.value.code == "request_id_conflict"
    assert erase_org_profiles(runtime, "globex", user_id="nobody") == []
    erase_person(runtime, "globex", "user-1")
    assert [one.profile for one in profile_history(runtime, "globex")] == [None, None]
    assert findings(runtime) == []


def test_an_issued_invoice_keeps_whom_it_billed(runtime: Runtime) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1")])
    with pytest.raises(NotFound):
        find_profile(runtime, "globex")
    set_profile(runtime, "globex", PROFILE)
    finalize_month(runtime, OCTOBER)
    set_profile(runtime, "globex", {**PROFILE, "name": "Moved"})
    shown = show_life(runtime, "globex/2026-10")
    assert shown.bill_to is not None
    assert shown.bill_to.profile is not None
    assert (shown.bill_to.version, shown.bill_to.profile.name) == (1, "Ann Globex")
    assert erase_org_profiles(runtime, "globex") == [2]
    assert find_profile(runtime, "globex", 1).profile is not None
    assert findings(runtime) == []
