"""What operations are called in histories and explanations: one sentence each, with its figures, and its reason."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tallystick.app.operation_words import credits_words, sentence, why
from tallystick.contract.decision import Budget, Decision, NextStep, Override, Quote, Verdict
from tallystick.ledger.operations import (
    CREDIT,
    Authorize,
    Denied,
    Ended,
    Expire,
    Grant,
    Granted,
    Held,
    Lot,
    Noted,
    Refund,
    ReleaseHold,
    Returned,
    SetBudget,
    SetOverride,
    SetStanding,
    Settle,
    Settled,
    WalletState,
)

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
WALLET = WalletState(available_pico=0, held_pico=0)
NOTED = Noted(effective_at=NOW)
FIVE = (Lot(1, 5 * CREDIT),)
NOTHING = NextStep(kind="none", text="Nothing; go on.")


def decision(**more: Any) -> Decision:
    return Decision(
        **{
            "allow": True,
            "code": "allowed",
            "message": "Allowed.",
            "next_step": NOTHING,
            "limits": (),
            "quote": Quote(credits_pico=0, reserve_pico=0, worst_cost_pico=0),
            "contract": "shop",
            "contract_version": "1",
            "contract_sha256": "0" * 64,
            "plan": "wallet",
            **more,
        }
    )


def held(decided: Decision, lots: tuple[Lot, ...] = FIVE) -> Held:
    return Held(
        decision=decided,
        lots=lots,
        cost_pico=0,
        charge_pico=0,
        billed=True,
        expires_at=NOW,
        before=WALLET,
        after=WALLET,
    )


def settled(**more: Any) -> Settled:
    return Settled(
        **{
            "charged": FIVE,
            "overage": (),
            "receivable_pico": 0,
            "rounding_pico": 0,
            "returned": (),
            "expired_pico": 0,
            "finished": True,
            "cost_pico": 0,
            "priced": True,
            "charge_pico": 0,
            "why": "5 credits.",
            "before": WALLET,
            "after": WALLET,
            **more,
        }
    )


def returned(lots: tuple[Lot, ...] = FIVE, receivable_pico: int = 0) -> Returned:
    return Returned(returned=lots, expired_pico=0, receivable_pico=receivable_pico, before=WALLET, after=WALLET)


def budget(**more: Any) -> Budget:
    members = {"scope": "org", "subject": None, "of": "cost", "per": "day", "kind": "hard", "max_pico": 2 * CREDIT}
    return Budget(name="cap", **{**members, **more})


ASKED = Authorize(feature="docs", environment="production", action="tailor", model="gpt-4o", work_key="d1")
SHADOWED = decision(
    shadow=True,
    enforced=Verdict(allow=False, code="org_suspended", message="Suspended.", next_step=NOTHING),
)
DENIED = Denied(decision=decision(allow=False, code="unknown_action", message="No."), wallet=WALLET)
OVERRIDE = Override(
    seq=0,
    author="ann",
    reason="a trial",
    expires_at=NOW,
    limits={0: 5000, 1: -1},
    allow_actions=("research",),
    allow_models=("gpt-*",),
    allow_overspend=True,
)
SIGNED = {"author": "ann", "reason": "a trial"}
AT = "2026-11-02T12:00:00Z"
TAILOR = "action tailor with gpt-4o for d1"
PASSED = "(shadow mode: enforcement would have refused it)"
BENT = (
    "limit 1 of the plan is 5,000; limit 2 of the plan is lifted; actions research; models gpt-*; "
    "hard budgets are let pass"
)


@pytest.mark.parametrize(
    ("request_", "result", "said", "because"),
    [
        (ASKED, held(decision()), f"{TAILOR} was allowed; 5 credits reserved until {AT}", "Allowed."),
        (ASKED, held(SHADOWED, ()), f"{TAILOR} was allowed; 0 credits reserved until {AT} {PASSED}", "Allowed."),
        (Authorize(feature="chat", environment="e"), DENIED, "use of chat was denied: unknown_action", "No."),
        (Settle(hold_seq=7, outcome="success"), settled(), "hold h7 ended in success: 5 credits charged", "5 credits."),
        (
            Settle(hold_seq=7, outcome="failure"),
            settled(charged=(), returned=FIVE),
            "hold h7 ended in failure: 0 credits charged, 5 credits given back",
            "5 credits.",
        ),
        (
            Settle(hold_seq=7, outcome="success"),
            settled(overage=(Lot(2, CREDIT),), receivable_pico=CREDIT),
            "hold h7 ended in success: 7 credits charged, 1 credit of it owed",
            "5 credits.",
        ),
        (
            ReleaseHold(hold_seq=7, reason="gave up"),
            returned(),
            "hold h7 was released: 5 credits given back",
            "gave up",
        ),
        (Expire(what="hold", seq=7), returned(), "hold h7 came to its end: 5 credits given back", None),
        (
            Expire(what="grant", seq=1),
            Ended(lots=FIVE, before=WALLET, after=WALLET),
            "grant g1 came to its end: 5 credits gone",
            None,
        ),
        (
            Refund(settlement_seq=9, amount_pico=None, **SIGNED),
            returned((), 3 * CREDIT),
            "3 credits of settlement s9 given back",
            "a trial",
        ),
        (
            Grant(source="sla", amount_pico=CREDIT, expires_at=NOW, **SIGNED),
            Granted(before=WALLET, after=WALLET),
            f"1 credit given because service fell short, until {AT}",
            "a trial",
        ),
        (
            SetOverride(override=OVERRIDE, approved_by="bob", credits_pico=CREDIT),
            NOTED,
            f"an exception until {AT}, asked for by ann and signed off by bob: {BENT}; 1 credit",
            "a trial",
        ),
        (
            SetBudget(name="cap", budget=budget(), author="ann"),
            NOTED,
            "budget cap: 2 USD of our cost a day for the org, hard",
            None,
        ),
        (
            SetBudget(name="cap", budget=budget(scope="user"), author="ann"),
            NOTED,
            "budget cap: 2 USD of our cost a day for user, each one by itself, hard",
            None,
        ),
        (
            SetBudget(name="cap", budget=budget(scope="api_key", subject="k1", of="charge"), author="ann"),
            NOTED,
            "budget cap: 2 USD of charges a day for API key k1, hard",
            None,
        ),
        (SetBudget(name="cap", budget=None, author="ann"), NOTED, "budget cap was taken away", None),
        (
            SetStanding(suspended="unpaid", enforcement=None, author="ann", keep=("enforcement",)),
            NOTED,
            "the org is suspended",
            "unpaid",
        ),
        (
            SetStanding(suspended=None, enforcement="shadow", author="ann"),
            NOTED,
            "the org is in good standing; its mode of enforcement is shadow",
            None,
        ),
        (
            SetStanding(suspended=None, enforcement=None, author="ann", keep=("suspended",)),
            NOTED,
            "its mode of enforcement is that of its plan",
            None,
        ),
    ],
)
def test_every_operation_is_told_in_a_sentence(request_: Any, result: Any, said: str, because: str | None) -> None:
    assert sentence(request_, result) == said
    assert why(request_, result) == because


@pytest.mark.parametrize(
    ("pico", "words"),
    [(0, "0 credits"), (CREDIT, "1 credit"), (CREDIT // 2, "0.5 credits"), (1, "0.000000000001 credits")],
)
def test_credits_are_told_exactly(pico: int, words: str) -> None:
    assert credits_words(pico) == words


def test_what_is_no_operation_has_no_sentence() -> None:
    with pytest.raises(TypeError):
        sentence(object(), NOTED)
