"""What each operation moves between the accounts: the one place that says so.

    grant                GRANTED_FROM[source] -> wallet_available
    hold                 wallet_available -> wallet_held
    settlement           wallet_held -> revenue, rounding      what is charged out of the hold
                         wallet_held -> wallet_available       what goes back to living lots
                         wallet_held -> expired                what goes back to lots that have expired meanwhile
                         wallet_available -> revenue, rounding what is charged beyond the hold
                         receivable -> revenue, rounding       what is charged beyond the wallet, and owed
    release, expiry      wallet_held -> wallet_available, expired
    refund               revenue, rounding -> wallet_available, expired, receivable
    expiry of a grant    wallet_available -> expired

The account on the left is debited, the one on the right credited. Denials, overrides, budgets, standings and disputes
move nothing. What goes to `expired` because it came back too late is followed by a grant of source refund, an operation
of its own, which takes it out again.

What becomes of invoices moves no credits, but money: `transfers_in_money`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from tallystick.ledger.accounts import (
    CASH,
    EXPIRED,
    GRANTED_FROM,
    RECEIVABLE,
    REVENUE,
    ROUNDING,
    WALLET_AVAILABLE,
    WALLET_HELD,
)
from tallystick.ledger.credit_operations import CreditGiven, GiveCredit, Redeemed, RedeemPromo
from tallystick.ledger.dispute_operations import Stepped
from tallystick.ledger.invoice_operations import (
    CENT_PICO,
    Applied,
    Credited,
    CreditInvoice,
    Issued,
    IssueInvoice,
    Paid,
    Pay,
    Voided,
    VoidInvoice,
)
from tallystick.ledger.operations import (
    Denied,
    Ended,
    Grant,
    Granted,
    Held,
    Lot,
    Noted,
    OperationKind,
    OperationRequest,
    OperationResult,
    Returned,
    Settled,
)

_Move: TypeAlias = tuple[str, str, int]


class Transfer(NamedTuple):
    """An amount of pico-credits, above zero, from the account that is debited to the one that is credited."""

    debit_account: str
    credit_account: str
    amount_pico: int


def transfers_of(kind: OperationKind, request: OperationRequest, result: OperationResult) -> list[Transfer]:
    """The transfers of one operation: at most one for each pair of accounts, none of nothing.

    Args:
        kind, request, result: as they stand in the operation's entry.

    Raises:
        ValueError: the kind, the request and the result do not belong together, or a part is larger than its whole.
    """
    moves: Sequence[_Move] = ()
    match result:
        case Granted() if kind == "grant" and isinstance(request, Grant):
            moves = ((GRANTED_FROM[request.source], WALLET_AVAILABLE, request.amount_pico),)
        case Held() if kind == "hold":
            moves = ((WALLET_AVAILABLE, WALLET_HELD, total(result.lots)),)
        case Settled() if kind == "settlement":
            moves = (*_charges(result), *_back(WALLET_HELD, result.returned, result.expired_pico))
        case Returned() if kind in ("release", "expiry"):
            moves = _back(WALLET_HELD, result.returned, result.expired_pico)
        case Returned() if kind == "refund":
            moves = _refunds(result)
        case Ended() if kind == "expiry":
            moves = ((WALLET_AVAILABLE, EXPIRED, total(result.lots)),)
        case Denied() | Noted() if kind in ("denial", "override", "budget", "standing", "adjustment"):
            pass
        case Stepped() if kind == "dispute":  # what it gives back are entries of their own
            pass
        case Issued() | Paid() | Credited() | Voided() | CreditGiven() | Redeemed():  # money, not credits
            transfers_in_money(request, result)
        case _:
            raise ValueError(f"a {kind} has no result of the type {type(result).__name__}")
    if any(amount_pico < 0 for _, _, amount_pico in moves):
        raise ValueError("an amount that is moved is below nothing")
    return [Transfer(*move) for move in moves if move[2]]


def transfers_in_money(request: OperationRequest, result: OperationResult) -> list[tuple[str, str, int]]:
    """What an operation on invoices moves: (debited, credited, pico-USD above zero); none of nothing. A credit that is
    given moves nothing until an invoice uses it.

    Raises:
        ValueError: the request and the result do not belong together.
    """
    moves: list[_Move] = []
    match request, result:
        case IssueInvoice(), Issued():
            moves = [(RECEIVABLE, REVENUE, request.total_cents)]
            moves += [(expense, RECEIVABLE, cents) for expense, cents in _by_expense(result.applied).items()]
        case Pay(), Paid():
            moves = [(CASH, RECEIVABLE, -request.amount_cents if request.returned else request.amount_cents)]
        case CreditInvoice(), Credited():
            moves = [(request.account, RECEIVABLE, request.amount_cents)]
        case VoidInvoice(), Voided():
            moves = [(REVENUE, RECEIVABLE, result.amount_cents)]
            moves += [(RECEIVABLE, expense, cents) for expense, cents in _by_expense(result.returned).items()]
        case (GiveCredit(), CreditGiven()) | (RedeemPromo(), Redeemed()):
            pass
        case _:
            raise ValueError(f"{type(request).__name__} has no result of the type {type(result).__name__}")
    turned = [(to, of, -cents) if cents < 0 else (of, to, cents) for of, to, cents in moves]
    return [(debit, credit, cents * CENT_PICO) for debit, credit, cents in turned if cents]


def _by_expense(applied: Iterable[Applied]) -> dict[str, int]:
    """What credits pay, in cents, by the account of what they were given for. What is carried stays owed or ours."""
    found: dict[str, int] = {}
    for one in applied:
        if one.source != "carried":
            expense = GRANTED_FROM[one.source]
            found[expense] = found.get(expense, 0) + one.amount_cents
    return found


def total(lots: Iterable[Lot]) -> int:
    """The sum of the lots, in pico-credits."""
    return sum([lot.amount_pico for lot in lots])


def _back(account: str, lots: Iterable[Lot], expired_pico: int) -> tuple[_Move, ...]:
    return (account, WALLET_AVAILABLE, total(lots) - expired_pico), (account, EXPIRED, expired_pico)


def _charges(result: Settled) -> list[_Move]:
    """Of rounding as much as can be is taken out of the hold, then out of the wallet, the rest is owed."""
    charged = ((WALLET_HELD, result.charged), (WALLET_AVAILABLE, result.overage))
    sources = [(account, total(lots)) for account, lots in charged]
    parts = _less_rounding([*sources, (RECEIVABLE, result.receivable_pico)], result.rounding_pico)
    return [
        (account, to, part)
        for account, *amounts in parts
        for to, part in zip((REVENUE, ROUNDING), amounts, strict=True)
    ]


def _refunds(result: Returned) -> list[_Move]:
    """Of rounding as much as can be is taken out of what is no longer owed, then out of the rest."""
    back = [(account, amount_pico) for _, account, amount_pico in _back(REVENUE, result.returned, result.expired_pico)]
    parts = _less_rounding([(RECEIVABLE, result.receivable_pico), *back], result.rounding_pico)
    return [
        (source, account, part)
        for account, *amounts in parts
        for source, part in zip((REVENUE, ROUNDING), amounts, strict=True)
    ]


def _less_rounding(amounts: Iterable[tuple[str, int]], rounding_pico: int) -> list[tuple[str, int, int]]:
    """Each account with its amount less the part of `rounding_pico` that falls on it, and that part; first come."""
    parts = []
    for account, amount_pico in amounts:
        if not amount_pico:
            continue
        rounded_pico = min(rounding_pico, amount_pico)
        rounding_pico -= rounded_pico
        parts.append((account, amount_pico - rounded_pico, rounded_pico))
    if rounding_pico:
        raise ValueError("more is rounded up than is moved")
    return parts
