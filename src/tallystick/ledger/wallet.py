"""An org's credits, by lot: what may be spent, in which order it burns, and what holds have reserved.

Lots burn by soonest expiry (those that never expire last), then lower priority, then age (the sequence of the grant).
A hold takes its lots when it is made; what it does not use goes back to the same lots, whatever has come in since.

A wallet is a plain value that changes: it asks no clock and touches nothing else. All amounts are pico-credits. Before
anything is taken from a wallet, lots that have come to their end are taken out of it (`expire`): `now` of a wallet that
was swept never meets a dead lot among those that burn.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter

from tallystick.ledger.operations import GrantSource, Lot, WalletState

_NEVER = datetime.max.replace(tzinfo=UTC)


class GrantedLot:
    """One grant, and what of it is neither charged nor held.

    Attributes:
        seq: the grant's entry.
        key: its place in the burning order.
        available_pico: what may be spent; the rest of `amount_pico` is held, charged or gone.
    """

    __slots__ = ("amount_pico", "available_pico", "expires_at", "granted_at", "key", "priority", "seq", "source")

    def __init__(
        self,
        seq: int,
        source: GrantSource,
        priority: int,
        granted_at: datetime,
        expires_at: datetime | None,
        amount_pico: int,
        available_pico: int,
    ) -> None:
        self.seq = seq
        self.source: GrantSource = source
        self.priority = priority
        self.granted_at = granted_at
        self.expires_at = expires_at
        self.amount_pico = amount_pico
        self.available_pico = available_pico
        self.key = (expires_at or _NEVER, priority, seq)

    def is_over(self, now: datetime) -> bool:
        """Whether the lot has come to its end."""
        return self.expires_at is not None and self.expires_at <= now

    def __repr__(self) -> str:
        return f"GrantedLot({self.seq}, {self.source}, {self.available_pico} of {self.amount_pico})"


_burning_order = attrgetter("key")


class Wallet:
    """The lots of one org, and what of them is held.

    Attributes:
        lots: by sequence, all that are known here; those with nothing available may be left out, except where a
            hold or a charge that is to be undone came from them.
        available_pico: what may be spent.
        held_pico: what open holds have reserved.
        changed: the sequences of the lots whose `available_pico` is another than it was, or which are new.
        latest: the latest instant at which anything is recorded of the wallet; None when that is not known. Clocks of
            several processes are never quite the same: a lot that has come to its end by then is over, for it may have
            ended already, and whatever went back to it would have it end twice.
    """

    __slots__ = ("_burning", "available_pico", "changed", "held_pico", "latest", "lots")

    def __init__(self, lots: Iterable[GrantedLot] = (), held_pico: int = 0, latest: datetime | None = None) -> None:
        self.lots = {lot.seq: lot for lot in lots}
        self._burning = sorted([lot for lot in self.lots.values() if lot.available_pico], key=_burning_order)
        self.available_pico = sum([lot.available_pico for lot in self._burning])
        self.held_pico = held_pico
        self.latest = latest
        self.changed: set[int] = set()

    def reach(self, now: datetime) -> None:
        """Something is recorded of the wallet at that instant."""
        if self.latest is None or now > self.latest:
            self.latest = now

    def state(self) -> WalletState:
        """What is available and what is held."""
        return WalletState(available_pico=self.available_pico, held_pico=self.held_pico)

    def burning(self) -> tuple[GrantedLot, ...]:
        """The lots with something available, in the order in which they burn."""
        return tuple(self._burning)

    def next_expiry(self) -> datetime | None:
        """When the next lot with something available comes to its end; None when none ever does."""
        return self._burning[0].expires_at if self._burning else None

    def grant(self, lot: GrantedLot) -> None:
        """A lot comes in, whole."""
        self.lots[lot.seq] = lot
        self._give(lot, lot.available_pico, is_new=True)

    def take(self, amount_pico: int) -> tuple[Lot, ...] | None:
        """Takes that much out of the lots in their order, and says out of which; None, and nothing, when there is less.

        Zero takes nothing from no lot.
        """
        if amount_pico > self.available_pico:
            return None
        taken, left_pico = [], amount_pico
        while left_pico > 0:
            lot = self._burning[0]
            part_pico = lot.available_pico
            if part_pico > left_pico:
                lot.available_pico = part_pico - left_pico
                part_pico = left_pico
            else:
                lot.available_pico = 0
                del self._burning[0]
            taken.append(Lot(lot.seq, part_pico))
            self.changed.add(lot.seq)
            left_pico -= part_pico
        self.available_pico -= amount_pico
        return tuple(taken)

    def hold(self, amount_pico: int) -> tuple[Lot, ...] | None:
        """Takes that much and keeps it held; None, and nothing, when there is less."""
        lots = self.take(amount_pico)
        if lots is not None:
            self.held_pico += amount_pico
        return lots

    def unhold(self, lots: Iterable[Lot]) -> None:
        """What was held no longer is; where it goes is said by what follows: `give_back`, or nothing when charged."""
        for lot in lots:
            self.held_pico -= lot.amount_pico

    def give_back(self, lots: Iterable[Lot], now: datetime) -> tuple[Lot, ...]:
        """Puts amounts back into the lots that they came from.

        Returns:
            Those of lots that have come to their end meanwhile: they are in no lot now.

        Raises:
            KeyError: a lot is not known here.
        """
        at = now if self.latest is None else max(now, self.latest)
        over = []
        for lot in lots:
            granted = self.lots[lot.grant_seq]
            if granted.is_over(at):
                over.append(lot)
            else:
                self._give(granted, lot.amount_pico, is_new=False)
        return tuple(over)

    def expire(self, now: datetime) -> Lot | None:
        """Takes out the next lot that has come to its end, with all that is available of it; None when none has."""
        expires_at = self.next_expiry()
        if expires_at is None or expires_at > now:
            return None
        lot = self._burning[0]
        taken = self.take(lot.available_pico)
        return taken[0] if taken else None

    def _give(self, lot: GrantedLot, amount_pico: int, *, is_new: bool) -> None:
        if is_new or not lot.available_pico:
            insort(self._burning, lot, key=_burning_order)
        if not is_new:
            lot.available_pico += amount_pico
        self.available_pico += amount_pico
        self.changed.add(lot.seq)
