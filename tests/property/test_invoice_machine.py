"""An invoice's life against a model of it: whatever is tried in whatever order, the books add up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tallystick.billing.fold import InvoiceFold
from tallystick.billing.machine import decide
from tallystick.billing.model import Book
from tallystick.billing.numbers import number_at, place_of, series_of
from tallystick.core.errors import TallyError
from tallystick.ledger.fold import FoldEntry
from tallystick.ledger.invoice_operations import (
    CENT_PICO,
    CreditInvoice,
    InvoiceRequest,
    IssueInvoice,
    Pay,
    VoidInvoice,
)
from tallystick.ledger.operation_body import decode_body, encode_body
from tallystick.ledger.operation_transfers import transfers_in_money

NAMES = st.sampled_from(["inv_a", "inv_b", "inv_c"])
CENTS = st.integers(-50, 1000) | st.integers(10**14, 10**15 + 1)
START = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)


class InvoiceLives(RuleBasedStateMachine):
    """A few invoices of one org; the model is three sums for each."""

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
        self.balances: dict[str, int] = {}

    def attempt(self, request: InvoiceRequest) -> bool:
        """Whether it was done; the fold and the books follow."""
        prefix = request.prefix if isinstance(request, IssueInvoice | CreditInvoice) else None
        series = None if prefix is None else series_of(prefix, self.now)
        number = None if series is None else number_at(series, self.places.get(series, 0) + 1)
        try:
            change = decide(self.book, self.seq + 1, self.now, request, number)
        except TallyError:
            return False
        self.seq += 1
        if series is not None:
            self.places[series] = self.places.get(series, 0) + 1
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

    @rule(seconds=st.integers(0, 10**6))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(name=NAMES, total=st.integers(-500, 1000))
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
        if self.attempt(VoidInvoice(invoice_id=name, author="a", reason="r")):
            assert self.paid.get(name, 0) == 0
            self.taken_back[name] = self.totals[name]

    @invariant()
    def receivable_is_invoices_less_credits_less_payments(self) -> None:
        due = sum(self.totals.values()) - sum(self.taken_back.values()) - sum(self.paid.values())
        assert self.balances.get("receivable", 0) == due * CENT_PICO
        assert sum(self.balances.values()) == 0
        assert self.balances.get("cash", 0) == sum(self.paid.values()) * CENT_PICO

    @invariant()
    def nothing_is_taken_back_or_returned_beyond_what_there_was(self) -> None:
        for name, account in self.book.accounts.items():
            assert account.paid_cents >= 0
            assert account.credited_cents <= max(account.total_cents, 0) or account.voided
            assert all(cents <= 300 for cents in account.line_credits.values())
            state = account.state(self.now)
            assert (state == "void") == account.voided
            assert (state in ("open", "partly_paid", "overdue")) == (not account.voided and account.due_cents > 0)
            assert account.due_cents == self.totals[name] - self.paid.get(name, 0) - self.taken_back.get(name, 0)

    @invariant()
    def the_fold_of_the_entries_comes_to_the_same(self) -> None:
        fold = InvoiceFold()
        for entry in self.entries:
            fold.add(entry)
        assert fold.book.accounts == self.book.accounts
        numbers = [event.number for event in fold.events if event.number is not None]
        assert len(set(numbers)) == len(numbers) == sum(self.places.values())
        assert {place_of(number)[0] for number in numbers} <= self.places.keys()


TestInvoiceLives = InvoiceLives.TestCase
TestInvoiceLives.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
