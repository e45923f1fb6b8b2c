"""Plan inheritance: a plan that extends another has all of its terms, except those that it states itself.

Prices are inherited meter by meter, and `null` takes one away; every other term is taken or replaced whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

from tallystick.contract.fields import did_you_mean, one_of
from tallystick.contract.model import ModelRules, Plan, Price
from tallystick.contract.read_plans import PlanTerms
from tallystick.contract.sla import Sla
from tallystick.usage.meters import meter_order

GENERATIONS_MAX = 8
"""How many plans may stand above a plan."""


def resolve_plans(terms: Mapping[str, PlanTerms], sla: Sla | None = None) -> dict[str, Plan]:
    """Every plan, whole. Unknown parents and cycles are noted as problems, and not followed.

    Args:
        terms: the plans as they are written.
        sla: what the contract promises where no plan says.
    """
    return {name: _resolve(_lineage(plan, terms), sla) for name, plan in terms.items()}


def _lineage(plan: PlanTerms, terms: Mapping[str, PlanTerms]) -> list[PlanTerms]:
    """The plan and its ancestors, the plan itself first; the chain is cut where a problem was noted."""
    lineage = [plan]
    while (parent := lineage[-1].extends) is not None:
        if parent not in terms:
            if len(lineage) == 1:  # further up, it is the ancestor's problem, and noted there
                hint = did_you_mean(parent, terms) or f"; plans: {one_of(terms)}"
                plan.at("extends").note("unknown_plan", f"there is no plan {parent!r}{hint}")
            break
        names = [each.name for each in lineage]
        if parent in names:
            if parent == plan.name:  # noted by each plan of the circle, not by those that lead into it
                chain = " → ".join([*names, parent])
                plan.at("extends").note("plan_cycle", f"plans extend each other in a circle: {chain}")
            break
        if len(lineage) > GENERATIONS_MAX:
            what = f"more than {GENERATIONS_MAX} plans extend each other in a chain, which nobody can follow"
            plan.at("extends").note("plan_chain_too_long", what)
            break
        lineage.append(terms[parent])
    return lineage


def _resolve(lineage: list[PlanTerms], of_contract: Sla | None) -> Plan:
    plan = lineage[0]
    prices: dict[str, Price] = {}
    for each in reversed(lineage):
        for meter, price in (each.prices or {}).items():
            if price is not None:
                prices[meter] = price
            elif prices.pop(meter, None) is None:
                each.at("prices", meter).note("missing_value", "null takes an inherited price away, and there is none")
    sla = next((each.sla for each in lineage if each.sla is not None), of_contract)
    return Plan(
        name=plan.name,
        title=next((each.title for each in lineage if each.title is not None), plan.name),
        kind=next((each.kind for each in lineage if each.kind is not None), "usage"),
        base_usd=next((each.base_usd for each in lineage if each.base_usd is not None), Fraction(0)),
        commit_usd=next((each.commit_usd for each in lineage if each.commit_usd is not None), None),
        prices=MappingProxyType({meter: prices[meter] for meter in sorted(prices, key=meter_order)}),
        limits=next((each.limits for each in lineage if each.limits is not None), ()),
        included_credits=next((each.included_credits for each in lineage if each.included_credits is not None), 0),
        top_up=next((each.top_up for each in lineage if each.top_up is not None), False),
        actions=next((each.actions for each in lineage if each.actions is not None), None),
        models=next((each.models for each in lineage if each.models is not None), ModelRules()),
        overage=next((each.overage for each in lineage if each.overage is not None), False),
        enforcement=next((each.enforcement for each in lineage if each.enforcement is not None), None),
        upgrade_to=next((each.upgrade_to for each in lineage if each.upgrade_to is not None), None),
        extends=plan.extends,
        sla=sla if sla is not None and sla.promises else None,
    )
