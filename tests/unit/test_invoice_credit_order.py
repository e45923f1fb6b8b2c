"""In which order an invoice uses credits, what it never does, and where money goes when invoices are void."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tallystick.billing.credits import RETURN_GRACE, CreditLot, use_credits
from tallystick.billing.machine import decide
from tallystick.billing.model import Book, InvoiceAccount
from tallystick.core.errors import Conflict
from tallystick.ledger.credit_operations import CreditSource
from tallystick.ledger.invoice_operations import CreditInvoice, InvoiceRequest, IssueInvoice, Pay, VoidInvoice

NOW = datetime(2026, 11, 2, tzinfo=UTC)
SOON, LATE = NOW + timedelta(days=1), NOW + timedelta(days=9)


def lot(seq: int, cents: int, source: CreditSource = "goodwill", until: datetime | None = None) -> CreditLot:
    return CreditLot(
        seq=seq, source=source, given_at=NOW, expires_at=until, amount_cents=cents, left_cents=cents
    )  # fmt: skip


def share(seq: int, percent_bp: int, cap: int | None = None, until: datetime | None = None) -> CreditLot:
    return CreditLot(
        seq=seq, source="promo", given_at=NOW, expires_at=until, percent_bp=percent_bp, cap_cents=cap, invoices_left=1,
        code=f"CODE{seq}",
    )  # fmt: skip


def uses(total: int, *lots: CreditLot) -> list[tuple[int, int]]:
    return [(one.seq, one.amount_cents) for one in use_credits(lots, NOW, "2026-10", total)[0]]


def test_groups_come_in_their_order_whatever_ends_first() -> None:
    lots = [lot(1, 9, "goodwill", SOON), lot(2, 9, "dispute"), lot(3, 9, "sla"), lot(4, 9, "promo"), share(5, 5000)]
    assert uses(100, *lots) == [(5, 50), (4, 9), (3, 9), (2, 9), (1, 9)]


def test_within_a_group_what_ends_soonest_comes_first_then_what_was_given_first() -> None:
    lots = [lot(1, 5), lot(2, 5, until=LATE), lot(3, 5, until=SOON), lot(4, 5, until=SOON), lot(5, 5)]
    assert [seq for seq, _ in uses(100, *lots)] == [3, 4, 2, 1, 5]
    assert uses(12, *lots) == [(3, 5), (4, 5), (2, 2)]


def test_each_share_is_of_what_is_left_half_even_to_the_cent_and_no_more_than_its_cap() -> None:
    assert uses(1000, share(1, 2000), share(2, 1000)) == [(1, 200), (2, 80)]
    assert uses(1000, share(1, 5000, cap=10), share(2, 1000)) == [(1, 10), (2, 99)]
    assert uses(25, share(1, 1000)) == [(1, 2)]
    assert uses(35, share(1, 1000)) == [(1, 4)]


def test_a_share_of_nothing_is_not_used_up() -> None:
    used, changed = use_credits([share(1, 10_000), share(2, 5000)], NOW, "2026-10", 100)
    assert [(one.seq, one.amount_cents) for one in used] == [(1, 100)]
    assert [(one.seq, one.invoices_left) for one in changed] == [(1, 0)]
    assert uses(4, share(1, 1000)) == []


@pytest.mark.parametrize("total", [0, -1, -500])
def test_an_invoice_of_nothing_or_less_uses_nothing(total: int) -> None:
    assert uses(total, lot(1, 5), share(2, 5000)) == []


class Books:
    """An org's invoices, each by its name, one operation after the other."""

    def __init__(self, *lots: CreditLot) -> None:
        self.book = Book(lots={one.seq: one for one in lots})
        self.seq = 100
        self.now = NOW

    def do(self, request: InvoiceRequest) -> None:
        self.seq += 1
        change = decide(self.book, self.seq, self.now, request, f"INV-2026-{self.seq:06}")
        self.book.put(change.accounts, change.lots)

    def issue(self, name: str, total: int) -> None:
        self.do(
            IssueInvoice(
                invoice_id=name, period="2026-10", digest="x", total_cents=total, prefix="INV", terms_seconds=1,
                contract="c", contract_version="1", contract_sha256="x", seller_sha256=None, bill_to=None,
                bill_to_sha256=None,
            )
        )  # fmt: skip

    def pay(self, name: str, cents: int, *, returned: bool = False) -> None:
        self.do(Pay(invoice_id=name, source="manual", amount_cents=cents, author="a", returned=returned))

    def note(self, name: str, cents: int) -> None:
        self.do(CreditInvoice(invoice_id=name, amount_cents=cents, author="a", reason="r", prefix="INV-CN"))

    def void(self, name: str) -> None:
        self.do(VoidInvoice(invoice_id=name, author="a", reason="r"))

    def __getitem__(self, name: str) -> InvoiceAccount:
        return self.book.accounts[name]


def test_a_note_takes_back_no_more_than_credits_leave() -> None:
    books = Books(lot(1, 70))
    books.issue("a", 100)
    with pytest.raises(Conflict) as refused:
        books.note("a", 31)
    assert refused.value.code == "credit_exceeds_invoice"
    books.note("a", 30)
    assert books["a"].due_cents == 0
    books.void("a")
    assert (books["a"].due_cents, books.book.lots[1].left_cents) == (0, 70)


def test_what_a_void_gives_back_can_be_used_on_the_next_invoice() -> None:
    books = Books(lot(1, 70, until=SOON), share(2, 1000, until=NOW + timedelta(days=900)))
    books.issue("a", 100)
    books.now = LATE
    books.void("a")
    assert books.book.lots[1].expires_at == LATE + RETURN_GRACE
    assert books.book.lots[2].expires_at == NOW + timedelta(days=900)
    books.issue("b", 200)
    assert [(one.seq, one.amount_cents) for one in books["b"].applied] == [(2, 20), (1, 70)]


def test_money_that_was_used_elsewhere_keeps_an_invoice_from_being_voided() -> None:
    books = Books()
    books.issue("a", 100)
    books.pay("a", 140)
    books.issue("b", 60)
    assert (books["a"].due_cents, books["b"].due_cents) == (0, 20)
    books.pay("a", 140, returned=True)
    assert books["a"].due_cents == 140
    with pytest.raises(Conflict) as refused:
        books.void("a")
    assert refused.value.code == "invoice_carried"
    books.void("b")
    books.void("a")
    assert [books[name].due_cents for name in "ab"] == [0, 0]


def test_an_invoice_in_the_customers_favour_pays_the_next_ones() -> None:
    books = Books()
    books.issue("a", -50)
    books.issue("b", 30)
    books.issue("c", 30)
    assert [books[name].due_cents for name in "abc"] == [0, 0, 10]
    assert books["a"].carried == {books["b"].seq: -30, books["c"].seq: -20}
    books.void("b")
    assert [books[name].due_cents for name in "abc"] == [-30, 0, 10]


def test_money_that_comes_back_to_a_void_invoice_goes_on_to_where_it_came_from() -> None:
    books = Books()
    books.issue("a", 10)
    books.pay("a", 110)
    books.issue("b", 100)
    books.note("b", 40)
    books.issue("c", 40)
    assert [books[name].due_cents for name in "abc"] == [0, 0, 0]
    books.void("b")
    assert [books[name].due_cents for name in "abc"] == [-60, 0, 0]
    books.void("c")
    assert [books[name].due_cents for name in "abc"] == [-100, 0, 0]
    assert [books[name].carried for name in "abc"] == [{}, {}, {}]
