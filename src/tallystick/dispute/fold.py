"""Where an org's disputes stand, from its entries alone: what the tables of their state are compared with.

Each step must be what `dispute.machine` makes of it from those before; and after a dispute is upheld, what it gives
back must follow at once, each operation as `dispute.awards` says it, with nothing between.
"""

from __future__ import annotations

from collections.abc import Callable

from tallystick.core.errors import TallyError
from tallystick.dispute.awards import Award, awards_of
from tallystick.dispute.machine import open_dispute, step_dispute
from tallystick.dispute.model import DisputeAccount, DisputeEvent, InvoiceLeft
from tallystick.ledger.dispute_operations import DISPUTE, StepDispute, Stepped
from tallystick.ledger.fold import DoesNotFollow, FoldEntry
from tallystick.ledger.operations import Grant

InvoiceOf = Callable[[str], InvoiceLeft | None]
"""Of an invoice of the org, what is left of it as of the entries so far; None where it is not issued."""


class DisputeFold:
    """The fold of one org's disputes, entry by entry.

    Args:
        invoice_of: as the org's invoices stand, with all entries so far.

    Attributes:
        disputes: by the entry that opened them.
        events: all that has happened, in order.
    """

    def __init__(self, invoice_of: InvoiceOf) -> None:
        self._invoice_of = invoice_of
        self.disputes: dict[int, DisputeAccount] = {}
        self.events: list[DisputeEvent] = []
        self._due: list[Award] = []

    def add(self, entry: FoldEntry) -> None:
        """The org's next operation, of whatever kind.

        Raises:
            DoesNotFollow: it does not follow from those before.
        """
        if self._due:
            self._expect(entry)
        if entry.kind != DISPUTE:
            return
        request, result = entry.request, entry.result
        if not isinstance(request, StepDispute) or not isinstance(result, Stepped):
            raise DoesNotFollow(entry.seq, f"a {entry.kind} is no {type(request).__name__}")
        try:
            if request.step == "opened":
                invoice_id = None if request.scope is None else request.scope.invoice_id
                invoice = None if invoice_id is None else self._invoice_of(invoice_id)
                others = self.disputes.values()
                change = open_dispute(others, invoice, entry.seq, entry.recorded_at, request, entry.request_id)
            else:
                account = self.disputes.get(request.dispute_seq or 0)
                change = step_dispute(account, entry.seq, entry.recorded_at, request)
        except TallyError as error:
            raise DoesNotFollow(entry.seq, error.detail) from None
        except ValueError as error:
            raise DoesNotFollow(entry.seq, str(error)) from None
        if (change.step.result, change.step.refers_to_seq) != (result, entry.refers_to_seq):
            raise DoesNotFollow(entry.seq, f"its result is not what follows from it, {change.step.result}")
        self.disputes[change.account.seq] = change.account
        self.events.append(change.event)
        self._due = awards_of(request)

    def finish(self) -> None:
        """There are no more operations.

        Raises:
            DoesNotFollow: a dispute was upheld, and what it gives back is missing.
        """
        if self._due:
            raise DoesNotFollow(self.events[-1].seq, f"what it gives back is missing: {self._due[0].request_id}")

    def _expect(self, entry: FoldEntry) -> None:
        if isinstance(entry.request, Grant) and entry.request.source == "refund":
            return  # what goes back to a grant that is over is granted again
        if (entry.kind, entry.request_id, entry.request) != self._due[0]:
            due = self._due[0]
            raise DoesNotFollow(entry.seq, f"the {due.kind} {due.request_id} of an upheld dispute was to come here")
        del self._due[0]
