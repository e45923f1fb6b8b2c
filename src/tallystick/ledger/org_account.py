"""An org's account as the state machine finds it: loaded under the head's lock, changed in memory, saved again.

All of it follows from the org's entries (`ledger.fold` makes it from them alone). Not all of it need be loaded each
time; each attribute says what has to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from tallystick.contract.decision import Budget, Override
from tallystick.core.struct_types import work_out
from tallystick.ledger.budget_index import BudgetIndex
from tallystick.ledger.operations import (
    Authorize,
    Held,
    Lot,
    OperationKind,
    OperationRequest,
    OperationResult,
    SetStanding,
    Settled,
)
from tallystick.ledger.reservations import reservations
from tallystick.ledger.wallet import Wallet


class OpenHold(NamedTuple):
    """A hold that nothing has resolved. `user_id` is whose work it is; None once that is erased."""

    seq: int
    request: Authorize
    user_id: str | None
    held: Held

    @property
    def amount_pico(self) -> int:
        """The credits that it has reserved."""
        return sum([lot.amount_pico for lot in self.held.lots])


class Resolution(NamedTuple):
    """What has resolved a hold: a settlement, a release or an expiry."""

    seq: int
    kind: OperationKind
    request: OperationRequest
    result: OperationResult


class Charged(NamedTuple):
    """A settlement that can be refunded, and how much of it is refunded already."""

    seq: int
    settled: Settled
    refunded_pico: int

    @property
    def amount_pico(self) -> int:
        """All that it has charged."""
        lots = (*self.settled.charged, *self.settled.overage)
        return sum([lot.amount_pico for lot in lots]) + self.settled.receivable_pico


class FinishedWork(NamedTuple):
    """When an action was last charged for the same work, and by which settlement."""

    charged_at: datetime
    seq: int


class OrgTerms(msgspec.Struct, kw_only=True):
    """What has been said about an org besides its plan. It can be kept as JSON (`msgspec.json`).

    Attributes:
        suspended: why the org is suspended; None while it is not.
        enforcement: its own mode; None for the plan's.
        budgets: by name.
        overrides: by the sequence of their entries; those that have ended are dropped when the next one is set.
    """

    suspended: str | None = None
    enforcement: Literal["enforce", "shadow"] | None = None
    budgets: dict[str, Budget] = {}
    overrides: dict[int, Override] = {}


work_out(OrgTerms)


def with_standing(terms: OrgTerms, request: SetStanding) -> OrgTerms:
    """The org's own terms once its standing is set."""
    said = {name: getattr(request, name) for name in ("suspended", "enforcement") if name not in request.keep}
    return msgspec.structs.replace(terms, **said)


class Step(NamedTuple):
    """One entry to append.

    Attributes:
        seq: its place; those of one answer follow each other.
        request_id: of what follows by itself, such as an expiry; None for what somebody asked for, who named it.
    """

    seq: int
    kind: OperationKind
    request: OperationRequest
    result: OperationResult
    refers_to_seq: int | None = None
    request_id: str | None = None


