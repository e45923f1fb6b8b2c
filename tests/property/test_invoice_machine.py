"""An invoice's life against a model of it: whatever is tried in whatever order, the books add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from examples import examples
from tallystick.billing.credit_machine import give, redeem
from tallystick.billing.credits import CreditLot
from tallystick.billing.fold import InvoiceFold
from tallystick.billing.machine import Change, decide
from tallystick.billing.model import Book
from tallystick.billing.numbers import number_at, place_of, series_of
from tallystick.core.errors import TallyError
from tallystick.ledger.accounts import GRANTED_FROM
from tallystick.ledger.credit_operations import CREDIT_SOURCES, CreditRequest, GiveCredit, Redeemed, RedeemPromo
from tallystick.ledger.fold import FoldEntry
from tallystick.ledger.invoice_operations import (
    CENT_PICO,
    CreditInvoice,
    InvoiceRequest,
    Issued,
    IssueInvoice,
    Pay,
    VoidInvoice,
)
from tallystick.ledger.operation_body import decode_body, encode_body
from tallystick.ledger.operation_transfers import transfers_in_money

NAMES = st.sampled_from(["inv_a", "inv_b", "inv_c", "inv_d"])
LIVES = st.none() | st.integers(1, 10**6).map(lambda seconds: timedelta(seconds=seconds))
CENTS = st.integers(1, 400) | st.integers(1, 60) | st.sampled_from([-5, 0, 10**15, 10**15 + 1])
START = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


class InvoiceLives(RuleBasedStateMachine):
    """A few invoices of one org and what it is given in money; the model is four sums for each invoice."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.seq = 0
        self.book = Book()
        self.entries: list[FoldEntry] = []
        self.places: dict[str, int] = {}
        self.totals: dict[str, int] = {}
        self.paid: dict[str, int] = {}
        self.taken_back: dict[str, int] = {}
        self.applied: dict[str, int] = {}
        self.balances: dict[str, int] = {}

    def attempt(self, request: InvoiceRequest | CreditRequest, offered: Redeemed | None = None) -> bool:
        """Whether it was done; the fold and the books follow."""
        prefix = request.prefix if isinstance(request, IssueInvoice | CreditInvoice) else None
        series = None if prefix is None else series_of(prefix, self.now)
        number = None if series is None else number_at(series, self.places.get(series, 0) + 1)
        try:
            change = self.change(request, offered, number)
        except TallyError:
            return False
        self.seq += 1
        if series is not None:
            self.places[series] = self.places.get(series, 0) + 1
        if isinstance(change.step.result, Issued):
            self.check_issue(change, change.step.result)
        self.book.put(change.accounts, change.lots)
        step = change.step
        read = decode_body(step.kind, encode_body(step.request, step.result))
        assert read == (step.request, step.result)
        self.entries.append(FoldEntry(step.seq, step.kind, self.now, *read, step.refers_to_seq))
        for debit, credit, pico in transfers_in_money(step.request, step.result):
            assert pico > 0
            self.balances[debit] = self.balances.get(debit, 0) + pico
            self.balances[credit] = self.balances.get(credit, 0) - pico
        return True

    def change(self, request: InvoiceRequest | CreditRequest, offered: Redeemed | None, number: str | None) -> Change:
        if isinstance(request, GiveCredit):
            return give(self.book, self.seq + 1, self.now, request)
        if isinstance(request, RedeemPromo):
            assert offered is not None
            return redeem(self.book, self.seq + 1, self.now, request, offered)
        return decide(self.book, self.seq + 1, self.now, request, number)

    def check_issue(self, change: Change, result: Issued) -> None:
        """An invoice is never brought below nothing, and is brought there while there is anything for it."""
        issued = change.accounts[0]
        used = [one for one in result.applied if one.source != "carried"]
        assert all(one.amount_cents > 0 for one in result.applied)
        assert len({(one.source == "carried", one.seq) for one in result.applied}) == len(result.applied)
        assert issued.due_cents == issued.total_cents - sum(one.amount_cents for one in result.applied)
        assert issued.due_cents >= 0 or not result.applied
        before = self.book.lots
        assert [one.source for one in result.applied] == sorted(
            (one.source for one in result.applied), key=[*CREDIT_SOURCES, "carried"].index
        )
        shares = [before[one.seq].percent_bp is not None for one in used]
        assert shares == sorted(shares, reverse=True)
        for one in used:
            lot = before[one.seq]
            assert not lot.is_over(self.now)
            assert issued.total_cents >= lot.minimum_cents
            if lot.cap_cents is not None:
                assert one.amount_cents <= lot.cap_cents
        if issued.due_cents > 0:
            lots = {**before, **{lot.seq: lot for lot in change.lots}}
            unused = [lot for lot in lots.values() if lot.left_cents and self.is_usable(lot, issued.total_cents)]
            assert not unused
            others = self.book.accounts | {one.invoice_id: one for one in change.accounts}
            assert all(one.due_cents >= 0 for one in others.values())
        self.applied[issued.invoice_id] = sum(one.amount_cents for one in used)

    def is_usable(self, lot: CreditLot, total_cents: int) -> bool:
        return not lot.is_over(self.now) and total_cents >= lot.minimum_cents

    @rule(source=st.sampled_from(CREDIT_SOURCES), cents=CENTS, life=LIVES)
    def give(self, source: str, cents: int, life: timedelta | None) -> None:
        expires_at = None if life is None else self.now + life
        request = GiveCredit(
            source=source, amount_cents=cents, author="a", reason="r", expires_at=expires_at  # type: ignore[arg-type]
        )  # fmt: skip
        assert self.attempt(request) == (0 < cents <= 10**15)

    @rule(
        code=st.sampled_from(["ONE", "TWO", "TEN"]),
        percent_bp=st.none() | st.integers(1, 10_000),
        cents=st.integers(1, 700),
        invoices=st.none() | st.integers(1, 2),
        cap=st.none() | st.integers(1, 100),
        minimum=st.integers(0, 400),
        life=LIVES,
    )
    def redeem(
        self,
        code: str,
        percent_bp: int | None,
        cents: int,
        invoices: int | None,
        cap: int | None,
        minimum: int,
        life: timedelta | None,
    ) -> None:
        is_share = percent_bp is not None
        offered = Redeemed(
            version=1, percent_bp=percent_bp, amount_cents=None if is_share else cents,
            invoices=invoices if is_share else None, cap_cents=cap if is_share else None, minimum_cents=minimum,
            expires_at=None if life is None else self.now + life, left_cents=0,
        )  # fmt: skip
        was_there = any(lot.code == code for lot in self.book.lots.values())
        assert self.attempt(RedeemPromo(code=code, author="a"), offered) == (not was_there)

    @rule(seconds=st.integers(0, 10**6))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(name=NAMES, total=st.integers(1, 500) | st.integers(-200, 0))
    def issue(self, name: str, total: int) -> None:
        request = IssueInvoice(
            invoice_id=name, period="2026-12", digest="sha256:x", total_cents=total, prefix="INV",
            terms_seconds=86_400, contract="c", contract_version="1", contract_sha256="x", seller_sha256=None,
            bill_to=None, bill_to_sha256=None,
        )  # fmt: skip
        assert self.attempt(request) == (name not in self.totals)
        self.totals.setdefault(name, total)

    @rule(name=NAMES, cents=CENTS, returned=st.booleans())
    def pay(self, name: str, cents: int, returned: bool) -> None:
        done = self.attempt(Pay(invoice_id=name, source="manual", amount_cents=cents, author="a", returned=returned))
        if done:
            self.paid[name] = self.paid.get(name, 0) + (-cents if returned else cents)
            assert cents > 0
        else:
            wrong = not 0 < cents <= 10**15 or (returned and cents > self.paid.get(name, 0))
            assert wrong or name not in self.totals or self.book.accounts[name].voided

    @rule(name=NAMES, cents=CENTS, line=st.none() | st.integers(1, 2))
    def credit(self, name: str, cents: int, line: int | None) -> None:
        line_cents = None if line is None else 300
        request = CreditInvoice(
            invoice_id=name, amount_cents=cents, author="a", reason="r", prefix="INV-CN", line=line,
            line_cents=line_cents,
        )  # fmt: skip
        if self.attempt(request):
            self.taken_back[name] = self.taken_back.get(name, 0) + cents

    @rule(name=NAMES)
    def void(self, name: str) -> None:
        left = {seq: lot.left_cents for seq, lot in self.book.lots.items()}
        used = self.book.accounts[name].applied if name in self.book.accounts else ()
        if self.attempt(VoidInvoice(invoice_id=name, author="a", reason="r")):
            assert self.paid.get(name, 0) == 0
            assert self.book.accounts[name].due_cents == 0
            self.taken_back[name] = self.totals[name]
            self.applied[name] = 0
            for one in used:
                if one.source != "carried" and one.percent_bp is None:
                    assert self.book.lots[one.seq].left_cents == left[one.seq] + one.amount_cents
                    assert not self.book.lots[one.seq].is_over(self.now)

    @invariant()
    def receivable_is_invoices_less_credits_less_payments(self) -> None:
        due = sum(self.totals.values()) - sum(self.taken_back.values()) - sum(self.paid.values())
        due -= sum(self.applied.values())
        assert self.balances.get("receivable", 0) == due * CENT_PICO
        assert sum(self.balances.values()) == 0
        assert self.balances.get("cash", 0) == sum(self.paid.values()) * CENT_PICO
        assert sum(one.due_cents for one in self.book.accounts.values()) == due
        assert sum(one.carried_cents for one in self.book.accounts.values()) == 0

    @invariant()
    def what_was_given_is_left_or_is_the_expense_of_an_invoice(self) -> None:
        used: dict[str, int] = {}
        by_lot: dict[int, int] = {}
        for account in self.book.accounts.values():
            for one in () if account.voided else account.applied:
                if one.source != "carried":
                    used[GRANTED_FROM[one.source]] = used.get(GRANTED_FROM[one.source], 0) + one.amount_cents
                    by_lot[one.seq] = by_lot.get(one.seq, 0) + one.amount_cents
        for expense in ("promo_expense", "sla_expense", "dispute_expense"):
            assert self.balances.get(expense, 0) == used.get(expense, 0) * CENT_PICO
        for lot in self.book.lots.values():
            assert lot.left_cents >= 0
            assert (lot.invoices_left or 0) >= 0
            if lot.percent_bp is None:
                assert lot.left_cents + by_lot.get(lot.seq, 0) == lot.amount_cents

    @invariant()
    def nothing_is_taken_back_or_returned_beyond_what_there_was(self) -> None:
        for name, account in self.book.accounts.items():
            assert account.paid_cents >= 0
            assert account.credited_cents + account.applied_cents <= max(account.total_cents, 0) or account.voided
            assert all(cents <= 300 for cents in account.line_credits.values())
            state = account.state(self.now)
            assert (state == "void") == account.voided
            assert (state in ("open", "partly_paid", "overdue")) == (not account.voided and account.due_cents > 0)
            due = self.totals[name] - self.paid.get(name, 0) - self.taken_back.get(name, 0)
            assert account.due_cents == due - self.applied.get(name, 0) - account.carried_cents
            for seq, cents in account.carried.items():
                (other,) = [one for one in self.book.accounts.values() if one.seq == seq]
                assert other.carried[account.seq] == -cents

    @invariant()
    def the_fold_of_the_entries_comes_to_the_same(self) -> None:
        fold = InvoiceFold()
        for entry in self.entries:
            fold.add(entry)
        assert fold.book == self.book
        numbers = [event.number for event in fold.events if event.number is not None]
        assert len(set(numbers)) == len(numbers) == sum(self.places.values())
        assert {place_of(number)[0] for number in numbers} <= self.places.keys()


