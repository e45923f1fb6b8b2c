"""What each operation moves between the accounts, case by case; and what of it cannot be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

import msgspec
import pytest

from tallystick.contract.decision import Decision, NextStep, Quote
from tallystick.ledger.accounts import CREDIT_ACCOUNTS, GRANTED_FROM
from tallystick.ledger.operation_transfers import Transfer, transfers_of
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Ended,
    Expire,
    Grant,
    Granted,
    GrantSource,
    Held,
    Lot,
    Noted,
    OperationKind,
    OperationRequest,
    OperationResult,
    Refund,
    ReleaseHold,
    Returned,
    SetStanding,
    Settle,
    Settled,
    WalletState,
)

NOW = datetime(2026, 10, 5, 12, tzinfo=UTC)
EMPTY = WalletState(available_pico=0, held_pico=0)
STEP = NextStep(kind="none", text="x")
DECISION = Decision(
    allow=True, code="allowed", message="x", next_step=STEP, limits=(), quote=Quote(
        credits_pico=0, reserve_pico=0, worst_cost_pico=0
    ), contract="c", contract_version="1", contract_sha256="0", plan="p",
)  # fmt: skip
ASKED = Authorize(feature="f", environment="production")
SETTLED = Settled(
    charged=(), overage=(), receivable_pico=0, rounding_pico=0, returned=(), expired_pico=0, finished=False,
    cost_pico=0, priced=True, charge_pico=0, why="x", before=EMPTY, after=EMPTY,
)  # fmt: skip
RETURNED = Returned(returned=(Lot(1, 6), Lot(2, 4)), expired_pico=4, before=EMPTY, after=EMPTY)


def held(*lots: Lot) -> Held:
    return Held(
        decision=DECISION, lots=lots, cost_pico=7, charge_pico=8, billed=True, expires_at=NOW, before=EMPTY, after=EMPTY
    )


def settled(**members: object) -> Settled:
    return msgspec.structs.replace(SETTLED, **members)


GRANTED = Granted(before=EMPTY, after=EMPTY)
SETTLE = Settle(hold_seq=1, outcome="success")
REFUND = Refund(settlement_seq=1, amount_pico=None, author="a", reason="r")


@pytest.mark.parametrize(
    ("source", "account"),
    [
        ("top_up", "receivable"),
        ("included", "included_allowance"),
        ("promo", "promo_expense"),
        ("goodwill", "promo_expense"),
        ("sla", "sla_expense"),
        ("dispute", "dispute_expense"),
        ("refund", "expired"),
    ],
)
def test_credits_come_in_from_the_account_of_their_source(source: GrantSource, account: str) -> None:
    request = Grant(source=source, amount_pico=9, author="a", reason="r")
    assert transfers_of("grant", request, GRANTED) == [Transfer(account, "wallet_available", 9)]


def test_every_source_has_an_account() -> None:
    assert set(GRANTED_FROM) == set(get_args(GrantSource))
    assert set(GRANTED_FROM.values()) <= set(CREDIT_ACCOUNTS)


@pytest.mark.parametrize(
    ("kind", "request_", "result", "moves"),
    [
        ("hold", ASKED, held(Lot(1, 3), Lot(2, 4)), {"wallet_available>wallet_held": 7}),
        ("hold", ASKED, held(), {}),
        ("denial", ASKED, Denied(decision=DECISION, wallet=EMPTY), {}),
        ("release", ReleaseHold(hold_seq=1), RETURNED, {"wallet_held>wallet_available": 6, "wallet_held>expired": 4}),
        (
            "expiry", Expire(what="hold", seq=1), RETURNED,
            {"wallet_held>wallet_available": 6, "wallet_held>expired": 4},
        ),
        (
            "expiry", Expire(what="grant", seq=1), Ended(lots=(Lot(1, 5),), before=EMPTY, after=EMPTY),
            {"wallet_available>expired": 5},
        ),
        (
            "settlement", SETTLE,
            settled(charged=(Lot(1, 5), Lot(2, 2)), returned=(Lot(2, 1), Lot(3, 6)), expired_pico=6, rounding_pico=3),
            {"wallet_held>revenue": 4, "wallet_held>rounding": 3, "wallet_held>wallet_available": 1,
             "wallet_held>expired": 6},
        ),
        (
            "settlement", SETTLE,
            settled(charged=(Lot(1, 5),), overage=(Lot(2, 4),), receivable_pico=3, rounding_pico=7),
            {"wallet_held>rounding": 5, "wallet_available>rounding": 2, "wallet_available>revenue": 2,
             "receivable>revenue": 3},
        ),
        (
            "refund", REFUND, msgspec.structs.replace(RETURNED, receivable_pico=3, rounding_pico=5),
            {"rounding>receivable": 3, "rounding>wallet_available": 2, "revenue>wallet_available": 4,
             "revenue>expired": 4},
        ),
        ("standing", SetStanding(suspended=None, enforcement=None, author="a"), Noted(effective_at=NOW), {}),
    ],
)  # fmt: skip
def test_an_operation_moves(
    kind: OperationKind, request_: OperationRequest, result: OperationResult, moves: dict[str, int]
) -> None:
    found = transfers_of(kind, request_, result)
    assert {f"{one.debit_account}>{one.credit_account}": one.amount_pico for one in found} == moves
    assert len(found) == len(moves)


@pytest.mark.parametrize(
    ("kind", "request_", "result"),
    [
        ("hold", ASKED, Denied(decision=DECISION, wallet=EMPTY)),
        ("denial", ASKED, held(Lot(1, 1))),
        ("grant", ASKED, GRANTED),
        ("refund", REFUND, SETTLED),
        ("release", ReleaseHold(hold_seq=1), SETTLED),
        ("release", ReleaseHold(hold_seq=1), msgspec.structs.replace(RETURNED, expired_pico=11)),
        ("release", ReleaseHold(hold_seq=1), msgspec.structs.replace(RETURNED, expired_pico=-1)),
        ("settlement", SETTLE, settled(charged=(Lot(1, 2),), rounding_pico=3)),
        ("settlement", SETTLE, settled(charged=(Lot(1, 2),), rounding_pico=-3)),
        ("settlement", SETTLE, settled(receivable_pico=-3)),
        ("refund", REFUND, msgspec.structs.replace(RETURNED, rounding_pico=11)),
    ],
)
def test_what_does_not_belong_together_moves_nothing_at_all(
    kind: OperationKind, request_: OperationRequest, result: OperationResult
) -> None:
    with pytest.raises(ValueError, match=r"no result of the type|rounded up|below nothing"):
        transfers_of(kind, request_, result)
