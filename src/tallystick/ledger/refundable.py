"""What settlements have charged, and what a refund of it is made of.

Those credits come back first that burnt last: what is owed, what was charged beyond the hold, then what was charged out
of it. Making a refund and checking it later ask the same function.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from tallystick.core.money import PICO_MAX
from tallystick.ledger.operations import Lot, Settled
from tallystick.ledger.org_account import split_lots


class ChargeParts(NamedTuple):
    """What a settlement has charged, in pico-credits, as its entry has it; see `operations.Settled`."""

    charged: tuple[Lot, ...]
    overage: tuple[Lot, ...]
    receivable_pico: int
    rounding_pico: int

    @property
    def amount_pico(self) -> int:
        """All of it."""
        return sum([lot.amount_pico for lot in (*self.charged, *self.overage)]) + self.receivable_pico


class RefundParts(NamedTuple):
    """What a refund is made of, in pico-credits: what is no longer owed, by lot what goes back, what was rounding."""

    receivable_pico: int
    lots: tuple[Lot, ...]
    rounding_pico: int


def charge_parts(settled: Settled) -> ChargeParts:
    """What the settlement has charged."""
    return ChargeParts(settled.charged, settled.overage, settled.receivable_pico, settled.rounding_pico)


def refund_parts(charge: ChargeParts, refunded_pico: int, amount_pico: int) -> RefundParts:
    """What the next `amount_pico` is made of, when `refunded_pico` of the charge went back before."""
    receivable_pico = min(amount_pico, max(0, charge.receivable_pico - refunded_pico))
    burnt_last_first = (*reversed(charge.overage), *reversed(charge.charged))
    _, left = split_lots(burnt_last_first, max(0, refunded_pico - charge.receivable_pico))
    lots, _ = split_lots(left, amount_pico - receivable_pico)
    # Revenue goes back first, so that rounding is undone by the last of several refunds, and wholly by a whole one.
    revenue_left_pico = max(0, charge.amount_pico - charge.rounding_pico - refunded_pico)
    return RefundParts(receivable_pico, _joined(lots), max(0, amount_pico - revenue_left_pico))


def _joined(lots: Iterable[Lot]) -> tuple[Lot, ...]:
    """A lot that was charged out of the hold and beyond it is given back to once."""
    amounts: dict[int, int] = {}
    for lot in lots:
        amounts[lot.grant_seq] = amounts.get(lot.grant_seq, 0) + lot.amount_pico
    return tuple(Lot(seq, amount_pico) for seq, amount_pico in amounts.items())


class Charges:
    """What each settlement of an org has charged, and how much of that is refunded.

    There may be millions: what came out of one lot, as nearly all does, takes 32 bytes.
    """

    def __init__(self) -> None:
        self._seqs = array("q")
        self._grants = array("q")
        self._amounts_pico = array("q")
        self._roundings_pico = array("q")
        self._others: dict[int, ChargeParts] = {}
        self._refunded_pico: dict[int, int] = {}

    def add(self, seq: int, charge: ChargeParts) -> None:
        """A settlement, after those that came before it."""
        amount_pico = charge.amount_pico
        if len(charge.charged) == 1 and charge.charged[0].amount_pico == amount_pico <= PICO_MAX:
            self._seqs.append(seq)
            self._grants.append(charge.charged[0].grant_seq)
            self._amounts_pico.append(amount_pico)
            self._roundings_pico.append(charge.rounding_pico)
        elif amount_pico:
            self._others[seq] = charge

    def left_pico(self, seq: int) -> int:
        """How much of what the settlement charged is not refunded; nothing of one that is not known."""
        charge = self._of(seq)
        return 0 if charge is None else charge.amount_pico - self._refunded_pico.get(seq, 0)

    def refund(self, seq: int, amount_pico: int) -> RefundParts:
        """So much of it goes back: at most what is left."""
        charge, refunded_pico = self._of(seq), self._refunded_pico.get(seq, 0)
        if charge is None:
            raise KeyError(seq)
        self._refunded_pico[seq] = refunded_pico + amount_pico
        return refund_parts(charge, refunded_pico, amount_pico)

    def _of(self, seq: int) -> ChargeParts | None:
        place = bisect_left(self._seqs, seq)
        if place == len(self._seqs) or self._seqs[place] != seq:
            return self._others.get(seq)
        lot = Lot(self._grants[place], self._amounts_pico[place])
        return ChargeParts((lot,), (), 0, self._roundings_pico[place])
