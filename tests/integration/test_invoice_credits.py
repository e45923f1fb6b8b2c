"""Credits in money: given to an org, used up by its next invoices in their order, and in the books to the cent."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import psycopg
import pytest

from billing import OCTOBER, SELLER, VOID, billed_org, findings, money, note, payment
from invoicing import apply, event, record, subscribe
from tallystick.app.invoice_actions import credit_invoice, due_invoices, record_payment, void_invoice
from tallystick.app.invoice_credits import give_credit, show_credits
from tallystick.app.invoice_documents import render_document
from tallystick.app.invoice_life import finalize_month, show_life
from tallystick.app.promos import all_promos, create_promo, end_promo, redeem_promo, show_promo
from tallystick.app.runtime import Runtime
from tallystick.app.test_clock import advance_clock, make_test_org
from tallystick.app.wallet import wallet_entries
from tallystick.core.errors import BadInput, Conflict, NotFound, Problems, TallyError

SEPTEMBER, AUGUST = "2026-09", "2026-08"


def give(runtime: Runtime, cents: int, request_id: str = "k1", **more: Any) -> dict[str, Any]:
    """A credit of so many cents."""
    said = {"source": "goodwill", "reason": "sorry", "author": "ann", **more}
    return give_credit(runtime, "globex", amount_cents=cents, request_id=request_id, **said).as_dict()


def promo(runtime: Runtime, code: str = "SPRING24", **terms: Any) -> dict[str, Any]:
    """A promo code that is defined."""
    return create_promo(runtime, {"code": code, "author": "ann", **terms}).as_dict()


def redeem(runtime: Runtime, code: str = "SPRING24", org_id: str = "globex", request_id: str = "m1") -> dict[str, Any]:
    """A promo code that is redeemed."""
    return redeem_promo(runtime, org_id, {"code": code, "request_id": request_id, "author": "ann"}).as_dict()


def refused(code: str, attempt: Any) -> TallyError:
    """What an attempt is refused with, which has that code."""
    with pytest.raises(TallyError) as error:
        attempt()
    assert error.value.code == code
    return error.value


@pytest.fixture
def customer(runtime: Runtime) -> Iterator[Runtime]:
    """An org on a plan of 10 USD a month, with nothing invoiced yet."""
    apply(runtime, SELLER)
    subscribe(runtime, "globex")
    record(runtime, [event("r1", "globex")])
    yield runtime
    assert findings(runtime) == []


def test_credits_are_used_in_their_order_and_the_rest_carries_over(customer: Runtime) -> None:
    promo(customer, "HALF", percent="50", invoices=1)
    promo(customer, "TWO", amount_usd="2")
    give(customer, 700, "k1")
    give(customer, 100, "k2", source="dispute")
    sla = give(customer, 150, "k3", source="sla", about={"downtime_seconds": 90, "month": SEPTEMBER})
    redeem(customer, "two", request_id="m1")
    half = redeem(customer, "HALF", request_id="m2")
    assert half["what"] == "promo code HALF redeemed: 50 percent of the next invoice"
    assert (sla["about"], sla["left_usd"]) == ({"downtime_seconds": 90, "month": SEPTEMBER}, "9.50")
    assert money(customer) == {}
    (result,) = finalize_month(customer, OCTOBER, ["globex"])
    assert result.life is not None
    shown = show_life(customer, result.life.invoice_id).as_dict()
    used = [(one["source"], one["label"], one["amount_usd"], one["percent"]) for one in shown["applied"]]
    assert used == [
        ("promo", "HALF", "5.00", "50"), ("promo", "TWO", "2.00", None), ("sla", None, "1.50", None),
        ("dispute", None, "1.00", None), ("goodwill", None, "0.50", None),
    ]  # fmt: skip
    assert (shown["total_usd"], shown["applied_usd"], shown["due_usd"], shown["state"]) == (
        "10.00", "10.00", "0.00", "paid",
    )  # fmt: skip
    assert money(customer) == {
        "receivable": 0, "revenue": -1000, "promo_expense": 750, "sla_expense": 150, "dispute_expense": 100,
    }  # fmt: skip
    held = show_credits(customer, "globex").as_dict()
    assert (held["left_usd"], held["beyond_usd"]) == ("6.50", "0.00")
    goodwill = held["credits"][0]
    assert (goodwill["state"], goodwill["left_usd"], [one["amount_usd"] for one in goodwill["used"]]) == (
        "open", "6.50", ["0.50"],
    )  # fmt: skip
    assert [one["state"] for one in held["credits"]] == ["open", "used", "used", "used", "used"]
    assert due_invoices(customer) == []


def test_a_void_gives_credits_back_and_the_next_invoice_uses_them(customer: Runtime) -> None:
    give(customer, 300, expires_at=datetime(2026, 11, 30, tzinfo=UTC))
    promo(customer, percent="10", invoices=1)
    redeem(customer)
    (result,) = finalize_month(customer, SEPTEMBER, ["globex"])
    assert result.life is not None
    assert result.life.as_dict()["due_usd"] == "6.00"
    assert money(customer) == {"receivable": 600, "revenue": -1000, "promo_expense": 400}
    before = b"".join(render_document(customer, result.life.invoice_id, "html"))
    void_invoice(customer, result.life.invoice_id, VOID)
    assert money(customer) == {"receivable": 0, "revenue": 0, "promo_expense": 0}
    assert b"".join(render_document(customer, result.life.invoice_id, "html")) == before
    held = show_credits(customer, "globex").as_dict()["credits"]
    assert [(one["left_usd"], one["invoices_left"]) for one in held] == [("3.00", None), (None, 1)]
    assert [use["given_back"] for one in held for use in one["used"]] == [True, True]
    (again,) = finalize_month(customer, OCTOBER, ["globex"])
    assert again.life is not None
    assert again.life.as_dict()["due_usd"] == "6.00"


def test_what_was_paid_too_much_is_used_for_the_next_invoice(customer: Runtime) -> None:
    (first,) = finalize_month(customer, AUGUST, ["globex"])
    assert first.life is not None
    number = first.life.as_dict()["number"]
    record_payment(customer, number, payment("p1", "14"))
    give(customer, 100)
    assert show_credits(customer, "globex").as_dict()["beyond_usd"] == "4.00"
    (second,) = finalize_month(customer, SEPTEMBER, ["globex"])
    assert second.life is not None
    shown = show_life(customer, second.life.invoice_id).as_dict()
    assert [(one["source"], one["label"], one["amount_usd"]) for one in shown["applied"]] == [
        ("goodwill", None, "1.00"), ("carried", number, "4.00"),
    ]  # fmt: skip
    assert (shown["due_usd"], shown["carried_usd"]) == ("5.00", "4.00")
    paid = show_life(customer, number).as_dict()
    assert (paid["due_usd"], paid["carried_usd"], paid["state"]) == ("0.00", "-4.00", "paid")
    assert money(customer) == {"receivable": 500, "revenue": -2000, "promo_expense": 100, "cash": 1400}
    (due,) = due_invoices(customer)
    assert (due["applied_usd"], due["carried_usd"], due["due_usd"]) == ("1.00", "4.00", "5.00")
    refused("invoice_paid", lambda: void_invoice(customer, number, VOID))
    record_payment(customer, number, payment("p2", "14", returned=True))
    refused("invoice_carried", lambda: void_invoice(customer, number, VOID))
    void_invoice(customer, second.life.invoice_id, VOID)
    assert show_life(customer, number).as_dict()["due_usd"] == "10.00"


def test_a_credit_note_takes_back_no_more_than_credits_leave(customer: Runtime) -> None:
    give(customer, 700)
    (result,) = finalize_month(customer, OCTOBER, ["globex"])
    assert result.life is not None
    invoice_id = result.life.invoice_id
    error = refused("credit_exceeds_invoice", lambda: credit_invoice(customer, invoice_id, note("c1", "3.01")))
    assert "3.00 USD of 10.00 USD, of which credits pay 7.00 USD" in error.detail
    assert money(customer) == {"receivable": 300, "revenue": -1000, "promo_expense": 700}
    assert credit_invoice(customer, invoice_id, note("c1", "3")).life.as_dict()["due_usd"] == "0.00"


def test_a_credit_that_is_none_moves_nothing_and_the_same_again_is_the_same(customer: Runtime) -> None:
    first = give(customer, 300)
    assert give(customer, 300) | {"is_new": True} == first
    refused("request_id_conflict", lambda: give(customer, 301))
    refused("invalid_amount", lambda: give(customer, 0, "k2"))
    refused("invalid_amount", lambda: give(customer, -5, "k2"))
    refused("not_a_choice", lambda: give(customer, 5, "k2", source="top_up"))
    over = customer.now("globex") - timedelta(seconds=1)
    refused("credit_expired_already", lambda: give(customer, 5, "k2", expires_at=over))
    refused("invalid_month", lambda: give(customer, 5, "k2", from_month="2026-13"))
    refused("wrong_type", lambda: give(customer, 5, "k2", about={"share": 0.5}))
    refused("text_too_long", lambda: give(customer, 5, "k2", about={"x": "y" * 20_000}))
    with pytest.raises(NotFound):
        give_credit(customer, "nobody", source="sla", amount_cents=1, reason="r", author="a", request_id="k")
    assert show_credits(customer, "globex").left_cents == 300


def test_what_is_over_or_of_a_later_month_is_not_used(customer: Runtime) -> None:
    give(customer, 100, "k1", from_month=OCTOBER)
    give(customer, 200, "k2", expires_at=customer.now("globex") + timedelta(days=1))
    promo(customer, "BIG", amount_usd="5", minimum_usd="10.01")
    redeem(customer, "BIG")
    (result,) = finalize_month(customer, SEPTEMBER, ["globex"])
    assert result.life is not None
    assert result.life.as_dict()["applied_usd"] == "2.00"
    assert show_credits(customer, "globex").left_cents == 600


def test_a_promo_code_is_redeemed_once_and_a_refusal_says_why(customer: Runtime) -> None:
    subscribe(customer, "initech")
    now = customer.clock()
    promo(customer, "once", amount_usd="5", limit=1)
    promo(customer, "GONE", amount_usd="5")
    promo(customer, "SHORT", amount_usd="5", redeem_by=(now + timedelta(seconds=1)).isoformat())
    promo(customer, "OTHERS", amount_usd="5", plans=["enterprise"])
    end_promo(customer, "gone", author="ann", reason="over")
    first = redeem(customer, "Once")
    assert redeem(customer, "ONCE ") | {"is_new": True} == first
    assert "since" in refused("promo_used", lambda: redeem(customer, "ONCE", request_id="m2")).detail
    refused("request_id_conflict", lambda: redeem(customer, "GONE"))
    refused("promo_exhausted", lambda: redeem(customer, "ONCE", "initech"))
    refused("promo_ended", lambda: redeem(customer, "GONE", "initech"))
    refused("promo_not_for_plan", lambda: redeem(customer, "OTHERS", "initech"))
    refused("unknown_promo", lambda: redeem(customer, "nothing like it", "initech"))
    refused("unknown_org", lambda: redeem(customer, "SHORT", "nobody"))
    shown = show_promo(customer, "once").as_dict()
    assert (shown["redeemed"], shown["left"]) == (1, 0)
    assert [one.taken for one in all_promos(customer)] == [0, 1, 0, 0]
    assert show_credits(customer, "initech").credits == ()


def test_a_code_for_new_customers_is_for_who_has_had_no_invoice(runtime: Runtime) -> None:
    billed_org(runtime)
    subscribe(runtime, "initech")
    promo(runtime, "NEW", percent="100", invoices=1, cap_usd="3", new_customers=True)
    refused("promo_for_new_customers", lambda: redeem(runtime, "NEW"))
    redeem(runtime, "NEW", "initech")
    record(runtime, [event("r1", "initech")])
    (result,) = finalize_month(runtime, OCTOBER, ["initech"])
    assert result.life is not None
    assert result.life.as_dict()["applied_usd"] == "3.00"
    assert findings(runtime) == []


@pytest.mark.parametrize(
    ("terms", "code"),
    [
        ({}, "invalid_promo"),
        ({"percent": "5", "amount_usd": "5"}, "invalid_promo"),
        ({"percent": "100.01"}, "invalid_promo"),
        ({"percent": "0"}, "invalid_promo"),
        ({"percent": "1.005"}, "invalid_promo"),
        ({"amount_usd": "0"}, "invalid_amount"),
        ({"amount_usd": "1", "invoices": 3}, "invalid_promo"),
        ({"amount_usd": "1", "code": "x"}, "invalid_promo_code"),
        ({"amount_usd": "1", "code": "ÄÖÜ"}, "invalid_promo_code"),
        ({"amount_usd": "1", "redeem_by": "2020-01-01T00:00:00Z"}, "invalid_promo"),
        ({"amount_usd": "1", "expires_after": "0d"}, "invalid_promo"),
        ({"amount_usd": "1", "expires_after": "a year"}, "invalid_duration"),
        ({"amount_usd": "1", "plans": ["nothing"]}, "unknown_plan"),
        ({"amount_usd": "1", "contract": "nothing"}, "unknown_contract"),
        ({"amount_usd": "1", "limit": 0}, "invalid_number"),
        ({"amount_usd": "1", "percentage": 5}, "unknown_field"),
    ],
)
def test_a_code_that_makes_no_sense_is_refused(runtime: Runtime, terms: dict[str, Any], code: str) -> None:
    with pytest.raises((BadInput, NotFound, Problems)) as error:
        promo(runtime, **terms)
    assert error.value.code == code
    assert all_promos(runtime) == []


def test_a_code_is_defined_once_and_replaced_outright(customer: Runtime) -> None:
    first = promo(customer, percent="20", invoices=3)
    assert promo(customer, "spring24", percent="20.0", invoices=3) == first | {"is_new": False}
    refused("promo_exists", lambda: promo(customer, percent="30"))
    redeem(customer)
    said = {"code": "SPRING24", "percent": "30", "author": "bob", "reason": "more"}
    replaced = create_promo(customer, said, replace=True).as_dict()
    assert (replaced["version"], replaced["percent"], replaced["redeemed"]) == (2, "30", 1)
    assert show_credits(customer, "globex").credits[0].lot.percent_bp == 2000
    end_promo(customer, "SPRING24", author="bob")
    with pytest.raises(Conflict):
        promo(customer, percent="30")


def test_a_document_says_what_was_applied_and_what_is_due(customer: Runtime) -> None:
    promo(customer, percent="12.5")
    redeem(customer)
    give(customer, 200, source="sla")
    (result,) = finalize_month(customer, OCTOBER, ["globex"])
    assert result.life is not None
    invoice_id = result.life.invoice_id
    page = b"".join(render_document(customer, invoice_id, "html")).decode()
    for text in ("Promo code SPRING24, 12.5 %", "-1.25", "Service credit", "-2.00", "Amount due", "$6.75"):
        assert text in page
    rows = list(csv.DictReader(b"".join(render_document(customer, invoice_id, "focus")).decode().splitlines()))
    assert sum(Fraction(one["BilledCost"]) for one in rows) == Fraction("6.75")
    credits = [(one["ChargeDescription"], one["BilledCost"]) for one in rows if one["ChargeCategory"] == "Credit"]
    assert credits == [("Promo code SPRING24, 12.5 %", "-1.25"), ("Service credit", "-2")]
    said = [one["what"] for one in wallet_entries(customer, "globex")["entries"]]
    assert any("issued, 3.25 USD of it by credits, due" in one for one in said)
    assert any(one.startswith("2.00 USD given because service fell short") for one in said)


def test_whatever_the_owner_changes_by_hand_is_found(customer: Runtime, database_url: str) -> None:
    promo(customer, amount_usd="2", limit=5)
    redeem(customer)
    give(customer, 900)
    (result,) = finalize_month(customer, OCTOBER, ["globex"])
    assert result.life is not None
    with psycopg.connect(database_url, autocommit=True) as owner:
        for table in ("invoice_credit_lots", "promo_counts", "promo_codes", "invoice_accounts"):
            owner.execute(f"alter table {table} disable trigger all".encode())
        for change, undo, found in TAMPERED:
            owner.execute(change.encode())
            assert found in " ".join(findings(customer)), change
            owner.execute(undo.encode())


TAMPERED = [
    (
        "update invoice_credit_lots set left_cents = left_cents + 1 where code is null",
        "update invoice_credit_lots set left_cents = left_cents - 1 where code is null",
        "101 of 900 cents left, and its entries come to 100 of 900",
    ),
    (
        "update invoice_credit_lots set minimum_cents = 7 where code is null",
        "update invoice_credit_lots set minimum_cents = 0 where code is null",
        "and other terms",
    ),
    (
        "insert into invoice_credit_lots values "
        "('ghost', 1, 'sla', now(), null, 5, 5, null, null, null, 0, null, null, false)",
        "delete from invoice_credit_lots where org_id = 'ghost'",
        "credits in money are kept of ghost",
    ),
    ("update promo_counts set taken = 3", "update promo_counts set taken = 1", "3 orgs have redeemed SPRING24"),
    (
        "update promo_codes set terms = replace(terms, '200', '300')",
        "update promo_codes set terms = replace(terms, '300', '200')",
        "gives something else than version 1 of the promo code SPRING24",
    ),
    ("update promo_codes set reason = 'x'", "update promo_codes set reason = ''", "promo code SPRING24"),
    (
        "update invoice_accounts set applied_cents = applied_cents - 1, carried_cents = carried_cents + 1",
        "update invoice_accounts set applied_cents = applied_cents + 1, carried_cents = carried_cents - 1",
        "invoice_accounts: the invoice",
    ),
]


def test_a_test_org_redeems_by_its_own_clock_and_takes_no_place(customer: Runtime) -> None:
    make_test_org(customer, "sandbox", datetime(2026, 8, 15, tzinfo=UTC), author="ann")
    subscribe(customer, "sandbox", effective_from=datetime(2026, 8, 1, tzinfo=UTC))
    promo(customer, amount_usd="4", limit=1, expires_after="40d")
    redeem(customer, org_id="sandbox")
    redeem(customer)
    advance_clock(customer, "sandbox", to=datetime(2026, 11, 3, tzinfo=UTC), author="ann")
    shown = show_promo(customer, "SPRING24").as_dict()
    assert (shown["redeemed"], shown["redeemed_by_test_orgs"], shown["left"]) == (1, 1, 0)
    (used,) = show_credits(customer, "sandbox").as_dict()["credits"]
    assert (used["state"], [one["month"] for one in used["used"]]) == ("used", [AUGUST])
    assert used["expires_at"] == "2026-09-24T00:00:00Z"


def test_a_smaller_limit_takes_nothing_from_those_who_redeemed_before(customer: Runtime) -> None:
    promo(customer, amount_usd="2", limit=5)
    redeem(customer)
    subscribe(customer, "initech")
    redeem(customer, org_id="initech", request_id="m2")
    create_promo(customer, {"code": "SPRING24", "amount_usd": "2", "limit": 1, "author": "ann"}, replace=True)
    subscribe(customer, "hooli")
    refused("promo_exhausted", lambda: redeem(customer, org_id="hooli"))
    refused("unknown_promo", lambda: redeem(customer, "\u017fpring24", org_id="hooli"))  # its capital is an S
