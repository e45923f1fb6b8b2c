"""What replayed entries add up to, as an invoice needs it: rows of DuckDB's sums into `PeriodSums`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tallystick.invoice.usage import PeriodSums
from tallystick.rates.model import Cost
from tallystick.usage.event import UsageEvent


def add_rows(sums: PeriodSums, rows: Iterable[tuple[Any, ...]], meters: Sequence[str]) -> None:
    """Add rows of `replay_sql.sums`."""
    for environment, failed, provider, model, rate_version, events, payer, unpriced, cost_pico, *of_meters in rows:
        group = (environment, bool(failed))
        sums.events[group] = sums.events.get(group, 0) + events
        of_model = sums.model(provider, model, payer)
        of_model.events += events
        of_model.unpriced += unpriced
        of_model.cost_pico += int(cost_pico)
        sums.rates[rate_version] = sums.rates.get(rate_version, 0) + events
        for index, meter in enumerate(meters):
            quantity, used, amount, unknown = of_meters[4 * index : 4 * index + 4]
            if used or unknown or amount:
                found = sums.meter(group, meter)
                found.quantity += int(quantity)
                found.events += used
                found.cost_pico += int(amount or 0)
                found.cost_unknown += unknown


def add_entry(sums: PeriodSums, event: UsageEvent, cost: Cost | None) -> None:
    """Add one request that was priced on its own; None: its cost cannot be computed."""
    if cost is None:
        sums.add_uncosted(event)
    else:
        sums.add_request(event, cost)
