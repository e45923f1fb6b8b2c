"""A month of made-up traffic, shaped like real traffic and the same for the same seed.

Sizes and arrivals follow what two production LLM services showed in the Azure traces of Patel et al.,
"Splitwise" (ISCA 2024): prompt and completion lengths are about log-normal (a coding assistant: median
prompt 1,500 tokens, median completion 13; a chat: 1,000 and 130), capped where those traces end, and
calls come in bursts. On top of that stand the things that make billing hard: retries that send the same
request again, events that arrive late (some after the month is closed), failures, prompt caching,
reasoning tokens, tool calls, images, searches, test environments, and a model that no rate card knows.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tallystick.core.instants import format_instant
from tallystick.core.periods import Period


@dataclass(frozen=True, slots=True)
class Workload:
    """A kind of use: log-normal token counts (natural-log mean and deviation) and what comes with them."""

    feature: str
    prompt_mu: float
    prompt_sigma: float
    prompt_max: int
    completion_mu: float
    completion_sigma: float
    completion_max: int
    cached_share: float
    tool_share: float


@dataclass(frozen=True, slots=True)
class Model:
    """A provider's model, how often it is called, and what its calls may carry."""

    provider: str
    name: str
    weight: float
    reasons: bool = False
    caches_writes: bool = False
    searches: bool = False
    batches: bool = False


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer of the simulation: its plan, where its clock stands, and its share of the traffic."""

    org_id: str
    plan: str
    time_zone: str
    share: float
    users: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message as it reaches us: when it arrives, and the event it carries (as decoded JSON)."""

    arrived_at: datetime
    event: dict[str, Any]


WORKLOADS = (
    Workload("assistant", 6.6, 1.0, 14_000, 5.0, 0.86, 1_000, cached_share=0.35, tool_share=0.10),
    Workload("code-completion", 7.0, 1.36, 7_400, 2.8, 0.85, 1_900, cached_share=0.55, tool_share=0.02),
    Workload("document-review", 9.6, 0.9, 250_000, 6.0, 0.7, 8_000, cached_share=0.20, tool_share=0.25),
)
_WORKLOAD_WEIGHTS = (0.62, 0.34, 0.04)

MODELS = (
    Model("openai", "gpt-4.1-mini-2025-04-14", 0.30, batches=True),
    Model("openai", "gpt-5-mini-2025-08-07", 0.20, reasons=True),
    Model("anthropic", "claude-sonnet-4-5-20250929", 0.20, caches_writes=True, searches=True),
    Model("google", "gemini-2.5-flash", 0.16, reasons=True),
    Model("mistral", "mistral-large-latest", 0.08),
    Model("groq", "llama-3.3-70b-versatile", 0.05),
    Model("openai", "in-house-experiment-1", 0.01),  # no card has a rate for it: it must show as unpriced
)

CUSTOMERS = (
    Customer("tidepool", "free", "UTC", 0.04, users=3),
    Customer("lumen-labs", "pro", "America/New_York", 0.26, users=40),
    Customer("harbor-and-co", "pro", "Europe/Berlin", 0.20, users=25),
    Customer("northwind", "enterprise", "UTC", 0.30, users=200),
    Customer("initech", "enterprise-initech", "America/Chicago", 0.20, users=120),
)

_ENVIRONMENTS = (("production", 0.93), ("staging", 0.04), ("development", 0.03))
_HOUR_WEIGHTS = (2, 1, 1, 1, 1, 2, 4, 7, 10, 12, 12, 11, 9, 11, 12, 12, 11, 9, 7, 6, 5, 5, 4, 3)
_WEEKEND_WEIGHT = 0.4

_FAILURE_SHARE = 0.02
_EMPTY_SHARE = 0.03
_RETRY_SHARE = 0.02
_PICTURE_SHARE = 0.01
_BATCH_SHARE = 0.03
_CACHED_FROM = 1_024  # tokens; providers cache no shorter prefix
_LATE_SHARE = 0.01
_LATE_DAYS_MAX = 9
_CALLS_PER_SESSION = 6
_GAP_SECONDS_MU = 3.2  # a median of 25 seconds between the calls of a session


def simulate_month(
    period: Period,
    *,
    seed: int,
    events: int,
    customers: Sequence[Customer] = CUSTOMERS,
    models: Sequence[Model] = MODELS,
) -> Iterator[Arrival]:
    """`events` distinct events of one month, and the retries among them, in order of arrival.

    The same arguments give the same arrivals. Memory is bounded by the number of events, which stand in a
    heap by time of arrival; the event itself is made when its turn comes.
    """
    dice = random.Random(seed)  # noqa: S311 - made-up traffic must be repeatable, not secret
    arrivals: list[tuple[datetime, int, dict[str, Any]]] = []
    tie = 0
    for number, (moment, customer, session) in enumerate(_calls(dice, period, events, customers)):
        event = _event(dice, number, moment, customer, session, models)
        for arrived_at in _arrival_times(dice, moment):
            arrivals.append((arrived_at, tie, event))
            tie += 1
    heapq.heapify(arrivals)
    while arrivals:
        arrived_at, _, event = heapq.heappop(arrivals)
        yield Arrival(arrived_at, event)


