"""The life of disputes, in any order of steps, against a model of states and sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.core.errors import TallyError
from tallystick.dispute.awards import awards_of
from tallystick.dispute.machine import open_dispute, step_dispute
from tallystick.dispute.model import UNDECIDED, DisputeAccount, InvoiceLeft
from tallystick.ledger.dispute_operations import (
    Award,
    DisputedCharge,
    DisputeEvidence,
    DisputeScope,
    DisputeTerms,
    StepDispute,
)
from tallystick.ledger.invoice_operations import CreditInvoice
from tallystick.ledger.operation_body import decode_body, encode_part, join_body

NOW = datetime(2026, 11, 2, tzinfo=UTC)
TERMS = DisputeTerms(
    closes_at=NOW + timedelta(hours=500),
    answer_seconds=3600,
    contract="acme",
    contract_version="1",
    contract_sha256="0" * 64,
)
LINES = {1: 600, 2: 400}
TOTAL = 1000
NEXT = {
    "review_begun": {"open": "under_review"},
    "upheld": {"open": "upheld", "under_review": "upheld"},
    "rejected": {"open": "rejected", "under_review": "rejected"},
    "withdrawn": {"open": "withdrawn", "under_review": "withdrawn"},
}

openings = st.tuples(
    st.just("open"),
    st.sampled_from(["invoice", "line", "requests"]),
    st.integers(1, 2),
    st.one_of(st.none(), st.integers(1, 1200)),
    st.sets(st.integers(1, 6), min_size=1, max_size=3),
)
steps = st.tuples(st.sampled_from(["evidence", *NEXT]), st.integers(0, 5), st.one_of(st.none(), st.integers(0, 1200)))


def scope(what: str, line: int, entries: set[int]) -> DisputeScope:
    if what == "requests":
        charges = tuple(DisputedCharge(100 + one, 10) for one in sorted(entries))
        places = tuple(sorted(entries))
        return DisputeScope(what="requests", invoice_id="inv", entries=places, cents=50, charges=charges)
    if what == "line":
        return DisputeScope(what="line", invoice_id="inv", line=line, line_cents=LINES[line], cents=LINES[line])
    return DisputeScope(what="invoice", invoice_id="inv", cents=TOTAL)


def sent(step: Any, seq: int, cents: int | None, account: DisputeAccount | None) -> StepDispute:
    evidence = DisputeEvidence(sha256="e" * 64, differences=1, proposed_cents=2) if step == "evidence" else None
    award = None
    if step == "upheld" and account is not None:
        line = account.line
        award = Award(
            cents=account.disputed_cents if cents is None else cents,
            charges=account.charges if cents is None else (),
            invoice_id="inv",
            line=line,
            line_cents=None if line is None else LINES[line],
            prefix="ACME-CN",
        )
    return StepDispute(step=step, dispute_seq=seq, author="ann", reason="why", evidence=evidence, award=award)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(openings, steps), max_size=14))
def test_disputes_never_give_back_more_than_was_charged_and_are_decided_once(script: list[Any]) -> None:
    disputes: dict[int, DisputeAccount] = {}
    states: dict[int, str] = {}
    proved: set[int] = set()
    credited, lines = 0, {1: 0, 2: 0}
    for place, asked in enumerate(script):
        seq, now = 10 + place, NOW + timedelta(hours=50 * place)
        invoice = InvoiceLeft(TOTAL, credited, False, dict(lines))
        try:
            if asked[0] == "open":
                _, what, line, cents, entries = asked
                request = StepDispute(
                    step="opened", author="bob", reason="why", scope=scope(what, line, entries), terms=TERMS,
                    asked_cents=cents,
                )  # fmt: skip
                change = open_dispute(disputes.values(), invoice, seq, now, request, f"d{seq}")
            else:
                step, which, cents = asked
                named = sorted(disputes)[which] if which < len(disputes) else 999
                request = sent(step, named, cents, disputes.get(named))
                change = step_dispute(disputes.get(named), seq, now, request)
        except TallyError:
            continue  # nothing is changed
        written = join_body(encode_part(change.step.request), encode_part(change.step.result))
        assert decode_body("dispute", written.decode()) == (change.step.request, change.step.result)
        account = change.account
        disputes[account.seq] = account
        if request.step == "opened":
            assert now < (TERMS.closes_at or now)
            states[seq] = "open"
            assert account.answer_due_at == now + timedelta(hours=1)
        elif request.step == "evidence":
            assert account.seq not in proved
            proved.add(account.seq)
            assert (account.evidence_seq, account.proposed_cents) == (seq, 2)
        else:
            states[account.seq] = NEXT[request.step][states[account.seq]]
        for award in awards_of(request):
            if isinstance(award.request, CreditInvoice):
                credited += award.request.amount_cents
                if award.request.line is not None:
                    lines[award.request.line] += award.request.amount_cents
        # Whatever is still disputed could be given back in full, and no more.
        waiting = [one for one in disputes.values() if one.state in UNDECIDED]
        assert credited + sum(one.disputed_cents for one in waiting) <= TOTAL
        for line, cents in LINES.items():
            assert lines[line] + sum(one.disputed_cents for one in waiting if one.line == line) <= cents
        counted = [entry for one in disputes.values() if states[one.seq] not in ("rejected", "withdrawn")
                   for entry in one.entries]  # fmt: skip
        assert len(counted) == len(set(counted))
        assert {seq: one.state for seq, one in disputes.items()} == states
