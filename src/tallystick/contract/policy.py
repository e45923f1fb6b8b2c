"""`decide`: may this be done, and what would it be charged? The only place that says so; every edge asks it.

    terms (contract, plan)     policy_terms.py     worked out once for each contract and plan
    the first reason           policy_reasons.py   in the order of `ReasonCode`
    limits and budgets         policy_limits.py
    the quote                  charging.py         and what a settlement charges
    the sentence, next step    policy_words.py, policy_steps.py

docs/decisions.md lists the reasons and the rules. It is a function of its arguments alone: the state names the
instant, and the same four arguments get the same answer for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tallystick.contract.decision import Decision, DenialStatus, OrgState, Quote, ReasonCode, Request, Verdict
from tallystick.contract.model import Contract
from tallystick.contract.policy_limits import reserved_amounts
from tallystick.contract.policy_reasons import find_reason
from tallystick.contract.policy_steps import NONE, next_step
from tallystick.contract.policy_terms import terms_of
from tallystick.contract.policy_words import allowed_message, message

DENIALS: Mapping[ReasonCode, DenialStatus] = MappingProxyType(
    {
        "unknown_plan": "forbidden",
        "org_suspended": "forbidden",
        "unknown_action": "forbidden",
        "action_not_in_plan": "forbidden",
        "model_not_in_plan": "forbidden",
        "unpriced_model": "forbidden",
        "hard_limit_reached": "limited",
        "budget_exceeded": "limited",
        "insufficient_credits": "payment_required",
        "top_up_not_available": "payment_required",
    }
)
"""How an edge answers each reason against a request."""

HTTP_STATUS: Mapping[DenialStatus, int] = MappingProxyType({"payment_required": 402, "forbidden": 403, "limited": 429})


def decide(contract: Contract, plan: str | None, state: OrgState, request: Request) -> Decision:
    """The answer to a request of an org that is on `plan` under `contract`.

    Args:
        plan: the plan's name; None for an org that is on none.
        state: where the org stands. Its `limits` have one use for each limit of the plan; a limit that it leaves out
            is not looked at.
        request: what somebody is about to do.

    Returns:
        The decision. Whatever is asked, there is one, and a denial always has a next step. In shadow mode it allows,
        and `enforced` says what enforcement would have answered.
    """
    terms = terms_of(contract, plan or "")
    found = find_reason(terms, state, request)
    if found.code == "allowed":
        allow, said, step = True, allowed_message(terms, request, found), NONE
    else:
        allow, said, step = False, message(terms, state, request, found), next_step(terms, state, request, found)
    code: ReasonCode = found.code
    enforced: Verdict | None = None
    shadow = (state.enforcement or terms.enforcement) == "shadow"
    if shadow:
        enforced = Verdict(allow=allow, code=code, message=said, next_step=step)
        if not allow:
            allow, code, step = True, "allowed", NONE
            said = f"Let pass, because denials are only recorded for now. Otherwise: {said}"
    return Decision(
        allow=allow,
        code=code,
        message=said,
        next_step=step,
        limits=found.looked,
        quote=found.quote,
        shadow=shadow,
        enforced=enforced,
        overrides=found.helped,
        contract=contract.name,
        contract_version=contract.version,
        contract_sha256=contract.sha256,
        plan=plan or "",
    )


def reserves(contract: Contract, plan: str | None, request: Request, quoted: Quote) -> tuple[int, int]:
    """What a hold of the request reserves from budgets, in pico-USD: (of our cost, of the customer's charge)."""
    return reserved_amounts(terms_of(contract, plan or ""), request, quoted)
