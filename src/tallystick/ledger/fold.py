"""Where an org's account stands, from its entries alone: what the tables of state are compared with.

Folded are the grants and what of each is available, the open holds, what they reserve of limits and budgets, finished
work, standing, budgets and overrides, and the balance of each account of credits. Counters of what is used in a window
are not: they follow from usage, the plan's limits and the org's time zone.

Each entry must follow from those before it: a hold reserves what its contract quotes, lots burn in their order, a hold
is resolved once and with what it held, a settlement charges what its contract says, a refund gives back what was
charged and no more, what comes back to a grant that is over is granted again and nothing else is, what a wallet had
before and after is what it has. The first that does not ends the fold: what comes after it cannot be told.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, NoReturn

import msgspec

from tallystick.contract.charging import quote
from tallystick.contract.decision import OrgState
from tallystick.contract.model import Contract
from tallystick.contract.policy import reserves
from tallystick.ledger.adjustment import Adjust
from tallystick.ledger.budget_index import BudgetIndex
from tallystick.ledger.credit_operations import CREDIT_KINDS, CreditResult
from tallystick.ledger.dispute_operations import DISPUTE, Stepped
from tallystick.ledger.invoice_operations import INVOICE_KINDS, InvoiceResult
from tallystick.ledger.operation_transfers import total, transfers_of
from tallystick.ledger.operations import (
    Authorize,
    Denied,
    Ended,
    Expire,
    Grant,
    Granted,
    Held,
    Lot,
    Noted,
    OperationKind,
    OperationRequest,
    OperationResult,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
)
from tallystick.ledger.org_account import FinishedWork, OpenHold, OrgTerms, split_lots, with_standing
from tallystick.ledger.org_machine import policy_request
from tallystick.ledger.refundable import Charges, charge_parts
from tallystick.ledger.reservations import reservations
from tallystick.ledger.settlement_charge import settlement_charge
from tallystick.ledger.wallet import GrantedLot, Wallet


class DoesNotFollow(ValueError):
    """An entry does not follow from those before it. `seq` is its place."""

    def __init__(self, seq: int, why: str) -> None:
        super().__init__(f"entry {seq}: {why}")
        self.seq = seq
        self.why = why


class FoldEntry(NamedTuple):
    """What the fold needs of the entry of an operation. `user_id` is None where it was never there, or is erased."""

    seq: int
    kind: OperationKind
    recorded_at: datetime
    request: OperationRequest
    result: OperationResult
    refers_to_seq: int | None = None
    user_id: str | None = None
    request_id: str = ""


class OrgFold:
    """The fold of one org's operations, entry by entry.

    Args:
        contract_of: the contract's version with that hash; None for one that is not known. With it, what each hold
            reserves and each settlement charges is told again; without it, taken as it stands.

    Attributes:
        wallet: all lots that ever came in.
        holds: by sequence, those that are open.
        finished: by action and key of the work.
        terms: what has been said about the org.
        debits, credits: by account of credits, what was debited and credited to it, in pico-credits.
        included: the months that included credits came in for.
        due_again: what the last entry gave back to grants that are over: the next ones grant it again, in this order.
    """

    def __init__(self, contract_of: Callable[[str], Contract | None] | None = None) -> None:
        self._contract_of = contract_of
        self.wallet = Wallet()
        self.holds: dict[int, OpenHold] = {}
        self.finished: dict[tuple[str, str], FinishedWork] = {}
        self.terms = OrgTerms()
        self.debits: dict[str, int] = {}
        self.credits: dict[str, int] = {}
        self._charges = Charges()
        self._seq = 0
        self.due_again: list[Lot] = []
        self.included: set[str | None] = set()

    def add(self, entry: FoldEntry) -> None:
        """The org's next operation; entries come in the order of their sequence, usage and corrections left out.

        Raises:
            DoesNotFollow: it does not follow from those before; this fold is of no more use then.
        """
        seq, kind, request, result = entry.seq, entry.kind, entry.request, entry.result
        if seq <= self._seq:
            self._refuse(seq, f"it comes after entry {self._seq}")
        self._seq = seq
        self.wallet.reach(entry.recorded_at)
        if isinstance(result, InvoiceResult | CreditResult | Stepped):  # `billing.fold` and `dispute.fold` follow them
            kinds = (DISPUTE,) if isinstance(result, Stepped) else (*INVOICE_KINDS, *CREDIT_KINDS)
            if kind not in kinds or self.due_again:
                self._refuse(seq, f"a {kind} does not have the result {type(result).__name__} there")
            return
        handle = _HANDLERS.get((kind, type(request), type(result)))
        if handle is None:
            self._refuse(seq, f"a {kind} is no {type(request).__name__} with the result {type(result).__name__}")
        if self.due_again and (kind, getattr(request, "source", "")) != ("grant", "refund"):
            self._refuse(
                seq, f"what came back to the grant {self.due_again[0].grant_seq} was to be granted again before"
            )
        if any(lot.amount_pico <= 0 for name in _LOTS for lot in getattr(result, name, ())):
            self._refuse(seq, "it moves nothing, or less, of a grant")
        before = result.wallet if isinstance(result, Denied) else None if isinstance(result, Noted) else result.before
        if before is not None and before != self.wallet.state():
            self._refuse(seq, f"the wallet was not {before} before it, but {self.wallet.state()}")
        try:
            handle(self, entry, request, result)
            transfers = transfers_of(kind, request, result)
        except (KeyError, ValueError) as error:
            if isinstance(error, DoesNotFollow):
                raise
            self._refuse(seq, str(error))
        if not isinstance(result, (Denied, Noted)) and result.after != self.wallet.state():
            self._refuse(seq, f"the wallet is not {result.after} after it, but {self.wallet.state()}")
        for debited, credited, amount_pico in transfers:
            self.debits[debited] = self.debits.get(debited, 0) + amount_pico
            self.credits[credited] = self.credits.get(credited, 0) + amount_pico

    def reserved(self) -> dict[str, int]:
        """By counter, what open holds reserve of limits and budgets; nothing of nothing."""
        found: dict[str, int] = {}
        budgets = BudgetIndex(self.terms.budgets.values())
        for hold in self.holds.values():
            applying = budgets.applying(hold.request, hold.user_id)
            for counter, amount in reservations(hold.request, hold.held, applying).items():
                found[counter] = found.get(counter, 0) + amount
        return found

    def _refuse(self, seq: int, why: str) -> NoReturn:
        raise DoesNotFollow(seq, why)

    # ── each kind ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _grant(self, entry: FoldEntry, request: Grant, result: Granted) -> None:
        at, amount_pico = entry.recorded_at, request.amount_pico
        if amount_pico <= 0:
            self._refuse(entry.seq, "it grants nothing")
        lot = GrantedLot(entry.seq, request.source, request.priority, at, request.expires_at, amount_pico, amount_pico)
        if lot.is_over(at):
            self._refuse(entry.seq, "it had expired before it came in")
        if request.source == "included":
            self.included.add(request.period)
        if request.source == "refund":
            again = Lot(request.of_seq or 0, amount_pico)
            if self.due_again[:1] != [again]:
                self._refuse(entry.seq, f"it grants again what did not come back to the grant {again.grant_seq}")
            del self.due_again[0]
        self.wallet.grant(lot)

    def _hold(self, entry: FoldEntry, request: Authorize, result: Held) -> None:
        self._check_hold(entry, request, result)
        if self.wallet.hold(total(result.lots)) != result.lots:
            self._refuse(entry.seq, "it does not take its lots in the order in which they burn")
        self.holds[entry.seq] = OpenHold(entry.seq, request, entry.user_id, result)

    def _check_hold(self, entry: FoldEntry, request: Authorize, result: Held) -> None:
        decision, at = result.decision, entry.recorded_at
        reserve_pico, held_pico = decision.quote.reserve_pico, total(result.lots)
        uncovered = decision.shadow and reserve_pico > self.wallet.available_pico
        if not decision.allow or held_pico != (0 if uncovered else reserve_pico):
            self._refuse(entry.seq, f"it holds {held_pico} pico-credits, and its decision is to hold {reserve_pico}")
        contract = None if self._contract_of is None else self._contract_of(decision.contract_sha256)
        if contract is None:
            if result.expires_at <= at:
                self._refuse(entry.seq, "its life was over before it was made")
            return
        asked = policy_request(request, entry.user_id, decision.quote.worst_cost_pico, contract, decision.plan)
        done = self.finished.get((request.action or "", request.work_key or ""))
        state = OrgState(now=at, finished_at=None if done is None else done.charged_at)
        quoted = quote(contract, contract.plans.get(decision.plan), state, asked)
        due = (quoted, *reserves(contract, decision.plan, asked, quoted), contract.charges(request.environment))
        if (decision.quote, result.cost_pico, result.charge_pico, result.billed) != due:
            self._refuse(entry.seq, "what it is quoted or reserves is not what the contract says")
        if result.expires_at != at + contract.hold_life:
            self._refuse(entry.seq, "it does not live for as long as the contract says")

    def _deny(self, entry: FoldEntry, request: Authorize, result: Denied) -> None:
        if result.decision.allow:
            self._refuse(entry.seq, "it is denied with a decision that allows it")

    def _settle(self, entry: FoldEntry, request: Settle, result: Settled) -> None:
        hold = self._resolved(entry, request.hold_seq)
        self._check_charge(entry, hold, request, result)
        if split_lots(hold.held.lots, total(result.charged)) != (result.charged, result.returned):
            self._refuse(entry.seq, "what it charges and gives back is not what was held")
        beyond_pico = total(result.overage) + result.receivable_pico
        if beyond_pico and result.returned:
            self._refuse(entry.seq, "it charges more than was held, and gives some of that back")
        if self.wallet.take(total(result.overage)) != result.overage:
            self._refuse(entry.seq, "what it charges beyond the hold is not taken in the order in which lots burn")
        if result.receivable_pico and self.wallet.available_pico:
            self._refuse(entry.seq, "it leaves owing what the wallet could pay")
        self._back(entry, result.returned, result.expired_pico)
        self._charges.add(entry.seq, charge_parts(result))
        action, work_key = hold.request.action, hold.request.work_key
        if result.finished:
            if action is None or work_key is None:
                self._refuse(entry.seq, "it finishes work that has no name")
            self.finished[action, work_key] = FinishedWork(entry.recorded_at, entry.seq)

    def _check_charge(self, entry: FoldEntry, hold: OpenHold, request: Settle, result: Settled) -> None:
        contract = None if self._contract_of is None else self._contract_of(hold.held.decision.contract_sha256)
        if contract is None:
            return
        done = self.finished.get((hold.request.action or "", hold.request.work_key or ""))
        due = settlement_charge(
            hold, request, contract, done, entry.recorded_at, cost_pico=result.cost_pico, priced=result.priced
        )
        charged_pico = charge_parts(result).amount_pico
        found = (charged_pico, result.rounding_pico, result.finished, result.charge_pico)
        if found != due[: len(found)]:
            what = f"{charged_pico} pico-credits, {result.rounding_pico} of them rounding"
            self._refuse(
                entry.seq,
                f"it charges {what}; the contract says {due.charged_pico}, {due.rounding_pico} of them rounding",
            )

    def _release(self, entry: FoldEntry, request: ReleaseHold, result: Returned) -> None:
        self._end(entry, request.hold_seq, result)

    def _expire_hold(self, entry: FoldEntry, request: Expire, result: Returned) -> None:
        hold = self.holds.get(request.seq)
        if hold is not None and hold.held.expires_at > entry.recorded_at:
            self._refuse(entry.seq, f"the hold {hold.seq} had not come to its end")
        self._end(entry, request.seq, result)

    def _end(self, entry: FoldEntry, hold_seq: int, result: Returned) -> None:
        hold = self._resolved(entry, hold_seq)
        if hold.held.lots != result.returned or result.receivable_pico or result.rounding_pico:
            self._refuse(entry.seq, "what it gives back is not what was held")
        self._back(entry, result.returned, result.expired_pico)

    def _resolved(self, entry: FoldEntry, hold_seq: int) -> OpenHold:
        hold = self.holds.pop(hold_seq, None)
        if hold is None or entry.refers_to_seq != hold_seq:
            self._refuse(entry.seq, f"there is no open hold {hold_seq} that it refers to")
        self.wallet.unhold(hold.held.lots)
        return hold

    def _back(self, entry: FoldEntry, lots: tuple[Lot, ...], expired_pico: int) -> None:
        over = self.wallet.give_back(lots, entry.recorded_at)
        # What was granted again once and was only held meanwhile is over for good.
        lots_known, is_refund = self.wallet.lots, entry.kind == "refund"
        self.due_again = [lot for lot in over if is_refund or lots_known[lot.grant_seq].source != "refund"]
        if total(over) != expired_pico:
            self._refuse(entry.seq, f"of what it gives back {total(over)} had expired, not {expired_pico}")
        for granted in map(self.wallet.lots.__getitem__, {lot.grant_seq for lot in lots}):
            if granted.available_pico > granted.amount_pico:
                self._refuse(entry.seq, f"the grant {granted.seq} has more available than it ever had")

    def _expire_grant(self, entry: FoldEntry, request: Expire, result: Ended) -> None:
        lot = self.wallet.expire(entry.recorded_at)
        if lot is None or result.lots != (lot,) or not request.seq == entry.refers_to_seq == lot.grant_seq:
            self._refuse(entry.seq, f"the grant that ended then is {lot}")

    def _refund(self, entry: FoldEntry, request: Refund, result: Returned) -> None:
        given_pico = total(result.returned) + result.receivable_pico
        if request.settlement_seq != entry.refers_to_seq or given_pico <= 0:
            self._refuse(entry.seq, "it gives back nothing, or refers to another settlement")
        left_pico = self._charges.left_pico(request.settlement_seq)
        if given_pico > left_pico:
            self._refuse(entry.seq, f"it gives back more than the settlement {request.settlement_seq} charged")
        asked_pico = left_pico if request.amount_pico is None else request.amount_pico
        if given_pico != asked_pico:
            self._refuse(entry.seq, f"it gives back {given_pico}, not {asked_pico}")
        due = self._charges.refund(request.settlement_seq, given_pico)
        if (result.receivable_pico, result.returned, result.rounding_pico) != due:
            self._refuse(entry.seq, "what it gives back is not what was charged, that first which burnt last")
        self._back(entry, result.returned, result.expired_pico)

    def _override(self, entry: FoldEntry, request: SetOverride, result: Noted) -> None:
        override = msgspec.structs.replace(request.override, seq=entry.seq)
        kept = {one.seq: one for one in self.terms.overrides.values() if one.expires_at > entry.recorded_at}
        self.terms = msgspec.structs.replace(self.terms, overrides={**kept, entry.seq: override})

    def _budget(self, entry: FoldEntry, request: SetBudget, result: Noted) -> None:
        budgets = {name: budget for name, budget in self.terms.budgets.items() if name != request.name}
        if request.budget is not None:
            budgets[request.name] = request.budget
        self.terms = msgspec.structs.replace(self.terms, budgets=budgets)

    def _standing(self, entry: FoldEntry, request: SetStanding, result: Noted) -> None:
        self.terms = with_standing(self.terms, request)

    def _adjustment(self, entry: FoldEntry, request: Adjust, result: Noted) -> None:
        if request.of_seq != entry.refers_to_seq or not request.is_sound:
            self._refuse(entry.seq, "it adjusts nothing, or refers to another entry than it says")


_LOTS = ("lots", "charged", "overage", "returned")
_Handler = Callable[..., None]
_HANDLERS: dict[tuple[str, type, type], _Handler] = {
    ("grant", Grant, Granted): OrgFold._grant,
    ("hold", Authorize, Held): OrgFold._hold,
    ("denial", Authorize, Denied): OrgFold._deny,
    ("settlement", Settle, Settled): OrgFold._settle,
    ("release", ReleaseHold, Returned): OrgFold._release,
    ("expiry", Expire, Returned): OrgFold._expire_hold,
    ("expiry", Expire, Ended): OrgFold._expire_grant,
    ("refund", Refund, Returned): OrgFold._refund,
    ("override", SetOverride, Noted): OrgFold._override,
    ("budget", SetBudget, Noted): OrgFold._budget,
    ("standing", SetStanding, Noted): OrgFold._standing,
    ("adjustment", Adjust, Noted): OrgFold._adjustment,
}