def _calls(
    dice: random.Random, period: Period, events: int, customers: Sequence[Customer]
) -> Iterator[tuple[datetime, Customer, str]]:
    """When each call completes, whose it is, and the session it belongs to: bursts within weighted hours."""
    hours = int((period.end - period.start) / timedelta(hours=1))
    starts = [period.start + timedelta(hours=hour) for hour in range(hours)]
    weights = [_HOUR_WEIGHTS[at.hour] * (_WEEKEND_WEIGHT if at.weekday() >= 5 else 1.0) for at in starts]
    shares = [customer.share for customer in customers]
    made = 0
    session_number = 0
    while made < events:
        session_number += 1
        customer = dice.choices(customers, shares)[0]
        moment = dice.choices(starts, weights)[0] + timedelta(microseconds=dice.randrange(3_600_000_000))
        for _ in range(min(1 + int(dice.expovariate(1 / _CALLS_PER_SESSION)), events - made)):
            if moment >= period.end:
                break
            yield moment, customer, f"session-{session_number}"
            made += 1
            moment += timedelta(seconds=round(dice.lognormvariate(_GAP_SECONDS_MU, 1.0), 3))


def _arrival_times(dice: random.Random, moment: datetime) -> list[datetime]:
    """Once, soon after; sometimes days late; sometimes again because an answer was lost."""
    delay = timedelta(milliseconds=dice.randrange(20, 3_000))
    if dice.random() < _LATE_SHARE:
        delay = timedelta(seconds=dice.randrange(3_600, _LATE_DAYS_MAX * 86_400))
    times = [moment + delay]
    if dice.random() < _RETRY_SHARE:
        times.append(times[0] + timedelta(milliseconds=dice.randrange(200, 30_000)))
    return times


def _event(
    dice: random.Random, number: int, moment: datetime, customer: Customer, session: str, models: Sequence[Model]
) -> dict[str, Any]:
    workload = dice.choices(WORKLOADS, _WORKLOAD_WEIGHTS)[0]
    fate = dice.random()
    failed = fate < _FAILURE_SHARE
    event: dict[str, Any] = {
        "org_id": customer.org_id,
        "request_id": f"req-{number:08d}",
        "time": format_instant(moment),
        "user_id": f"user-{dice.randrange(customer.users) + 1}",
        "session_id": session,
        "feature": workload.feature,
        "environment": dice.choices([name for name, _ in _ENVIRONMENTS], [share for _, share in _ENVIRONMENTS])[0],
        "api_key_id": f"key-{customer.org_id}",
        "outcome": "failure" if failed else "empty" if fate < _FAILURE_SHARE + _EMPTY_SHARE else "success",
    }
    if dice.random() < _PICTURE_SHARE:
        return event | _picture(dice, failed=failed)
    model = dice.choices(models, [model.weight for model in models])[0]
    return event | _model_call(dice, workload, model, failed=failed)


def _picture(dice: random.Random, *, failed: bool) -> dict[str, Any]:
    """A picture from the product's own renderer: a tool call without a provider's model behind it."""
    meters = {"tool_calls": 1} if failed else {"tool_calls": 1, "images_generated": 1, "egress_bytes": 400_000}
    return {"model": "tool/picture-renderer", "meters": meters, "latency_ms": dice.randrange(900, 6_000)}


def _model_call(dice: random.Random, workload: Workload, model: Model, *, failed: bool) -> dict[str, Any]:
    meters = _meters(dice, workload, model, failed=failed)
    call: dict[str, Any] = {
        "provider": model.provider,
        "model": model.name,
        "meters": meters,
        "latency_ms": round(200 + 9 * meters.get("tokens_out", 0) + dice.expovariate(1 / 150)),
    }
    if model.batches and dice.random() < _BATCH_SHARE:
        call["price_context"] = {"service_tier": "batch"}
    return call


def _meters(dice: random.Random, workload: Workload, model: Model, *, failed: bool) -> dict[str, int]:
    """Quantities by meter, none overlapping another, zero ones left out."""
    prompt = _size(dice, workload.prompt_mu, workload.prompt_sigma, workload.prompt_max)
    completion = (
        0 if failed else _size(dice, workload.completion_mu, workload.completion_sigma, workload.completion_max)
    )
    cached = int(prompt * dice.random()) if dice.random() < workload.cached_share and prompt > _CACHED_FROM else 0
    written = (prompt - cached) // 2 if model.caches_writes and cached else 0
    calls = 0 if failed or dice.random() >= workload.tool_share else dice.randrange(1, 5)
    meters = {
        "tokens_in": prompt - cached - written,
        "cache_read_tokens": cached,
        "cache_write_5m_tokens": written,
        "tokens_out": completion,
        "reasoning_tokens": _size(dice, 5.5, 0.8, 8_000) if model.reasons and completion and dice.random() < 0.5 else 0,
        "tool_calls": calls,
        "web_searches": 1 if model.searches and calls and dice.random() < 0.3 else 0,
        "egress_bytes": 4 * completion,
    }
    return {name: quantity for name, quantity in meters.items() if quantity}


def _size(dice: random.Random, mu: float, sigma: float, largest: int) -> int:
    return max(1, min(largest, math.floor(dice.lognormvariate(mu, sigma))))
