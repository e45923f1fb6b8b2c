"""What requests cost, as an invoice states it: us, and keys of the customer's own."""

from __future__ import annotations

from collections.abc import Mapping

from tallystick.core.money import pico_to_usd
from tallystick.invoice.model import CustomerPaid, Internal, InternalAdjustment, ModelCost
from tallystick.invoice.usage import ModelSum, PeriodSums


def internal_part(sums: PeriodSums, adjustments: tuple[InternalAdjustment, ...]) -> Internal:
    """What the requests that we paid for cost us, and by how much that has changed of closed months."""
    cost_usd, unpriced, models = _of_models(sums.models)
    return Internal(cost_usd=cost_usd, unpriced_events=unpriced, models=models, adjustments=adjustments)


def internal_adjustment(number: int, late: PeriodSums) -> InternalAdjustment:
    """By how much our cost of a closed month has changed."""
    cost_usd, unpriced, models = _of_models(late.models)
    return InternalAdjustment(adjustment=number, cost_usd=cost_usd, unpriced_events=unpriced, models=models)


def customer_paid(sums: PeriodSums) -> CustomerPaid:
    """What keys of the customer's own have paid to providers."""
    cost_usd, unpriced, models = _of_models(sums.customer_models)
    events = sum(found.events for found in sums.customer_models.values())
    return CustomerPaid(events=events, cost_usd=cost_usd, unpriced_events=unpriced, models=models)


def _of_models(models: Mapping[tuple[str | None, str], ModelSum]) -> tuple[str, int, tuple[ModelCost, ...]]:
    """Their cost in USD, how many requests have none known, and both by model."""
    return (
        pico_to_usd(sum(found.cost_pico for found in models.values())),
        sum(found.unpriced for found in models.values()),
        tuple(
            ModelCost(
                provider=provider,
                model=model,
                events=found.events,
                unpriced_events=found.unpriced,
                cost_usd=pico_to_usd(found.cost_pico),
            )
            for (provider, model), found in sorted(models.items(), key=lambda item: (item[0][0] or "", item[0][1]))
        ),
    )