TestInvoiceLives = InvoiceLives.TestCase
TestInvoiceLives.settings = settings(max_examples=examples(25), stateful_step_count=30, deadline=None)


@given(
    given_between=st.lists(
        st.lists(st.tuples(st.sampled_from(CREDIT_SOURCES), st.integers(1, 300)), max_size=5), min_size=3, max_size=3
    ),
    totals=st.lists(st.integers(-200, 600), min_size=3, max_size=3),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=examples(50), deadline=None)
def test_the_order_in_which_credits_are_given_between_two_invoices_changes_no_sum(
    given_between: list[list[tuple[str, int]]], totals: list[int], order: Random
) -> None:
    shuffled = [order.sample(credits, len(credits)) for credits in given_between]
    assert _books(given_between, totals) == _books(shuffled, totals)


def _books(given_between: list[list[tuple[str, int]]], totals: list[int]) -> tuple[object, ...]:
    lives = InvoiceLives()
    for name, credits, total in zip("abc", given_between, totals, strict=True):
        for source, cents in credits:
            lives.give(source, cents, None)
        lives.issue(name, total)
    left = dict.fromkeys(CREDIT_SOURCES, 0)
    for lot in lives.book.lots.values():
        left[lot.source] += lot.left_cents
    dues = [msgspec.structs.asdict(one.balance) for one in lives.book.accounts.values()]
    return lives.balances, left, dues