class OrgAccount:
    """The account of one org.

    Attributes:
        wallet: every lot with something available, and those that the loaded holds and settlements took from.
        holds: by sequence, the open holds that are to be resolved, and those whose life is over; all of them before a
            budget is set.
        resolved: by the sequence of the hold, what has resolved those that somebody asks for again.
        charged: by sequence, the settlements that are to be refunded.
        finished: by action and key of the work, what the loaded requests and holds name.
        terms: whole.
        used: by counter and start of its window (`reservations.windowed`), what is recorded.
        reserved: by counter, what open holds reserve.
        opened, closed: the holds that were made and resolved here, to be saved.
        newly_finished: the finished work that is new here, to be saved.
        reserved_changes: by counter, what `reserved` has grown by here (or shrunk), to be saved.
        terms_changed: whether `terms` is to be saved.
    """

    def __init__(
        self,
        wallet: Wallet | None = None,
        *,
        holds: Iterable[OpenHold] = (),
        resolved: Mapping[int, Resolution] | None = None,
        charged: Iterable[Charged] = (),
        finished: Mapping[tuple[str, str], FinishedWork] | None = None,
        terms: OrgTerms | None = None,
        used: Mapping[tuple[str, datetime], int] | None = None,
        reserved: Mapping[str, int] | None = None,
    ) -> None:
        self.wallet = Wallet() if wallet is None else wallet
        self.holds = {hold.seq: hold for hold in holds}
        self.resolved = dict(resolved or {})
        self.charged = {one.seq: one for one in charged}
        self.finished = dict(finished or {})
        self.terms = OrgTerms() if terms is None else terms
        self.used = dict(used or {})
        self.reserved = dict(reserved or {})
        self.opened: set[int] = set()
        self.closed: set[int] = set()
        self.newly_finished: dict[tuple[str, str], FinishedWork] = {}
        self.reserved_changes: dict[str, int] = {}
        self.terms_changed = False
        self._indexed: dict[str, Budget] | None = None
        self._index = BudgetIndex()

    def committed(self) -> None:
        """All that changed here is saved. What was loaded for one request's sake is to be loaded for the next."""
        self.wallet.changed.clear()
        self.resolved.clear()
        self.charged.clear()
        self.finished.clear()
        self.opened.clear()
        self.closed.clear()
        self.newly_finished.clear()
        self.reserved_changes.clear()
        self.terms_changed = False

    def open(self, hold: OpenHold) -> None:
        """A hold is made: its lots are held already, what it may take of limits and budgets is reserved now."""
        self.holds[hold.seq] = hold
        self.opened.add(hold.seq)
        self._reserve(hold, 1)

    def close(self, hold: OpenHold, by: Resolution) -> None:
        """A hold is resolved: it reserves nothing any more."""
        del self.holds[hold.seq]
        self.resolved[hold.seq] = by
        if hold.seq in self.opened:
            self.opened.discard(hold.seq)
        else:
            self.closed.add(hold.seq)
        self._reserve(hold, -1)

    def set_budgets(self, budgets: dict[str, Budget]) -> None:
        """Other budgets hold: open holds reserve under those from now on. All open holds must be here."""
        for hold in self.holds.values():
            self._reserve(hold, -1)
        self.say(msgspec.structs.replace(self.terms, budgets=budgets))
        for hold in self.holds.values():
            self._reserve(hold, 1)

    def say(self, terms: OrgTerms) -> None:
        """Other terms hold from now on; budgets change by `set_budgets`."""
        self.terms = terms
        self.terms_changed = True

    def finish(self, request: Authorize, done: FinishedWork) -> None:
        """The request's work is done and charged."""
        if request.action is not None and request.work_key is not None:
            self.finished[request.action, request.work_key] = done
            self.newly_finished[request.action, request.work_key] = done

    def applying(self, request: Authorize, user_id: str | None) -> list[tuple[Budget, str]]:
        """The budgets that the request falls under, each with the counter that it compares."""
        return self.budgets.applying(request, user_id)

    @property
    def budgets(self) -> BudgetIndex:
        """The budgets of `terms`, by what they look at."""
        if self._indexed is not self.terms.budgets:
            self._indexed, self._index = self.terms.budgets, BudgetIndex(self.terms.budgets.values())
        return self._index

    def _reserve(self, hold: OpenHold, sign: int) -> None:
        applying = self.applying(hold.request, hold.user_id)
        for counter, amount in reservations(hold.request, hold.held, applying).items():
            self.reserved[counter] = self.reserved.get(counter, 0) + sign * amount
            self.reserved_changes[counter] = self.reserved_changes.get(counter, 0) + sign * amount


def split_lots(lots: Iterable[Lot], amount_pico: int) -> tuple[tuple[Lot, ...], tuple[Lot, ...]]:
    """The first `amount_pico` of the lots, and the rest of them."""
    first, rest = [], []
    for lot in lots:
        if amount_pico >= lot.amount_pico:
            first.append(lot)
        elif amount_pico > 0:
            first.append(Lot(lot.grant_seq, amount_pico))
            rest.append(Lot(lot.grant_seq, lot.amount_pico - amount_pico))
        else:
            rest.append(lot)
        amount_pico = max(0, amount_pico - lot.amount_pico)
    return tuple(first), tuple(rest)
