"""The price list: a contract as its customers read it."""

from __future__ import annotations

from collections.abc import Iterator

from tallystick.contract.describe import action_price, action_terms, contract_terms, limit_words, plan_terms
from tallystick.contract.model import Action, Contract, Plan
from tallystick.contract.sla_words import sla_terms
from tallystick.contract.words import number, price_words, usd
from tallystick.core.errors import BadInput
from tallystick.core.instants import format_instant

_KINDS = {
    "usage": "charged by usage",
    "credits": "paid from a wallet of credits",
    "byok": "with the customer's own provider key",
}

_PROMISES = {"availability": "service", "latency": "latency", "cap": "credited", "features": "promised of"}


def find_plan(contract: Contract, name: str) -> Plan:
    """The contract's plan of that name.

    Raises:
        BadInput: `unknown_plan`; the next step names those there are.
    """
    try:
        return contract.plans[name]
    except KeyError:
        raise BadInput(
            "unknown_plan",
            f"{contract.name}@{contract.version} has no plan {name!r}",
            next_step=f"use one of {', '.join(contract.plans)}",
            where="plan",
        ) from None


def price_list(contract: Contract, plan: str | None = None) -> str:
    """The contract as text, or that one plan of it.

    Raises:
        BadInput: `unknown_plan`.
    """
    plans = list(contract.plans.values()) if plan is None else [find_plan(contract, plan)]
    since = f"in force from {format_instant(contract.effective_from)}"
    head = [f"{contract.name}, version {contract.version}, {since}", f"sha256 {contract.sha256}"]
    if contract.credit is not None and plan is None:
        head.append(f"1 {contract.credit.name} is worth {usd(contract.credit.usd)}.")
    free = [name for name, terms in contract.environments.items() if not terms.charge]
    if free:
        head.append(f"Usage in {', '.join(free)} is metered and never billed.")
    if contract.enforcement == "shadow":
        head.append("Limits are only recorded for now; nothing is refused.")
    return "\n".join([*head, *(line for each in plans for line in ["", *_plan(each, contract)])]) + "\n"


def price_list_json(contract: Contract, plan: str | None = None) -> dict[str, object]:
    """The price list as plain JSON members, each term in words.

    Raises:
        BadInput: `unknown_plan`.
    """
    plans = contract.plans if plan is None else {plan: find_plan(contract, plan)}
    return {
        "contract": contract.name,
        "version": contract.version,
        "sha256": contract.sha256,
        "effective_from": format_instant(contract.effective_from),
        "terms": contract_terms(contract),
        "actions": {name: action_terms(action) for name, action in contract.actions.items()},
        "plans": {name: plan_terms(each) for name, each in plans.items()},
    }


def _plan(plan: Plan, contract: Contract) -> Iterator[str]:
    title = plan.title if plan.title == plan.name else f"{plan.title} ({plan.name})"
    yield f"{title}, {_KINDS[plan.kind]}"
    rows = [("base fee", f"{usd(plan.base_usd)} a month")]
    if plan.commit_usd is not None:
        rows.append(("minimum", f"{usd(plan.commit_usd)} a month, the base fee included"))
    if plan.included_credits:
        rows.append(("included", f"{number(plan.included_credits)} credits a month"))
    if plan.kind == "credits" or plan.top_up:
        rows.append(("top-up", "yes" if plan.top_up else "no"))
    if plan.overage:
        rows.append(("overage", "a run may be charged more than what was reserved for it, up to the action's most"))
    if plan.enforcement is not None and plan.enforcement != contract.enforcement:
        shadow = plan.enforcement == "shadow"
        rows.append(("denials", "only recorded for now; nothing is refused" if shadow else "enforced"))
    rows += [(meter, price_words(price)) for meter, price in plan.prices.items()]
    for limit in plan.limits:
        effect = "" if limit.kind == "hard" else "; more is let through"
        rows.append(("limit", f"{' + '.join(limit.meters)}: {limit_words(limit)}{effect}"))
    if plan.sla is not None:
        rows += [(_PROMISES[key], text) for key, text in sla_terms(plan.sla)]
    if plan.models.allow:
        rows.append(("models", ", ".join(plan.models.allow)))
    if plan.models.deny:
        rows.append(("not models", ", ".join(plan.models.deny)))
    rows += [_action(contract.actions[name]) for name in _offered(plan, contract)]
    if plan.upgrade_to is not None:
        rows.append(("upgrade", contract.plans[plan.upgrade_to].title))
    width = max(len(label) for label, _ in rows)
    yield from (f"  {label:<{width}}  {text}" for label, text in rows)


def _offered(plan: Plan, contract: Contract) -> tuple[str, ...]:
    if plan.actions is not None:
        return plan.actions
    return () if plan.kind == "usage" else tuple(contract.actions)


def _action(action: Action) -> tuple[str, str]:
    return (action.title, action.shows or action_price(action))
