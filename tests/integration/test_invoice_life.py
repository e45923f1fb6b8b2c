"""The life of an invoice: numbered, paid, credited, voided, each once, and the books add up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from billing import OCTOBER, SELLER, VOID, billed_org, findings, money, note, payment
from invoicing import apply, event, record, subscribe
from tallystick.app.close_month import close_month
from tallystick.app.invoice_actions import credit_invoice, due_csv, due_invoices, record_payment, void_invoice
from tallystick.app.invoice_due import finalize_due
from tallystick.app.invoice_life import finalize_month, issue_invoice, list_life, show_life
from tallystick.app.parties import set_profile
from tallystick.app.runtime import Runtime
from tallystick.core.errors import BadInput, Conflict, NotFound


def test_a_finalized_invoice_is_open_numbered_and_due(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    assert life.state == "open"
    assert life.account is not None
    assert life.account.number == "ACME-2026-000001"
    assert life.account.due_at == life.account.issued_at + timedelta(days=14)
    assert money(runtime) == {"receivable": 1000, "revenue": -1000}
    assert findings(runtime) == []
    again = finalize_month(runtime, OCTOBER)
    assert [(one.status, one.life) for one in again] == [("already_issued", life)]


def test_an_invoice_is_paid_in_parts_and_the_rest_is_the_customers(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    part = record_payment(runtime, life.invoice_id, payment("p1", "4"))
    assert (part.life.state, part.life.as_dict()["due_usd"]) == ("partly_paid", "6.00")
    rest = record_payment(runtime, "globex/2026-10", payment("p2", "8.50"))
    assert (rest.life.state, rest.life.as_dict()["due_usd"]) == ("paid", "-2.50")
    back = record_payment(runtime, "ACME-2026-000001", payment("p3", "2.5", returned=True))
    assert back.life.as_dict()["due_usd"] == "0.00"
    assert money(runtime) == {"receivable": 0, "revenue": -1000, "cash": 1000}
    assert [(one.kind, one.amount_cents) for one in show_life(runtime, life.invoice_id).events] == [
        ("invoice", 1000), ("payment", 400), ("payment", 850), ("payment", -250),
    ]  # fmt: skip
    assert findings(runtime) == []


def test_a_payment_is_recorded_once_however_often_its_event_comes(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    said = payment("evt_1", "4", provider="stripe")
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: record_payment(runtime, life.invoice_id, said), range(3)))
    assert sum(one.recorded.is_new for one in done) == 1
    assert {one.recorded.seq for one in done} == {done[0].recorded.seq}
    record_payment(runtime, life.invoice_id, payment("evt_1", "4", provider="other"))
    with pytest.raises(Conflict) as refused:
        record_payment(runtime, life.invoice_id, payment("evt_1", "5", provider="stripe"))
    assert refused.value.code == "request_id_conflict"
    assert money(runtime)["cash"] == 800


def test_money_of_another_currency_and_amounts_that_are_none_move_nothing(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    for said, code in (
        (payment("p", "1", currency="EUR"), "currency_not_supported"),
        (payment("p", "0"), "invalid_amount"),
        (payment("p", "-1"), "invalid_amount"),
        (payment("p", "0.001"), "amount_too_fine"),
        (payment("p", "10000000000001"), "invalid_amount"),
    ):
        with pytest.raises(BadInput) as refused:
            record_payment(runtime, life.invoice_id, said)
        assert refused.value.code == code
    with pytest.raises(Conflict) as more:
        record_payment(runtime, life.invoice_id, payment("p", "1", returned=True))
    assert more.value.code == "more_than_was_paid"
    with pytest.raises(NotFound):
        record_payment(runtime, "globex/2026-09", payment("p", "1"))
    assert money(runtime) == {"receivable": 1000, "revenue": -1000}


def test_a_credit_note_takes_back_what_is_left_and_no_more(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    first = credit_invoice(runtime, life.invoice_id, note("n1", "2.50", account="sla_expense"))
    assert first.as_dict()["note_number"] == "ACME-CN-2026-000001"
    with pytest.raises(Conflict) as refused:
        credit_invoice(runtime, life.invoice_id, note("n2", "7.51"))
    assert refused.value.code == "credit_exceeds_invoice"
    second = credit_invoice(runtime, life.invoice_id, note("n2", "7.50"))
    assert second.as_dict()["note_number"] == "ACME-CN-2026-000002"
    assert second.life.state == "paid"
    assert money(runtime) == {"receivable": 0, "revenue": -250, "sla_expense": 250}
    again = credit_invoice(runtime, life.invoice_id, note("n1", "2.50", account="sla_expense"))
    assert (again.recorded.is_new, again.as_dict()["note_number"]) == (False, "ACME-CN-2026-000001")
    assert findings(runtime) == []


def test_notes_on_a_line_take_back_no_more_than_the_line(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    credit_invoice(runtime, life.invoice_id, note("n1", "6", line=1))
    with pytest.raises(Conflict) as refused:
        credit_invoice(runtime, life.invoice_id, note("n2", "4.01", line=1))
    assert refused.value.code in ("credit_exceeds_line", "credit_exceeds_invoice")
    with pytest.raises(Conflict) as beyond:
        credit_invoice(runtime, life.invoice_id, note("n3", "0.01", line=2))
    assert beyond.value.code == "credit_exceeds_line"
    with pytest.raises(BadInput) as unknown:
        credit_invoice(runtime, life.invoice_id, note("n4", "1", line=99))
    assert unknown.value.code == "unknown_line"
    credit_invoice(runtime, life.invoice_id, note("n5", "4", line=1))


def test_a_void_takes_all_back_unless_something_was_paid(runtime: Runtime) -> None:
    first, second = billed_org(runtime, "globex", "initech")
    record_payment(runtime, first.invoice_id, payment("p1", "1"))
    with pytest.raises(Conflict) as paid:
        void_invoice(runtime, first.invoice_id, VOID)
    assert paid.value.code == "invoice_paid"
    credit_invoice(runtime, second.invoice_id, note("n1", "1"))
    voided = void_invoice(runtime, second.invoice_id, VOID)
    assert voided.life.state == "void"
    assert void_invoice(runtime, second.invoice_id, VOID).recorded.seq == voided.recorded.seq
    assert money(runtime, "initech") == {"receivable": 0, "revenue": 0}
    for attempt in (
        lambda: record_payment(runtime, second.invoice_id, payment("p", "1")),
        lambda: credit_invoice(runtime, second.invoice_id, note("n", "1")),
        lambda: void_invoice(runtime, second.invoice_id, {**VOID, "request_id": "other"}),
    ):
        with pytest.raises(Conflict) as refused:
            attempt()
        assert refused.value.code == "invoice_void"
    assert findings(runtime) == []


def test_an_invoice_is_overdue_by_time_alone(runtime: Runtime) -> None:
    (life,) = billed_org(runtime)
    assert life.account is not None
    due_at = life.account.due_at
    runtime.clock = lambda: due_at - timedelta(microseconds=1)
    assert [one.state for one in list_life(runtime)] == ["open"]
    runtime.clock = lambda: due_at
    assert [one.state for one in list_life(runtime, state="overdue")] == ["overdue"]
    record_payment(runtime, life.invoice_id, payment("p1", "10"))
    assert list(list_life(runtime, state="overdue")) == []


def test_what_is_due_is_exported_and_no_name_is_a_formula(runtime: Runtime) -> None:
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    set_profile(runtime, "globex", {"name": "=cmd|' /C calc'!A0", "author": "ann"})
    (life,) = billed_org(runtime)
    (due,) = due_invoices(runtime)
    assert (due["number"], due["due_usd"], due["bill_to"]) == ("ACME-2026-000001", "10.00", "=cmd|' /C calc'!A0")
    text = "".join(due_csv([due]))
    assert "'=cmd" in text
    assert not any(cell.startswith("=") for cell in text.replace('"', "").replace("\r\n", ",").split(","))
    record_payment(runtime, life.invoice_id, payment("p1", "10"))
    assert due_invoices(runtime) == []


def test_a_month_is_a_draft_until_its_late_window_is_over(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", effective_from=datetime(2026, 10, 10, tzinfo=UTC))
    record(runtime, [event("r1")])
    runtime.clock = lambda: datetime(2026, 11, 1, 23, 59, 59, tzinfo=UTC)
    (draft,) = list_life(runtime, state="draft")
    assert (draft.period, draft.state, draft.account) == (OCTOBER, "draft", None)
    (early,) = close_month(runtime, OCTOBER)
    assert early.error is not None
    assert early.error.code == "late_window_open"
    assert finalize_due(runtime) == []
    runtime.clock = lambda: datetime(2026, 11, 2, tzinfo=UTC)
    assert [(one.org_id, one.period, one.status) for one in finalize_due(runtime)] == [("globex", OCTOBER, "issued")]
    assert finalize_due(runtime) == []
    assert list(list_life(runtime, state="draft")) == []
    (issued,) = list_life(runtime, org_id="globex")
    assert issued.invoice_id == draft.invoice_id


def test_closing_within_the_late_window_is_said_outright(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex")
    runtime.clock = lambda: datetime(2026, 11, 1, tzinfo=UTC)
    (result,) = finalize_month(runtime, OCTOBER, ["globex"], before_late_window=True)
    assert result.status == "issued"


def test_what_was_closed_and_not_issued_is_issued_by_the_next_run(runtime: Runtime) -> None:
    apply(runtime)
    subscribe(runtime, "globex", effective_from=datetime(2026, 10, 1, tzinfo=UTC))
    close_month(runtime, OCTOBER)
    (final,) = list_life(runtime)
    assert final.state == "final"
    with pytest.raises(NotFound) as refused:
        record_payment(runtime, final.invoice_id, payment("p1", "1"))
    assert refused.value.code == "invoice_not_issued"
    assert [one.status for one in finalize_due(runtime)] == ["issued"]
    assert issue_invoice(runtime, final.invoice_id).state == "open"
