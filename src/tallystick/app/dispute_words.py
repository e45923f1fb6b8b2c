"""What became of a dispute, in a sentence, and as plain members: for histories and explanations."""

from __future__ import annotations

from typing import Any

from tallystick.app.answer_parts import pico_to_credits
from tallystick.core.instants import format_instant
from tallystick.core.money import cents_to_usd
from tallystick.ledger.dispute_operations import DISPUTE, Award, DisputeScope, StepDispute, Stepped
from tallystick.ledger.operation_ids import operation_id


def dispute_sentence(request: StepDispute, result: Stepped) -> str:
    """What the step was."""
    named = operation_id(DISPUTE, request.dispute_seq) if request.dispute_seq is not None else ""
    if request.step == "opened" and request.scope is not None:
        due = format_instant(result.answer_due_at)
        return f"{_what(request.scope)} disputed, {_amounts(result)} of it; to be answered by {due}"
    if request.step == "evidence" and request.evidence is not None:
        found = request.evidence.differences
        what = "nothing differs" if not found else f"{found:,} difference{'' if found == 1 else 's'}"
        return f"dispute {named} has its evidence: {what}"
    if request.step == "upheld" and request.award is not None:
        return f"dispute {named} upheld: {_given(request.award)} given back"
    said = {"review_begun": "is under review", "rejected": "rejected", "withdrawn": "withdrawn"}[request.step]
    return f"dispute {named} {said}"


def dispute_members(request: StepDispute, result: Stepped) -> dict[str, Any]:
    """All that its entry says, as plain JSON members; amounts are decimal strings."""
    members: dict[str, Any] = {
        "step": request.step,
        "dispute_id": None if request.dispute_seq is None else operation_id(DISPUTE, request.dispute_seq),
        "state": result.state,
        "disputed_usd": cents_to_usd(result.disputed_cents),
        "disputed_credits": pico_to_credits(result.credits_pico),
        "answer_due_at": format_instant(result.answer_due_at),
    }
    scope, evidence, award = request.scope, request.evidence, request.award
    if scope is not None:
        members |= {
            "what": scope.what,
            "invoice_id": scope.invoice_id,
            "line": scope.line,
            "entries": list(scope.entries),
            "settlements": [operation_id("settlement", one.settlement_seq) for one in scope.charges],
        }
    if request.terms is not None:
        closes_at = request.terms.closes_at
        members |= {
            "closes_at": None if closes_at is None else format_instant(closes_at),
            "contract": request.terms.contract,
            "contract_version": request.terms.contract_version,
        }
    if evidence is not None:
        members |= {
            "evidence_sha256": evidence.sha256,
            "differences": evidence.differences,
            "proposed_usd": cents_to_usd(evidence.proposed_cents),
        }
    if award is not None:
        members |= {
            "upheld_usd": cents_to_usd(award.cents),
            "upheld_credits": pico_to_credits(award.credits_pico),
            "upheld_settlements": [operation_id("settlement", one.settlement_seq) for one in award.charges],
        }
    return members


def _what(scope: DisputeScope) -> str:
    if scope.what == "requests":
        count = len(scope.entries)
        on = f" on invoice {scope.invoice_id}" if scope.invoice_id is not None else ""
        return f"{count:,} request{'' if count == 1 else 's'}{on}"
    return f"invoice {scope.invoice_id}" + ("" if scope.line is None else f", line {scope.line},")


def _amounts(result: Stepped) -> str:
    return f"{cents_to_usd(result.disputed_cents)} USD" + _credits(result.credits_pico)


def _given(award: Award) -> str:
    return f"{cents_to_usd(award.cents)} USD" + _credits(award.credits_pico)


def _credits(pico: int) -> str:
    return f" and {pico_to_credits(pico)} credits" if pico else ""
