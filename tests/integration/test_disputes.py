"""Disputes: replayed at once, decided once; what is given back comes in the decision's transaction, and never twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from accounts import call, end, give, hold, open_shop
from billing import OCTOBER, findings, money, note, payment
from disputing import DECIDED, dispute, dispute_requests, id_of, november, said, tiered_org, uphold
from invoicing import event, record, subscribe
from journal_helpers import query, tamper
from tallystick.app.close_month import close_month
from tallystick.app.dispute_evidence import attach_pending, remake_evidence, stored_evidence
from tallystick.app.disputes import begin_review, open_dispute, reject_dispute, withdraw_dispute
from tallystick.app.disputes_shown import list_disputes, show_dispute
from tallystick.app.erase import erase_person
from tallystick.app.explain_entry import show_entry
from tallystick.app.invoice_actions import credit_invoice, record_payment, void_invoice
from tallystick.app.invoice_life import finalize_month, show_life
from tallystick.app.refund import refund
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.app.wallet import show_wallet
from tallystick.core.errors import BadInput, Conflict, NotFound, TallyError, Unavailable
from tallystick.journal.steps import install


def code_of(error: pytest.ExceptionInfo[Any]) -> str:
    return str(error.value.code)


def test_an_invoice_is_disputed_replayed_and_taken_back_in_part(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    done = dispute(runtime, invoice_id=life.account.number)  # type: ignore[union-attr]
    shown = done.as_dict()
    assert (shown["state"], shown["disputed_usd"], shown["differences"]) == ("open", "20.00", 0)
    assert shown["answer_due_at"] == "2026-11-16T12:00:00Z"
    assert done.evidence_pending is None
    reviewed = begin_review(runtime, id_of(done), {"author": "ann"}, org_id="globex")
    assert reviewed.as_dict()["state"] == "under_review"
    decided = uphold(runtime, done, amount_usd="3.50")
    assert (decided["state"], decided["upheld_usd"]) == ("upheld", "3.50")
    assert decided["credit_note_number"] == "ACME-CN-2026-000001"
    assert [one["step"] for one in decided["history"]] == ["opened", "evidence", "review_begun", "upheld"]
    assert money(runtime) == {"receivable": 1650, "revenue": -2000, "dispute_expense": 350}
    assert uphold(runtime, done, amount_usd="3.50")["is_new"] is False
    assert money(runtime)["dispute_expense"] == 350
    with pytest.raises(Conflict) as refused:
        reject_dispute(runtime, id_of(done), DECIDED, org_id="globex")
    assert code_of(refused) == "dispute_decided"
    entry = show_entry(runtime, "globex", int(id_of(done)[1:]))
    assert entry["dispute"]["disputed_usd"] == "20.00"
    assert [one["what"] for one in entry["referred_to_by"]][-1] == f"dispute {id_of(done)} upheld: 3.50 USD given back"
    assert findings(runtime) == []


def test_requests_are_charged_what_their_month_would_have_been_less(runtime: Runtime) -> None:
    tiered_org(runtime)
    two = dispute_requests(runtime, "a", "b")
    assert two.as_dict()["disputed_usd"] == "15.00"  # 500 at 0.02 and 500 at 0.01: the tier is left first
    text = stored_evidence(runtime, "globex", two.shown.account)
    assert '"charged_usd":"10"' in text  # each alone
    assert "500 tokens_in at 0.15 USD per 1,000,000" in text
    with pytest.raises(Conflict) as refused:
        dispute_requests(runtime, "c", "b", request_id="d2")
    assert code_of(refused) == "already_disputed"
    rest = dispute_requests(runtime, "c", request_id="d3")
    assert rest.as_dict()["disputed_usd"] == "5.00"  # of 10.00, what is left of the invoice's 20.00
    assert uphold(runtime, two)["upheld_usd"] == "15.00"
    assert money(runtime) == {"receivable": 500, "revenue": -2000, "dispute_expense": 1500}
    assert findings(runtime) == []


def test_disputes_of_a_line_never_add_up_to_more_than_the_line(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    credit_invoice(runtime, life.invoice_id, note("n1", "4", line=1))
    first = dispute(runtime, invoice_id=life.invoice_id, line=1, amount_usd="10")
    with pytest.raises(Conflict) as refused:
        dispute(runtime, "d2", invoice_id=life.invoice_id, line=1, amount_usd="6.01")
    assert code_of(refused) == "dispute_exceeds_amount"
    second = dispute(runtime, "d2", invoice_id=life.invoice_id, line=1)
    assert second.as_dict()["disputed_usd"] == "6.00"
    with pytest.raises(Conflict) as nothing:
        dispute(runtime, "d3", invoice_id=life.invoice_id)
    assert code_of(nothing) == "nothing_to_dispute"
    withdraw_dispute(runtime, id_of(second), DECIDED, org_id="globex")
    assert dispute(runtime, "d3", invoice_id=life.invoice_id).as_dict()["disputed_usd"] == "6.00"
    with pytest.raises(Conflict) as too_much:
        uphold(runtime, first, amount_usd="10.01")
    assert code_of(too_much) == "award_exceeds_dispute"
    uphold(runtime, first)
    assert money(runtime) == {"receivable": 600, "revenue": -1600, "dispute_expense": 1000}
    assert findings(runtime) == []


def test_what_is_on_no_invoice_yet_is_given_for_the_next_one(runtime: Runtime) -> None:
    tiered_org(runtime)
    record(runtime, [november("n1", meters={"tokens_in": 800})])
    done = dispute_requests(runtime, "n1")
    assert (done.as_dict()["invoice_id"], done.as_dict()["disputed_usd"]) == (None, "8.00")
    uphold(runtime, done, amount_usd="5")
    later = replace(runtime, clock=lambda: datetime.fromisoformat("2026-12-03T00:00:00Z"))
    (result,) = finalize_month(later, "2026-11", ["globex"])
    assert result.life is not None
    assert result.life.as_dict()["due_usd"] == "3.00"
    assert money(runtime)["dispute_expense"] == 500
    assert findings(runtime) == []


def test_what_an_open_month_was_disputed_for_is_not_disputed_once_more_on_its_invoice(runtime: Runtime) -> None:
    tiered_org(runtime)
    record(runtime, [november("n1", meters={"tokens_in": 800}), november("n2", meters={"tokens_in": 100})])
    before = dispute_requests(runtime, "n1")
    small = dispute_requests(runtime, "n2", request_id="d2")
    assert (before.as_dict()["disputed_usd"], small.as_dict()["disputed_usd"]) == ("8.00", "1.00")
    uphold(runtime, small)  # what is given before the invoice is issued, that uses itself
    later = replace(runtime, clock=lambda: datetime.fromisoformat("2026-12-03T00:00:00Z"))
    (result,) = finalize_month(later, "2026-11", ["globex"])
    assert result.life is not None
    assert result.life.as_dict()["due_usd"] == "8.00"
    with pytest.raises(Conflict) as refused:
        dispute(later, "d3", invoice_id="globex/2026-11")
    assert code_of(refused) == "nothing_to_dispute"
    uphold(later, before, amount_usd="5")
    rest = dispute(later, "d3", invoice_id="globex/2026-11", line=1)
    assert rest.as_dict()["disputed_usd"] == "3.00"
    uphold(later, rest)
    assert money(later)["dispute_expense"] == 400, "1 that November used, and a note of 3; 5 wait for December"
    assert findings(later) == []


def test_charged_credits_go_back_to_their_wallet_and_never_twice(runtime: Runtime) -> None:
    open_shop(runtime, acme="wallet")
    give(runtime, "100")
    for name in ("1", "2"):
        end(runtime, hold(runtime, f"a{name}", work_key=f"w{name}")["hold"]["hold_id"], events=[call(f"e{name}")])
    done = dispute_requests(runtime, "e1", "e2", org_id="acme")
    assert (done.as_dict()["disputed_credits"], done.as_dict()["disputed_usd"]) == ("10", "0.00")
    evidence = stored_evidence(runtime, "acme", done.shown.account)
    assert "charged 5 credits" in evidence
    settlements = [one["settlement_id"] for one in done.as_dict()["settlements"]]
    members = {"org_id": "acme", "request_id": "f1", "author": "ann", "reason": "kind"}
    refund(runtime, {**members, "settlement_id": settlements[0], "credits": "2"})
    with pytest.raises(Conflict) as refused:
        uphold(runtime, done, "acme")
    assert code_of(refused) == "refund_exceeds_charge"
    assert show_dispute(runtime, "acme", id_of(done)).account.state == "open"
    decided = uphold(runtime, done, "acme", credits="3")
    assert decided["upheld_credits"] == "3"
    assert show_wallet(runtime, "acme")["available"] == "95"
    with pytest.raises(Conflict) as again:
        refund(runtime, {**members, "request_id": "f2", "settlement_id": settlements[0]})
    assert code_of(again) == "refund_exceeds_charge"
    assert findings(runtime) == []


def test_a_difference_that_the_replay_finds_is_what_is_proposed(runtime: Runtime, database_url: str) -> None:
    (life,) = tiered_org(runtime)
    tamper(
        database_url,
        "update ledger_entries set meter_quantities = '{400}', line_quantities = '{400}' where request_id = 'c'",
    )
    done = dispute(runtime, invoice_id=life.invoice_id, line=1)
    shown = done.as_dict()
    assert shown["differences"] > 0
    assert shown["proposed_usd"] == "2.00"
    assert uphold(runtime, done)["upheld_usd"] == "2.00"
    assert money(runtime)["dispute_expense"] == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"invoice_id": "globex/2026-09"}, "unknown_invoice"),
        ({"invoice_id": "INV-1"}, "unknown_invoice"),
        ({"line": 9}, "unknown_line"),
        ({"org_id": "initech"}, "unknown_invoice"),
        ({"invoice_id": None, "request_ids": ["zz"], "org_id": "globex"}, "unknown_request"),
        ({"invoice_id": None, "request_ids": ["a"]}, "missing_field"),
        ({"invoice_id": None, "request_ids": ["a"], "org_id": "nobody"}, "unknown_org"),
        ({"request_ids": ["a"]}, "invalid_request"),
        ({"invoice_id": None}, "disputed_unclear"),
        ({"amount_usd": "20.01"}, "dispute_exceeds_amount"),
        ({"amount_usd": "1.001"}, "amount_too_fine"),
        ({"amount_usd": "-1"}, "invalid_amount"),
        ({"reason": ""}, "empty_text"),
        ({"more": 1}, "unknown_field"),
    ],
)
def test_what_cannot_be_disputed_is_refused_and_moves_nothing(
    billed: Runtime, change: dict[str, Any], code: str
) -> None:
    raw = {name: value for name, value in {**said(invoice_id="globex/2026-10"), **change}.items() if value is not None}
    before = query(billed, "select sum(last_seq) from org_heads")
    with pytest.raises(TallyError) as refused:
        open_dispute(billed, raw)
    assert refused.value.code == code
    assert refused.value.next_step
    assert query(billed, "select sum(last_seq) from org_heads") == before


@pytest.fixture
def billed(runtime: Runtime) -> Runtime:
    tiered_org(runtime, "globex", "initech")
    return runtime


def test_somebody_elses_invoice_does_not_exist_to_a_customer(billed: Runtime) -> None:
    theirs = show_life(billed, "initech/2026-10").life.invoice_id
    known, unknown = [
        _refusal(billed, {"invoice_id": name}, "globex") for name in (theirs, "inv_00000000000000000000000000000000")
    ]
    assert known.replace(theirs, "X") == unknown.replace("inv_00000000000000000000000000000000", "X")
    assert "unknown_invoice" in known
    assert "unknown_request" in _refusal(billed, {"request_ids": ["a"], "org_id": "initech"}, "globex")
    assert "unknown_invoice" in _refusal(billed, {"invoice_id": "initech/2026-09"}, "globex")
    assert list_disputes(billed) == []


def _refusal(runtime: Runtime, more: dict[str, Any], org_id: str) -> str:
    with pytest.raises(TallyError) as refused:
        open_dispute(runtime, said(**more), org_id=org_id)
    return str(refused.value.as_dict())


def test_after_the_contracts_window_nothing_can_be_disputed_any_more(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    open_shop(runtime, acme="wallet")
    give(runtime, "100")
    end(runtime, hold(runtime)["hold"]["hold_id"], events=[call()])
    ends = datetime.fromisoformat("2027-01-01T12:00:00Z")
    late = replace(runtime, clock=lambda: ends)
    in_time = replace(runtime, clock=lambda: ends - timedelta(seconds=1))
    for more in ({"invoice_id": life.invoice_id}, {"org_id": "acme", "request_ids": ["e1"]}):
        with pytest.raises(Conflict) as refused:
            dispute(late, **more)
        assert code_of(refused) == "dispute_window_over"
        assert dispute(in_time, **more).is_new


def test_a_paid_invoice_is_disputed_and_a_void_one_is_not(runtime: Runtime) -> None:
    paid, voided = tiered_org(runtime, "globex", "initech")
    record_payment(runtime, paid.invoice_id, payment("p1", "20"))
    void_invoice(runtime, voided.invoice_id, {"author": "ann", "reason": "twice"})
    with pytest.raises(Conflict) as refused:
        dispute(runtime, invoice_id=voided.invoice_id)
    assert code_of(refused) == "invoice_void"
    done = dispute(runtime, invoice_id=paid.invoice_id)
    uphold(runtime, done, amount_usd="7")
    assert show_life(runtime, paid.invoice_id).life.as_dict()["due_usd"] == "-7.00"
    opened = dispute(runtime, "d2", invoice_id=paid.invoice_id)
    assert opened.as_dict()["disputed_usd"] == "13.00"
    with pytest.raises(NotFound) as unissued:
        apply_stored_only(runtime)
    assert code_of(unissued) == "invoice_not_issued"
    assert findings(runtime) == []


def apply_stored_only(runtime: Runtime) -> None:
    """Dispute an invoice that is stored and has no number yet."""
    subscribe(runtime, "hooli", "tiered")
    record(runtime, [event("a", "hooli", meters={"tokens_in": 500})])
    (result,) = close_month(runtime, OCTOBER, ["hooli"], before_late_window=True)
    assert result.invoice is not None
    dispute(runtime, "d9", invoice_id=result.invoice.invoice_id)


def test_the_same_request_at_once_from_several_is_one_dispute_with_one_evidence(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: dispute(runtime, invoice_id=life.invoice_id), range(4)))
    assert {id_of(one) for one in done} == {id_of(done[0])}
    assert sum(one.is_new for one in done) == 1
    assert query(runtime, "select count(*) from ledger_entries where kind = 'dispute'") == [(2,)]
    with pytest.raises(Conflict) as refused:
        dispute(runtime, invoice_id=life.invoice_id, reason="something else")
    assert code_of(refused) == "request_id_conflict"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: _try(runtime, done[0]), range(4)))
    assert answers.count("upheld") >= 1
    assert set(answers) <= {"upheld", "dispute_decided"}
    assert money(runtime)["dispute_expense"] == 2000
    assert findings(runtime) == []


def _try(runtime: Runtime, done: Any) -> str:
    try:
        return str(uphold(runtime, done)["state"])
    except Conflict as error:
        return error.code


@pytest.mark.parametrize("step", ["disputes.saved", "operations.copied", "operations.committed"])
def test_a_decision_that_is_broken_off_gives_back_all_or_nothing(runtime: Runtime, step: str) -> None:
    (life,) = tiered_org(runtime)
    done = dispute(runtime, invoice_id=life.invoice_id)
    kills = [step]

    def kill(reached: str) -> None:
        if [reached] == kills:
            kills.clear()
            raise psycopg.OperationalError("the connection is gone")

    install(kill)
    try:
        uphold(runtime, done, amount_usd="3")
    except (Unavailable, psycopg.Error):
        pass  # it is sent again
    finally:
        install(None)
    assert not kills
    assert uphold(runtime, done, amount_usd="3")["state"] == "upheld"
    assert money(runtime)["dispute_expense"] == 300
    assert query(runtime, "select count(*) from ledger_entries where kind = 'credit_note'") == [(1,)]
    assert findings(runtime) == []


def test_evidence_that_could_not_be_made_is_made_by_the_job_and_is_the_same_ever_after(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    (life,) = tiered_org(runtime)
    monkeypatch.setattr("tallystick.app.dispute_evidence.AT_ONCE_MAX", 2)
    big = dispute(runtime, invoice_id=life.invoice_id, amount_usd="1")
    assert big.evidence_pending is not None
    with pytest.raises(Conflict) as pending:
        stored_evidence(runtime, "globex", big.shown.account)
    assert code_of(pending) == "evidence_pending"
    assert attach_pending(runtime) == (1, [])
    assert attach_pending(runtime) == (0, [])
    requests = dispute_requests(runtime, "a", request_id="d2")
    attach_pending(runtime)
    accounts = [show_dispute(runtime, "globex", id_of(one)).account for one in (big, requests)]
    hashes = [one.evidence_sha256 for one in accounts]
    # Later usage, another contract version, an erasure and a decision change nothing of it.
    record(runtime, [event("late", meters={"tokens_in": 700}), november("n1", meters={"tokens_in": 5})])
    erase_person(runtime, "globex", event("a").user_id)
    uphold(runtime, big)
    assert [remake_evidence(runtime, "globex", one).sha256 for one in accounts] == hashes
    assert findings(runtime) == []


def test_who_does_not_answer_in_time_is_told(runtime: Runtime) -> None:
    (life,) = tiered_org(runtime)
    done = dispute(runtime, invoice_id=life.invoice_id, amount_usd="1")
    assert list_disputes(runtime, overdue=True) == []
    late = replace(runtime, clock=lambda: datetime.fromisoformat("2026-11-16T12:00:00Z"))
    (found,) = list_disputes(late, overdue=True)
    assert found.as_dict()["overdue"] is True
    reject_dispute(runtime, id_of(done), {"author": "ann", "reason": "it was you"}, org_id="globex")
    assert list_disputes(late, overdue=True) == []
    (rejected,) = list_disputes(runtime, state="rejected")
    assert rejected.as_dict()["explanation"] == "it was you"
    with pytest.raises(BadInput) as unknown:
        list_disputes(runtime, state="lost")
    assert code_of(unknown) == "unknown_state"


def test_a_test_org_disputes_by_its_own_clock_and_its_notes_have_numbers_of_their_own(runtime: Runtime) -> None:
    tiered_org(runtime)
    make_test_org(runtime, "trial", datetime(2026, 8, 1, tzinfo=UTC), author="ann")
    subscribe(runtime, "trial", "tiered")
    record(runtime, [event("t1", "trial", time=datetime(2026, 8, 1, tzinfo=UTC), meters={"tokens_in": 500})])
    advance_clock(runtime, "trial", by="2mo", to=None, author="ann")
    done = dispute(runtime, invoice_id="trial/2026-08")
    assert done.as_dict()["opened_at"] == "2026-10-01T00:00:00Z"
    assert uphold(runtime, done, "trial")["credit_note_number"] == "TEST-ACME-CN-2026-000001"
    advance_clock(runtime, "trial", by="2mo", to=None, author="ann")
    with pytest.raises(Conflict) as refused:
        dispute(runtime, "d2", invoice_id="trial/2026-08")
    assert code_of(refused) == "dispute_window_over"
    assert findings(runtime) == []
