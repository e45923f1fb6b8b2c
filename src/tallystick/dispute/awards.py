"""What an upheld dispute gives back: operations that follow its decision, in the same transaction and in this order."""

from __future__ import annotations

from typing import NamedTuple

from tallystick.ledger.credit_operations import GiveCredit
from tallystick.ledger.dispute_operations import DISPUTE, StepDispute, award_id, refund_id
from tallystick.ledger.invoice_operations import CreditInvoice
from tallystick.ledger.operation_ids import operation_id
from tallystick.ledger.operations import OperationKind, Refund


class Award(NamedTuple):
    """An operation that gives something back, with its kind and the request id that it is known by."""

    kind: OperationKind
    request_id: str
    request: CreditInvoice | GiveCredit | Refund


def awards_of(step: StepDispute) -> list[Award]:
    """What follows a step; nothing of one that upholds nothing.

    Money goes back by a credit note on the invoice, at the expense of disputes; where what is disputed is on no invoice
    yet, by a credit that the next one uses. Credits go back to the lots that they were charged from.
    """
    award, seq = step.award, step.dispute_seq
    if step.step != "upheld" or award is None or seq is None:
        return []
    reason = f"dispute {operation_id(DISPUTE, seq)} is upheld: {step.reason}"
    found: list[Award] = []
    if award.cents and award.invoice_id is not None:
        note = CreditInvoice(
            invoice_id=award.invoice_id,
            amount_cents=award.cents,
            author=step.author,
            reason=reason,
            prefix=award.prefix or "",
            account="dispute_expense",
            line=award.line,
            line_cents=award.line_cents,
        )
        found.append(Award("credit_note", award_id(seq), note))
    elif award.cents:
        credit = GiveCredit(source="dispute", amount_cents=award.cents, author=step.author, reason=reason)
        found.append(Award("invoice_credit", award_id(seq), credit))
    for one in award.charges:
        refund = Refund(
            settlement_seq=one.settlement_seq, amount_pico=one.amount_pico, author=step.author, reason=reason
        )
        found.append(Award("refund", refund_id(seq, one.settlement_seq), refund))
    return found
