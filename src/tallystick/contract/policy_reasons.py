"""Why a request is denied: the reasons, looked for one after the other; the first that is found is the answer."""

from __future__ import annotations

from tallystick.contract.charging import quote
from tallystick.contract.decision import LimitLooked, OrgState, Quote, ReasonCode, Request
from tallystick.contract.policy_limits import look_at_budgets, look_at_limits
from tallystick.contract.policy_terms import Terms, matches, model_allowed


class Finding:
    """What was found.

    Attributes:
        code: the first reason against the request; `allowed` when there is none.
        passed: the limit or budget that the request would pass, when that is the reason.
        looked: every limit and budget that was looked at.
        helped: the sequences of the overrides without which it would be denied.
    """

    __slots__ = ("code", "helped", "looked", "passed", "quote")

    def __init__(self, quoted: Quote) -> None:
        self.code: ReasonCode = "allowed"
        self.quote = quoted
        self.passed: LimitLooked | None = None
        self.looked: tuple[LimitLooked, ...] = ()
        self.helped: tuple[int, ...] = ()


def find_reason(terms: Terms, state: OrgState, request: Request) -> Finding:
    """The first reason against the request, in the order of `ReasonCode`."""
    found = Finding(quote(terms.contract, terms.plan, state, request))
    helped: list[int] = []
    entitled = _entitlement(terms, state, request, helped)
    if entitled is not None:
        found.code = entitled
    elif _needs_a_price(terms, state, request):
        found.code = "unpriced_model"
    else:
        _look(terms, state, request, found, helped)
    if helped and found.code == "allowed":
        found.helped = tuple(sorted(set(helped)))
    return found


def _entitlement(terms: Terms, state: OrgState, request: Request, helped: list[int]) -> ReasonCode | None:
    plan = terms.plan
    if plan is None:
        return "unknown_plan"
    if state.suspended is not None:
        return "org_suspended"
    action, model = request.action, request.model
    if action is not None:
        if action not in terms.contract.actions:
            return "unknown_action"
        if terms.actions is not None and action not in terms.actions:
            seq = next((each.seq for each in state.overrides if action in each.allow_actions), None)
            if seq is None:
                return "action_not_in_plan"
            helped.append(seq)
    if model is not None and not model_allowed(plan.models, model):
        seq = next((each.seq for each in state.overrides if matches(each.allow_models, model)), None)
        if seq is None:
            return "model_not_in_plan"
        helped.append(seq)
    return None


def _needs_a_price(terms: Terms, state: OrgState, request: Request) -> bool:
    """Whether the request's cost must be known, and is not: its charge or a hard budget depends on it.

    What the customer's own key pays for is not our cost, and needs no price of ours.
    """
    if request.worst_cost_pico is not None or request.payer != "seller" or terms.plan is None:
        return False
    charged = request.environment not in terms.uncharged
    if charged and terms.plan.has_wallet and request.action is not None:
        action = terms.contract.actions.get(request.action)
        if action is not None and action.cost_plus is not None:
            return True
    if any(override.allow_overspend for override in state.overrides):
        return False
    return any(
        use.budget.kind == "hard" and (use.budget.of == "cost" or _charge_needs_cost(terms, request, charged))
        for use in state.budgets
    )


def _charge_needs_cost(terms: Terms, request: Request, charged: bool) -> bool:
    """Whether what the request is charged depends on its cost: a meter that it names is priced as a share of it."""
    return charged and any(meter in terms.cost_priced for meter in request.meters)


def _look(terms: Terms, state: OrgState, request: Request, found: Finding, helped: list[int]) -> None:
    charged = request.environment not in terms.uncharged
    if charged and state.limits:
        limits = look_at_limits(terms, state, request)
        found.looked = tuple(limits.all)
        if limits.passed is not None:
            found.code, found.passed = "hard_limit_reached", limits.passed
            return
        helped += limits.helped
    if state.budgets:
        budgets = look_at_budgets(terms, state, request, found.quote)
        found.looked += tuple(budgets.all)
        if budgets.passed is not None:
            found.code, found.passed = "budget_exceeded", budgets.passed
            return
        helped += budgets.helped
    if found.quote.reserve_pico > state.available_pico and terms.plan is not None:
        found.code = "insufficient_credits" if terms.plan.top_up else "top_up_not_available"
