"""What must hold between the parts of a contract, once each part could be read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tallystick.contract.fields import did_you_mean, one_of
from tallystick.contract.model import Action, Credit, Plan
from tallystick.contract.read_plans import PlanTerms


def check_plans(
    plans: Mapping[str, Plan], terms: Mapping[str, PlanTerms], actions: Mapping[str, Action], credit: Credit | None
) -> None:
    """Note every problem of every plan at the place where its own terms cause it."""
    for name, plan in plans.items():
        written = terms[name]
        _check_names(plan, written, plans, actions)
        if written.readable:
            _check_kind(plan, written, credit)
            _check_includes(plan, written)


def _check_names(plan: Plan, terms: PlanTerms, plans: Collection[str], actions: Collection[str]) -> None:
    if terms.upgrade_to == plan.name:
        terms.at("upgrade_to").note("unknown_plan", "a plan cannot be its own upgrade")
    elif terms.upgrade_to is not None and terms.upgrade_to not in plans:
        hint = did_you_mean(terms.upgrade_to, plans) or f"; plans: {one_of(plans)}"
        terms.at("upgrade_to").note("unknown_plan", f"there is no plan {terms.upgrade_to!r}{hint}")
    for action in terms.actions or ():
        if action not in actions:
            hint = did_you_mean(action, actions) or f"; actions: {one_of(actions)}"
            terms.at("actions").note("unknown_action", f"there is no action {action!r}{hint}")


def _check_kind(plan: Plan, terms: PlanTerms, credit: Credit | None) -> None:
    if plan.kind == "usage":
        for key, value in (
            ("included_credits", terms.included_credits),
            ("top_up", terms.top_up),
            ("overage", terms.overage),
        ):
            if value:
                terms.at(key).note("wrong_plan_kind", f"`{key}` needs a wallet: kind credits or byok, not usage")
        return
    if credit is None:
        terms.at("kind").note(
            "missing_key", f"a {plan.kind} plan needs `credit` (name and usd) at the top of the contract"
        )
    if plan.kind == "byok":
        return
    if not plan.included_credits and not plan.top_up:
        what = "its wallet would always be empty: give it `included_credits`, or `top_up: true`"
        terms.at("kind").note("missing_key", f"a credits plan is paid from a wallet, and {what}")
    for key, given in (("prices", plan.prices), ("commit", plan.commit_usd)):
        if given:
            what = "a credits plan is paid action by action; usage prices and a commit belong to usage plans"
            terms.at(key).note("wrong_plan_kind", what)


def _check_includes(plan: Plan, terms: PlanTerms) -> None:
    """A meter is charged once: by its own price or inside one other."""
    charged_by: dict[str, str] = {meter: meter for meter in plan.prices}
    for meter, price in plan.prices.items():
        for included in price.includes:
            first = charged_by.setdefault(included, meter)
            if first == meter and price.includes.count(included) == 1 and included != meter:
                continue
            how = "has a price of its own" if first == included else f"is included in the price of {first}"
            place = terms.at("prices", meter, "includes")
            if terms.prices is not None and (meter in terms.prices or first in terms.prices):
                what = f"{included} {how} already; a meter is charged once"
                if first == meter:
                    what = f"{included} is named twice; a meter is charged once"
                place.note("charged_twice", what)
