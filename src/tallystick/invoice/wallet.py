"""What a month did to the org's wallet: the operations of the period in order, each by what it moved.

Everything follows from the transfers that the operations' entries mean (`ledger.operation_transfers`), so that whoever
has the entries can add it up again. Amounts are pico-credits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick.ledger.accounts import (
    EXPIRED,
    RECEIVABLE,
    REVENUE,
    ROUNDING,
    WALLET_ACCOUNTS,
    WALLET_AVAILABLE,
    WALLET_HELD,
)
from tallystick.ledger.operation_body import decode_body
from tallystick.ledger.operation_transfers import Transfer, transfers_of
from tallystick.ledger.operations import Grant

ReadBody = Callable[[str, str], tuple[Any, Any]]

MOVING_KINDS: Final = ("grant", "hold", "settlement", "release", "expiry", "refund")
"""The operations that may move credits; the others say something about the org."""

_WORK: Final = (REVENUE, ROUNDING)
"""Where charges go, and where refunds come from."""


@dataclass(slots=True)
class CreditSum:
    """How many operations there were, and how many pico-credits they come to."""

    count: int = 0
    amount_pico: int = 0

    def add(self, amount_pico: int) -> None:
        """One more operation."""
        self.count += 1
        self.amount_pico += amount_pico


@dataclass(slots=True)
class WalletMonth:
    """The wallet over a period. Add the period's operations in ascending sequence.

    Attributes:
        operations: how many moved credits.
        opening: what was available and what was held before the first of them; None when there is none.
        moved: by how much the period has changed the two.
        granted: what came in, by source.
        charged, refunded, expired: what left the wallet for work, what came back to it of that, and what came to its
            end in it.
        topped_up: grants that the customer pays for, by section of the invoice.
        owed: charges beyond the wallet, less what was refunded of such, by section.
    """

    operations: int = 0
    opening: tuple[int, int] | None = None
    moved: tuple[int, int] = (0, 0)
    granted: dict[str, CreditSum] = field(default_factory=dict)
    charged: int = 0
    refunded: int = 0
    expired: int = 0
    topped_up: dict[int, CreditSum] = field(default_factory=dict)
    owed: dict[int, int] = field(default_factory=dict)

    def add(self, kind: str, body: str | None, section: int, *, read: ReadBody = decode_body) -> None:
        """One operation of the period, in a time that this section of the invoice is for.

        Args:
            kind, body: as its entry has them.
            section: the section's place; see `Terms.section_of`.
            read: how its body is read: `decode_body` doubts all of it; `read_body`, a quarter of the work, is for what
                nobody doubts.

        Raises:
            ValueError: its body is not that of such an operation.
        """
        if kind not in MOVING_KINDS:
            return
        request, result = read(kind, body or "")
        transfers = transfers_of(kind, request, result)  # type: ignore[arg-type]
        if not transfers:
            return
        if self.opening is None:
            self.opening = (result.before.available_pico, result.before.held_pico)
        self.operations += 1
        self._move(transfers, section)
        if isinstance(request, Grant):
            self.granted.setdefault(request.source, CreditSum()).add(request.amount_pico)
            if request.source == "top_up":
                self.topped_up.setdefault(section, CreditSum()).add(request.amount_pico)

    @property
    def closing(self) -> tuple[int, int] | None:
        """What was available and what was held after the period."""
        if self.opening is None:
            return None
        return self.opening[0] + self.moved[0], self.opening[1] + self.moved[1]

    def _move(self, transfers: Iterable[Transfer], section: int) -> None:
        available, held = self.moved
        for debit, credit, amount in transfers:
            available += amount * ((credit == WALLET_AVAILABLE) - (debit == WALLET_AVAILABLE))
            held += amount * ((credit == WALLET_HELD) - (debit == WALLET_HELD))
            if debit in WALLET_ACCOUNTS and credit == EXPIRED:
                self.expired += amount
            elif debit in WALLET_ACCOUNTS and credit in _WORK:
                self.charged += amount
            elif debit in _WORK and credit == WALLET_AVAILABLE:
                self.refunded += amount
            elif debit == RECEIVABLE and credit in _WORK:
                self.owed[section] = self.owed.get(section, 0) + amount
            elif debit in _WORK and credit == RECEIVABLE:
                self.owed[section] = self.owed.get(section, 0) - amount
        self.moved = available, held
