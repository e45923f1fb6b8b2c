"""A contract's terms in words, one phrase a term; what `diff` compares and the price list shows."""

from __future__ import annotations

from tallystick.contract.model import Action, Contract, Limit, Plan, Repeat, Seller
from tallystick.contract.sla_words import sla_terms
from tallystick.contract.words import duration, number, percent, price_words, usd
from tallystick.core.instants import format_instant


def contract_terms(contract: Contract) -> dict[str, str]:
    """The terms that belong to the contract as a whole, by their path."""
    terms = {
        "contract": contract.name,
        "version": contract.version,
        "effective_from": format_instant(contract.effective_from),
        "currency": contract.currency,
    }
    if contract.credit is not None:
        terms["credit"] = f"1 {contract.credit.name} is worth {usd(contract.credit.usd)}"
    terms |= {f"meters.{name}": f"counted in {meter.unit}s" for name, meter in contract.meters.items()}
    terms |= {
        f"environments.{name}": "charged" if environment.charge else "not charged"
        for name, environment in contract.environments.items()
    }
    if contract.seller is not None:
        terms |= _seller_terms(contract.seller)
    return {
        **terms,
        "enforcement": contract.enforcement,
        "holds.life": duration(contract.hold_life),
        "refunds.grace": duration(contract.refund_grace),
        "invoicing.late_window": duration(contract.invoicing.late_window),
        "invoicing.payment_terms": duration(contract.invoicing.payment_terms),
        "disputes.window": duration(contract.disputes.window),
        "disputes.answer_within": duration(contract.disputes.answer_within),
    }


def _seller_terms(seller: Seller) -> dict[str, str]:
    terms = {"seller.name": seller.name, "seller.address": ", ".join(seller.address)}
    terms |= {"seller.tax_id": seller.tax_id or "", "seller.registration": seller.registration or ""}
    terms |= {"seller.email": seller.email or "", "seller.website": seller.website or ""}
    terms |= {"seller.how_to_pay": " / ".join(seller.how_to_pay), "seller.number_prefix": seller.number_prefix or ""}
    return {name: text for name, text in terms.items() if text}


def action_terms(action: Action) -> dict[str, str]:
    """An action's terms by their key; those it does not state are left out."""
    terms = {"title": action.title, "price": action_price(action), "charge_on": ", ".join(action.charge_on) or "never"}
    if action.repeat is not None:
        terms["repeat"] = repeat_words(action.repeat)
    if action.max_credits is not None:
        terms["max_credits"] = _credits(action.max_credits)
    return terms if action.shows is None else {**terms, "shows": action.shows}


def repeat_words(repeat: Repeat) -> str:
    """What the same work again costs."""
    return f"{_credits(repeat.credits)} again for the same {repeat.key} within {duration(repeat.within)}"


def action_price(action: Action) -> str:
    """What an action costs."""
    if action.cost_plus is None:
        return _credits(action.credits or 0)
    return f"our cost plus {percent(action.cost_plus)}, in credits, rounded up to a whole one"


def _credits(count: int) -> str:
    return f"{number(count)} credit{'' if count == 1 else 's'}"


def plan_terms(plan: Plan) -> dict[str, str]:
    """A plan's terms by their path, inherited ones included; those it does not state are left out."""
    terms = {"title": plan.title, "kind": plan.kind, "base": f"{usd(plan.base_usd)} a month"}
    if plan.commit_usd is not None:
        terms["commit"] = f"{usd(plan.commit_usd)} a month at least"
    terms |= {f"prices.{meter}": price_words(price) for meter, price in plan.prices.items()}
    terms |= {f"limits.{key}": text for key, text in _limits(plan).items()}
    if plan.kind != "usage":
        terms["included_credits"] = f"{number(plan.included_credits)} a month"
        terms["top_up"] = "credits may be topped up" if plan.top_up else "credits cannot be topped up"
    if plan.overage:
        terms["overage"] = "what exceeds a hold is charged, up to the action's most"
    if plan.enforcement is not None:
        terms["enforcement"] = plan.enforcement
    if plan.actions is not None:
        terms["actions"] = ", ".join(plan.actions) or "none"
    if plan.models.allow:
        terms["models.allow"] = ", ".join(plan.models.allow)
    if plan.models.deny:
        terms["models.deny"] = ", ".join(plan.models.deny)
    if plan.sla is not None:
        terms |= {f"sla.{key}": text for key, text in sla_terms(plan.sla)}
    return terms if plan.upgrade_to is None else {**terms, "upgrade_to": plan.upgrade_to}


def _limits(plan: Plan) -> dict[str, str]:
    """Limits by what they bound, so that a changed figure reads as a change and not as another limit."""
    named: dict[str, str] = {}
    for limit in plan.limits:
        key = base = f"{'+'.join(limit.meters)}, {limit.kind}, per {limit.per}"
        count = 1
        while key in named:
            count += 1
            key = f"{base} ({count})"
        named[key] = limit_words(limit)
    return named


def limit_words(limit: Limit) -> str:
    """How much a limit lets through, and when it warns."""
    warned = f", warned at {', '.join(percent(share) for share in limit.warn_at)}" if limit.warn_at else ""
    return f"at most {number(limit.max)} a {limit.per}{warned}"
