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

The account on the left is debited, the one on the right credited. Denials, overrides, budgets and standings move
nothing. What goes to `expired` because it came back too late is followed by a grant of source refund, an operation of
its own, which takes it out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from tallystick.ledger.accounts import (
    EXPIRED,
    GRANTED_FROM,
    RECEIVABLE,
    REVENUE,
    ROUNDING,
    WALLET_AVAILABLE,
    WALLET_HELD,
)
from tallystick.ledger.operations import (
    Ended,
    Grant,
    Held,
    Lot,
    OperationKind,
    OperationRequest,
    OperationResult,
    Returned,
    Settled,
)


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
    match request, result:
        case Grant(source=source, amount_pico=amount_pico), _ if kind == "grant":
            return _moved((GRANTED_FROM[source], WALLET_AVAILABLE, amount_pico))
        case _, Held(lots=lots) if kind == "hold":
            return _moved((WALLET_AVAILABLE, WALLET_HELD, total(lots)))
        case _, Settled() if kind == "settlement":
            return _of_settlement(result)
        case _, Returned() if kind in ("release", "expiry"):
            back_pico = total(result.returned) - result.expired_pico
            return _moved(
                (WALLET_HELD, WALLET_AVAILABLE, back_pico),
                (WALLET_HELD, EXPIRED, result.expired_pico),
            )
        case _, Returned() if kind == "refund":
            return _of_refund(result)
        case _, Ended(lots=lots) if kind == "expiry":
            return _moved((WALLET_AVAILABLE, EXPIRED, total(lots)))
        case _ if kind in ("denial", "override", "budget", "standing"):
            return []
    raise ValueError(f"a {kind} has no result of the type {type(result).__name__}")


def total(lots: Iterable[Lot]) -> int:
    """The sum of the lots, in pico-credits."""
    return sum([lot.amount_pico for lot in lots])


def _of_settlement(result: Settled) -> list[Transfer]:
    """Of rounding as much as can be is taken out of the hold, then out of the wallet, the rest is owed."""
    transfers, rounding_pico = [], result.rounding_pico
    charged = (
        (WALLET_HELD, total(result.charged)),
        (WALLET_AVAILABLE, total(result.overage)),
        (RECEIVABLE, result.receivable_pico),
    )
    for account, amount_pico in charged:
        rounded_pico = min(rounding_pico, amount_pico)
        rounding_pico -= rounded_pico
        transfers += [(account, REVENUE, amount_pico - rounded_pico), (account, ROUNDING, rounded_pico)]
    if rounding_pico:
        raise ValueError("a settlement rounds up by more than it charges")
    back_pico = total(result.returned) - result.expired_pico
    return _moved(*transfers, (WALLET_HELD, WALLET_AVAILABLE, back_pico), (WALLET_HELD, EXPIRED, result.expired_pico))


def _of_refund(result: Returned) -> list[Transfer]:
    """Of rounding as much as can be is taken out of what is no longer owed, then out of the rest."""
    transfers, rounding_pico = [], result.rounding_pico
    given = (
        (RECEIVABLE, result.receivable_pico),
        (EXPIRED, result.expired_pico),
        (WALLET_AVAILABLE, total(result.returned) - result.expired_pico),
    )
    for account, amount_pico in given:
        rounded_pico = min(rounding_pico, amount_pico)
        rounding_pico -= rounded_pico
        transfers += [(REVENUE, account, amount_pico - rounded_pico), (ROUNDING, account, rounded_pico)]
    if rounding_pico:
        raise ValueError("a refund gives back more rounding than it gives back")
    return _moved(*transfers)


def _moved(*transfers: tuple[str, str, int]) -> list[Transfer]:
    """Without those of nothing."""
    if any(amount_pico < 0 for _, _, amount_pico in transfers):
        raise ValueError("an amount that is moved is below nothing")
    return [Transfer(*transfer) for transfer in transfers if transfer[2]]
